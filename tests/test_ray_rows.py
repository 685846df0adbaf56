"""`modelhub.ray.ChatRows`: a callable for Ray's `map_batches`, here called as Ray calls it, without Ray."""

import multiprocessing
import os
import signal

import pytest

from modelhub import UnknownModel
from modelhub.ray import ChatRows
from modelhub.testing import faults, reroute_config

CONFIG = {
    "version": 1,
    "models": {
        "good": {"provider": "scripted", "reply": "an answer", "pricing": {"input": 1, "output": 1}},
        "shaped": {"provider": "scripted", "steps": [{"data": {"topic": "delivery"}}]},
        "bad": {"provider": "scripted", "steps": [{"fail": "QuotaExhausted", "status": 402}]},
        "once": {"provider": "scripted", "steps": [{"fail": "QuotaExhausted"}, {"say": "now it can"}]},
    },
}


@pytest.fixture(name="ask")
def _ask():
    """Call an actor's object once, or again and again, and close it at the end."""
    made = []

    def make(name, config=CONFIG, **options):
        made.append(ChatRows(name, config, **options))
        return made[-1]

    yield make
    for rows in made:
        rows.close()


def test_each_row_gets_the_columns_of_its_answer(ask):
    """The columns of the batch stay, those of the answers are added, each as long as the batch."""
    rows = ask("good", prompt="Topic: {text}", temperature=0)
    batch = rows({"id": [1, 2], "text": ["one", "two"]})
    assert batch["id"] == [1, 2]
    assert batch["answer"] == ["an answer", "an answer"]
    assert batch["error"] == [None, None]
    assert batch["model"] == ["good", "good"]
    assert len({*batch["key"]}) == 2
    assert {len(values) for values in batch.values()} == {2}


def test_rows_are_prompts_or_messages_too(ask):
    """Without a template, a column says what is asked."""
    assert ask("good")({"prompt": ["Hello"]})["answer"] == ["an answer"]
    messages = [[{"role": "user", "content": "Hello"}]]
    assert ask("good", system="Be short.")({"messages": messages})["answer"] == ["an answer"]


def test_a_structured_answer_is_a_column(ask):
    """`output` has the data."""
    schema = {"type": "object", "properties": {"topic": {"type": "string"}}}
    batch = ask("shaped", prompt="{text}", structured_model=schema)({"text": ["it came at once"]})
    assert batch["output"] == [{"topic": "delivery"}]


def test_a_row_that_fails_is_a_row_with_an_error(ask):
    """The call's error, or what is wrong with the row; the columns are the same."""
    batch = ask("bad", prompt="{text}")({"text": ["one"]})
    assert batch["error"][0].startswith("QuotaExhausted: ")
    wrong = ask("good", prompt="{title}")({"text": ["one"]})
    assert "has no column `title`" in wrong["error"][0]
    assert batch.keys() == wrong.keys()
    assert wrong["key"] == [None]


@pytest.fixture(name="counted")
def _counted(hub_faults):
    """A configuration whose only model is at a local server that counts, and the number of its requests."""
    models = {"gpt": {"provider": "openai", "model_name": "gpt-4.1-mini", "api_key": "any", "api": "chat"}}
    config = reroute_config({"version": 1, "models": models}, hub_faults.server)
    return config, lambda: len(hub_faults.server.requests("gpt"))


def test_the_same_row_twice_is_asked_once(ask, counted):
    """Rows with one key have one answer."""
    config, count = counted
    batch = ask("gpt", config)({"prompt": ["a", "b", "a"]})
    assert batch["error"] == [None] * 3
    assert count() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_was_answered_is_not_asked_again(ask, counted, tmp_path):
    """Another actor finds the answers of one that was killed, and asks only what is new."""
    config, count = counted

    def ask_and_die():
        ChatRows("gpt", config, journal=tmp_path / "journal")({"prompt": ["a", "b"]})
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=ask_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert count() == 2
    rows = ask("gpt", config, journal=tmp_path / "journal")
    assert rows({"prompt": ["a", "b", "d"]})["error"] == [None] * 3
    assert rows({"prompt": ["a", "d"]})["error"] == [None] * 2
    assert count() == 3


def test_a_row_that_failed_is_asked_again(ask, tmp_path):
    """In the next run, or when its batch is retried."""
    rows = ask("once", journal=tmp_path)
    assert rows({"prompt": ["a"]})["error"][0].startswith("QuotaExhausted")
    rows.close()
    assert ask("good", journal=tmp_path)({"prompt": ["a"]})["answer"] == ["an answer"]


def test_a_failure_in_one_journal_hides_no_answer_in_another(ask, counted, hub_faults, tmp_path):
    """Whichever of them is read first."""
    config, count = counted
    config["models"]["gpt"]["retry"] = {"max_attempts": 1}
    for statuses in ([400], []):
        hub_faults.server.script("gpt", [faults.status(status) for status in statuses], "healthy")
        rows = ask("gpt", config, journal=tmp_path)
        rows({"prompt": ["a"]})
        rows.close()
    failed = min(tmp_path.glob("*.journal"), key=lambda path: path.stat().st_mtime_ns)
    before = count()
    for name in ("0.journal", "z.journal"):
        failed = failed.rename(tmp_path / name)
        assert ask("gpt", config, journal=tmp_path)({"prompt": ["a"]})["error"] == [None]
    assert count() == before


def test_an_unknown_name_is_said_with_the_first_batch(ask):
    """As `hub.get` says it."""
    with pytest.raises(UnknownModel, match="did you mean `good`"):
        ask("goood")({"prompt": ["a"]})


def test_no_rows_are_no_calls(ask):
    """An empty batch stays as it is."""
    assert ask("good")({"prompt": []}) == {"prompt": []}
