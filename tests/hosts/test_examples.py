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
    """A plain answer is the documented type; a browser that leaves mid-stream is recorded too."""
    with recipes.server("uvicorn", "fastapi_sse:app", "--port", "PORT") as url:
        answer = httpx.get(f"{url}/ask", params={"text": "hi"}).json()
        with httpx.stream("GET", f"{url}/stream", params={"text": "hi"}) as response:
            events = [event.split("\n") for event in response.read().decode().strip().split("\n\n")]
        with httpx.stream("GET", f"{url}/stream", params={"text": "hi"}) as response:
            next(response.iter_bytes())
        schema = httpx.get(f"{url}/openapi.json").json()
        assert "EventSource" in httpx.get(url).text
    assert answer["content"] == [{"type": "text", "text": ANSWER}]
    names = [name.removeprefix("event: ") for name, _ in events]
    assert (names.count("restart"), names[-1]) == (1, "done")
    texts = [json.loads(data.removeprefix("data: ")) for name, data in events if name == "event: text"]
    after = names[: names.index("restart")].count("text")
    assert after > 0
    assert "".join(text["text"] for text in texts[after:]) == ANSWER
    assert "content" in schema["components"]["schemas"]["ChatResponse"]["properties"]
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
    assert {answer["content"][0]["text"] for answer in answers} == {ANSWER}
    assert json.loads(lines[-1]) == {"text": ANSWER, "done": True}
    assert len(recipes.outcomes()) == 1 + 8 + 1
    assert "Traceback" not in recipes.log


def test_celery_answers_from_its_worker_processes(recipes):
    """Prefork, with a broker and results in files."""
    for folder in ("queue", "results"):
        (recipes.folder / folder).mkdir()
    script = """
import os, sys
from celery_tasks import app
queue = os.environ["QUEUE"]
app.conf.update(broker_transport_options={"data_folder_in": queue, "data_folder_out": queue})
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
