"""Threads that gevent has patched: synchronous calls work, one after another and at once."""

import subprocess
import sys

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import gevent
from modelhub import Hub
with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "reply": "hello"}}}) as hub:
    print([hub.get("m").sync("hi").text for _ in range(2)])
    jobs = [gevent.spawn(hub.get("m").sync, "hi") for _ in range(4)]
    gevent.joinall(jobs, raise_error=True, timeout=20)
    print([job.value.text for job in jobs])
"""


def test_synchronous_calls_work_in_greenlets():
    """The first, the second and several at once."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{['hello'] * 2}\n{['hello'] * 4}\n"), done.stderr
