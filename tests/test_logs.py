"""Log entries: silent until the application wants them, and never with a secret or a content in them."""

import io
import json
import logging
import subprocess
import sys

import pytest
import structlog

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.logs import LogObserver
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table

SECRET = "sk-verysecretkey1234567890"
PROMPT = "the launch code is swordfish"
ANSWER = "an answer nobody else may read"
CONFIG = {
    "version": 1,
    "models": {
        "a": {
            "provider": "scripted",
            "steps": [{"fail": "Overloaded", "message": f"{PROMPT} {SECRET}", "status": 503}],
        },
        "b": {"provider": "scripted", "steps": [{"say": ANSWER, "break_after": 3}]},
        "x": {"provider": "scripted", "steps": [{"say": ANSWER}], "pricing": {"input": 1, "output": 1}},
    },
    "chains": {"main": {"models": ["a", "b", "x"]}, "bad": {"models": ["a"]}},
}


@pytest.fixture(autouse=True)
def _unconfigured():
    """Every test begins and ends without a configuration of structlog."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def play():
    """A call with a retry, a fallback, a restart and an end; and one that fails."""

    async def main():
        hub = Hub.from_dict(CONFIG, services=Services(VirtualClock(), observers=(LogObserver(),)))
        await (await hub.get("main")(PROMPT, stream=True, tags={"team": "blue"})).final()
        with pytest.raises(CallError):
            await hub.get("bad")(PROMPT)

    run_virtual(main())


def test_structlog_gets_the_entries_if_it_is_configured():
    """As events with fields, at the level that fits."""
    with structlog.testing.capture_logs() as entries:
        structlog.configure(processors=structlog.get_config()["processors"])
        play()
    names = [entry["event"] for entry in entries]
    assert names[:9] == [
        "attempt", "wait", "attempt", "wait", "attempt", "fallback", "attempt", "restart", "attempt",
    ]  # fmt: skip
    assert {entry["event"]: entry["log_level"] for entry in entries if entry.get("outcome") != "ok"} == {
        "attempt": "warning",
        "wait": "info",
        "fallback": "warning",
        "restart": "warning",
        "settle": "warning",
    }
    settles = [entry for entry in entries if entry["event"] == "settle"]
    first, second = settles
    assert (first["how"], first["model"], first["requested"], first["attempts"], first["tags"]["team"]) == (
        "complete", "x", "main", 5, "blue",
    )  # fmt: skip
    assert first["output_tokens"] >= 6
    assert (second["how"], second["error"], second["log_level"]) == ("failed", "Overloaded", "warning")


def test_the_standard_logger_gets_them_if_it_is_not(caplog):
    """With the fields as attributes of the record."""
    with caplog.at_level(logging.DEBUG, "modelhub"):
        play()
    records = [record for record in caplog.records if record.name == "modelhub"]
    assert {record.event for record in records} == {"attempt", "wait", "fallback", "restart", "settle"}
    assert all(record.getMessage().startswith(f"{record.event}: ") for record in records)
    (fallback,) = [record for record in records if record.event == "fallback" and record.chain == "main"]
    assert fallback.model in fallback.getMessage()
    assert fallback.reason in fallback.getMessage()
    assert (fallback.model, fallback.to, fallback.reason, fallback.levelname) == ("a", "b", "Overloaded", "WARNING")


def test_levels_are_the_applications(caplog):
    """At WARNING there are no waits and no good attempts."""
    with caplog.at_level(logging.WARNING, "modelhub"):
        play()
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "wait" not in {record.event for record in caplog.records}


@pytest.mark.parametrize("configured", [True, False])
def test_no_secret_and_no_content_is_ever_in_them(configured, caplog):
    """Not the prompt, not the answer, and not what a vendor wrote, which may echo both."""
    written = io.StringIO()
    if configured:
        factory = structlog.PrintLoggerFactory(written)
        structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=factory)
    with caplog.at_level(logging.DEBUG):
        play()
    text = written.getvalue() + "".join(json.dumps(vars(record), default=repr) for record in caplog.records)
    assert "settle" in text
    for secret in (SECRET, PROMPT, "swordfish", ANSWER, "nobody else"):
        assert secret not in text


SCRIPT = """
import asyncio, sys
from modelhub import Hub

async def call():
    async with Hub.from_dict({config!r}) as hub:
        await (await hub.get("main")("hi", stream=True)).final()
        try:
            await hub.get("bad")("hi")
        except Exception:
            pass

asyncio.run(call())
import structlog
asyncio.run(call())
import logging
logging.getLogger().setLevel("DEBUG")
asyncio.run(call())
print("now", file=sys.stderr, flush=True)
logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
asyncio.run(call())
"""


def test_an_application_sees_nothing_until_it_configures_logging():
    """Not a byte, also with structlog imported or a level set; `logging.basicConfig` is enough to see all."""
    code = SCRIPT.format(config=CONFIG | {"defaults": {"retry": {"initial_wait": 0}}})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    before, _, entries = done.stderr.partition("now\n")
    assert before == ""
    assert "WARNING modelhub settle" in entries
    assert "WARNING modelhub fallback" in entries


async def test_tags_of_any_name_are_logged(caplog):
    """A tag may be called as the logging machinery calls its own fields."""
    caplog.set_level("DEBUG", logger="modelhub")
    async with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}}) as hub:
        await hub.get("m")("x", tags={"event": "a", "level": "b", "name": "c", "message": "d"})
    assert any(
        getattr(record, "tags", None) == {"event": "a", "level": "b", "name": "c", "message": "d"}
        for record in caplog.records
    )


class CoroutineLogger(structlog.stdlib.BoundLogger):
    """A wrapper of an application's own, whose methods are coroutines."""

    async def info(self, event=None, *args, **fields):
        super().info(event, *args, **fields)

    debug = warning = error = info


WRAPPERS = [
    structlog.BoundLogger,
    structlog.stdlib.BoundLogger,
    structlog.stdlib.AsyncBoundLogger,
    structlog.make_filtering_bound_logger(logging.INFO),
    CoroutineLogger,
]


@table("cached", [False, True])
@table("wrapper", WRAPPERS, ids=lambda wrapper: wrapper.__name__)
def test_every_wrapper_of_structlog_gets_the_entries(wrapper, cached, caplog):
    """Those with methods for levels only, those that are asynchronous, and those that keep their logger."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=wrapper,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=cached,
    )
    with caplog.at_level(logging.INFO, "modelhub"):
        play()
    entries = [json.loads(message) for message in caplog.messages if message.startswith("{")]
    assert {entry["event"] for entry in entries} >= {"attempt", "wait", "fallback", "restart", "settle"}


async def test_an_unconfigured_model_is_logged_once(caplog):
    """At the first call that passes over it, with what to set; not at every further one."""
    caplog.set_level("DEBUG", logger="modelhub")
    models = {
        "keyless": {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "${OPENAI_API_KEY}"},
        "offline": {"provider": "scripted", "reply": "x"},
    }
    config = {"version": 1, "models": models, "chains": {"main": {"models": ["keyless", "offline"]}}}
    async with Hub.from_dict(config, environ={}) as hub:
        for _ in range(3):
            await hub.get("main")("hi")
    named = [record.getMessage() for record in caplog.records if "keyless" in record.getMessage()]
    assert len([text for text in named if text.startswith("attempt: ")]) == 1
    assert len([text for text in named if text.startswith("fallback: ")]) <= 1
    assert "set OPENAI_API_KEY" in named[0]
