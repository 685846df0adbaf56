"""Each recipe of `examples/hosts` does what it shows, in the host that it is for."""

import importlib.util
import json
import subprocess
import sys

import httpx
import nbclient
import nbformat
import pytest
from streamlit.testing.v1 import AppTest

from modelhub import Hub

from .conftest import wait_until

ANSWER = "Good morning! What can I do for you?"
BROKEN = {
    "version": 1,
    "models": {"primary": {"provider": "scripted", "steps": [{"say": "Good evening", "break_after": 1}]}},
    "defaults": {"retry": {"max_attempts": 1}},
}


def test_fastapi_streams_events_and_tells_the_browser_to_clear_its_text(recipes):
    """A plain answer has a text and a model, as its type says; a browser that leaves mid-stream is recorded too."""
    with recipes.server("uvicorn", "fastapi_sse:app", "--port", "PORT") as url:
        answer = httpx.get(f"{url}/ask", params={"text": "hi"}).json()
        with httpx.stream("GET", f"{url}/stream", params={"text": "hi"}) as response:
            events = [event.split("\n") for event in response.read().decode().strip().split("\n\n")]
        with httpx.stream("GET", f"{url}/stream", params={"text": "hi"}) as response:
            next(response.iter_bytes())
        schema = httpx.get(f"{url}/openapi.json").json()
        assert "EventSource" in httpx.get(url).text
    assert answer == {"text": ANSWER, "model": "steady"}
    names = [name.removeprefix("event: ") for name, _ in events]
    assert (names.count("restart"), names[-1]) == (1, "done")
    texts = [json.loads(data.removeprefix("data: ")) for name, data in events if name == "event: text"]
    after = names[: names.index("restart")].count("text")
    assert after > 0
    assert "".join(text["text"] for text in texts[after:]) == ANSWER
    assert schema["components"]["schemas"]["Answer"]["properties"].keys() == answer.keys()
    assert len(recipes.outcomes()) == 4
    assert "Traceback" not in recipes.log


async def test_fastapi_tells_the_browser_of_a_failure_by_an_event_of_its_own_after_which_the_page_asks_no_more(recipes):
    """The browser opens an EventSource again whenever its connection ends; nginx would collect the events."""
    module = load_example(recipes, "fastapi_sse")
    async with Hub.from_dict(BROKEN) as module.app.state.hub:
        transport = httpx.ASGITransport(module.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.get("/stream", params={"text": "hi"})
            page = (await client.get("/")).text
    assert response.text.endswith('event: failed\ndata: {"error": "StreamBroken"}\n\n')
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert 'for (const end of ["done", "failed", "error"]) events.addEventListener(end, () => events.close())' in page


def test_flask_says_in_its_last_line_that_a_stream_failed(recipes, monkeypatch):
    """The status has been sent by then."""
    for name in ("USAGE_LEDGER", "MODELHUB_CONFIG"):
        monkeypatch.setenv(name, recipes.environ[name])
    module = load_example(recipes, "flask_gunicorn")
    module.hub.close()
    with Hub.from_dict(BROKEN) as module.hub:
        lines = module.app.test_client().get("/stream", query_string={"text": "hi"}).text.splitlines()
    assert json.loads(lines[-1]) == {"error": "StreamBroken", "done": True}


def load_example(recipes, name):
    """Return the module of an example, which is not in a package."""
    spec = importlib.util.spec_from_file_location(name, recipes.examples / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flask_under_gunicorn_answers_from_workers_that_were_forked(recipes):
    """The hub was made before the fork; each call of each worker is recorded at its orderly end."""
    command = (
        "gunicorn",
        "--preload",
        "--workers",
        "2",
        "--threads",
        "4",
        "--bind",
        "127.0.0.1:PORT",
        "flask_gunicorn:app",
    )
    with recipes.server(*command) as url:
        answers = [httpx.get(f"{url}/ask", params={"text": "hi"}).json() for _ in range(8)]
        lines = httpx.get(f"{url}/stream", params={"text": "hi"}).text.splitlines()
    assert answers == [{"text": ANSWER, "model": "steady"}] * 8
    assert json.loads(lines[-1]) == {"text": ANSWER, "done": True}
    assert len(recipes.outcomes()) == 1 + 8 + 1
    assert "Traceback" not in recipes.log


@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        (("django_site", "runserver", "--noreload", "PORT"), ""),
        (("gunicorn", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:PORT", "django_site:wsgi"), ""),
        (("uvicorn", "django_site:asgi", "--port", "PORT"), "/async"),
    ],
    ids=["runserver", "gunicorn", "uvicorn"],
)
def test_django_answers_and_streams_event_by_event_under_each_kind_of_server(recipes, command, prefix):
    """The last event has the whole text, whichever model began it; a browser that leaves is recorded too.

    The development server is killed as it was not meant to be, so nothing is recorded there.
    """
    with recipes.server(*command) as url:
        answer = httpx.get(f"{url}{prefix}/ask", params={"text": "hi"}).json()
        with httpx.stream("GET", f"{url}{prefix}/stream", params={"text": "hi"}) as response:
            pieces = list(response.iter_text())
        with httpx.stream("GET", f"{url}{prefix}/stream", params={"text": "hi"}) as response:
            next(response.iter_bytes())
    events = [json.loads(event.removeprefix("data: ")) for event in "".join(pieces).strip().split("\n\n")]
    assert answer == {"text": ANSWER, "model": "steady"}
    assert events[-1] == {"text": ANSWER, "done": True}
    assert len(events) > 4
    assert "runserver" in command or len(recipes.outcomes()) >= 1 + 3
    assert "Traceback" not in recipes.log


@pytest.mark.parametrize("path", ["stream", "async/stream"])
def test_django_says_in_its_last_event_that_a_stream_failed(recipes, path):
    """The status has been sent by then. In a process of its own, as Django's settings are those of a process."""
    script = f"""
import asyncio, django_site
from django.test import AsyncClient, Client
from modelhub import Hub
with Hub.from_dict({BROKEN}) as django_site.hub:
    if "async" in "{path}":
        async def read():
            response = await AsyncClient().get("/{path}?text=hi", headers={{"host": "localhost"}})
            return b"".join([part async for part in response.streaming_content])
        body = asyncio.run(read())
    else:
        body = Client().get("/{path}?text=hi", headers={{"host": "localhost"}}).getvalue()
    print(body.decode().strip().splitlines()[-2:])
"""
    assert recipes.run("-c", script).strip() == str(["event: failed", 'data: {"error": "StreamBroken"}'])


def test_celery_answers_from_its_worker_processes(recipes):
    """Prefork, with a broker and results in files."""
    for folder in ("queue", "control", "results"):
        (recipes.folder / folder).mkdir()
    script = """
import os, sys
from celery_tasks import app
queue, control = os.environ["QUEUE"], os.environ["CONTROL"]
app.conf.update(
    broker_transport_options={"data_folder_in": queue, "data_folder_out": queue, "control_folder": control}
)
if sys.argv[1] == "worker":
    app.worker_main(["worker", "--concurrency", "2", "--pool", "prefork", "--without-gossip", "--without-mingle"])
else:
    from celery_tasks import ask
    results = [ask.delay(f"task {number}") for number in range(6)]
    print([result.get(timeout=40) for result in results])
"""
    recipes.environ |= {
        "BROKER": "filesystem://",
        "RESULTS": f"file://{recipes.folder / 'results'}",
        "QUEUE": str(recipes.folder / "queue"),
        "CONTROL": str(recipes.folder / "control"),
    }
    words = [sys.executable, "-c", script]
    with (recipes.folder / "worker.log").open("w") as log:
        worker = subprocess.Popen([*words, "worker"], cwd=recipes.examples, env=recipes.environ, stdout=log, stderr=log)
    try:
        done = subprocess.run(
            [*words, "ask"], cwd=recipes.examples, env=recipes.environ, capture_output=True, text=True, timeout=60
        )
    finally:
        worker.terminate()
        worker.wait(30)
    assert (done.returncode, done.stdout.strip()) == (0, str([ANSWER] * 6)), done.stderr
    assert recipes.outcomes() == ["complete"] * 6


@pytest.mark.parametrize("failure", ["Overloaded", "ConnectFailed", "TimedOut", "RequestRefused"])
def test_celery_tries_again_what_time_may_mend_in_a_chain_of_one_too(recipes, failure):
    """Such a chain raises its model's own error; one that is refused is refused again."""
    module = load_example(recipes, "celery_tasks")
    model = {"provider": "scripted", "retry": {"max_attempts": 1}, "steps": [{"fail": failure}, {"say": "yes"}]}
    with Hub.from_dict({"version": 1, "models": {"primary": model}}) as module.hub:
        assert module.ask.apply(args=("hi",)).successful() == (failure != "RequestRefused")


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own making
def test_a_notebook_awaits_and_streams(recipes, monkeypatch):
    """In a kernel, whose event loop runs already."""
    for name in ("USAGE_LEDGER", "MODELHUB_CONFIG"):
        monkeypatch.setenv(name, recipes.environ[name])
    notebook = nbformat.read(recipes.examples / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(recipes.folder)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert outputs[1][0]["data"]["text/plain"] == repr(ANSWER)
    assert outputs[2][0]["data"]["text/markdown"] == ANSWER
    assert recipes.outcomes() == ["complete"] * 2


@pytest.mark.filterwarnings("ignore")  # of Streamlit's own making
def test_streamlit_writes_the_answer_that_counts(recipes, monkeypatch):
    """What came before the restart is not on the page."""
    for name in ("USAGE_LEDGER", "MODELHUB_CONFIG"):
        monkeypatch.setenv(name, recipes.environ[name])
    app = AppTest.from_file(str(recipes.examples / "streamlit_chat.py"), default_timeout=30).run()
    app.chat_input[0].set_value("hello").run()
    assert not app.exception
    assert [message.markdown[0].value for message in app.chat_message] == ["hello", ANSWER]


def test_rows_are_answered_by_several_processes_and_recorded_by_all(recipes):
    """Each row once; the last rows of each process too."""
    printed = recipes.run("rows.py").splitlines()
    assert printed == [f"row {number}: {ANSWER}" for number in range(20)]
    wait_until(lambda: recipes.outcomes() == ["complete"] * 20, 5)
