"""Celery: a hub for each worker process, which is closed with it.

celery -A celery_tasks worker
"""

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from modelhub import AllModelsFailed, BreakerOpen, Hub, LimitRejected, Overloaded, RateLimited, ServerError

app = Celery("celery_tasks", broker=os.environ.get("BROKER", "redis://"), backend=os.environ.get("RESULTS", "redis://"))
hub: Hub
# What may be better in a while; a request that is wrong, or a budget that is spent, fails at once. A chain of one model
# raises that model's own error, a longer one AllModelsFailed; our errors of connections and time are Python's, too.
LATER = (
    AllModelsFailed,
    BreakerOpen,
    LimitRejected,
    Overloaded,
    RateLimited,
    ServerError,
    ConnectionError,
    TimeoutError,
)


@worker_process_init.connect
def open_hub(**_: object) -> None:
    global hub
    hub = Hub.from_yaml(Path(__file__).with_name("models.yaml"))


@worker_process_shutdown.connect
def close_hub(**_: object) -> None:
    hub.close()


@app.task(autoretry_for=LATER, max_retries=2, retry_backoff=True)
def ask(text: str) -> str:
    with hub.tags(task="ask"):
        return hub.get("primary").sync(text, stream=False, deadline="60s").text
