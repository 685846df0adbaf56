"""One record for each call: what is in it, and what is estimated."""

import asyncio
import dataclasses
import gc
import json
import logging
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelhub import BadReply, CallError, Hub, InvalidRequest, StreamBroken
from modelhub.accounting.record import UsageRecord
from modelhub.core.context import CallContext, Services
from modelhub.core.events import CallEnded
from modelhub.core.request import ChatRequest
from modelhub.core.response import Attempt, ChatResponse, ChatUsage
from modelhub.messages.normalize import normalise_messages
from modelhub.middleware.usage.layer import complete_usage
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table

PRICE = {"input": 1_000_000, "output": 10_000_000}  # a dollar for a token in, ten for one out
FAST = {"retry": {"max_attempts": 1}}


class Notes(list):
    """Collects the settled calls."""

    def __call__(self, event):
        if isinstance(event, CallEnded):
            self.append(event)


@pytest.fixture(name="notes")
def _notes():
    return Notes()


def hub_of(notes, models, chains=None, **more):
    entries = {name: {"provider": "scripted", "pricing": PRICE, **FAST, **entry} for name, entry in models.items()}
    config = {"version": 1, "models": entries, "chains": chains or {}, **more}
    return Hub.from_dict(config, services=Services(clock=VirtualClock(), observers=(notes,)))


def ask(hub, name, *args, read=None, **kwargs):
    """Ask in virtual time; *read* stops a stream after so many snapshots."""

    async def main():
        reply = await hub.get(name)(*args, **kwargs)
        if not kwargs.get("stream"):
            return reply
        async with reply:
            seen = []
            async for snapshot in reply:
                seen.append(snapshot)
                if len(seen) == read:
                    break
            return seen[-1]

    return run_virtual(main())


def test_a_record_has_all_there_is_to_know(notes):
    """Who was asked for, who answered, what it took and cost, how it went, and the tags."""
    models = {"a": {"steps": [{"fail": "Overloaded"}]}, "b": {"reply": "one two three", "model_name": "b-1"}}
    hub = hub_of(notes, models, {"c": {"models": ["a", "b"]}})
    ask(hub, "c", "hello there", tags={"user": 42})
    (event,) = notes
    record = UsageRecord.from_event(event, hub.usage.prices.describe_source)
    found = dataclasses.asdict(record)
    parts = found.pop("parts")
    del found["call_id"], found["duration"], found["first_token"]
    assert found == {
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "requested": "c",
        "model": "b",
        "vendor": "scripted",
        "model_name": "b-1",
        "response_model": None,
        "outcome": "complete",
        "error": None,
        "input_tokens": 2,
        "output_tokens": 3,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "reasoning_tokens": 0,
        "cost": Decimal(32),
        "prices": "pricing",
        "estimated": True,
        "attempts": 2,
        "tags": {"user": "42"},
        "shape": None,
        "arm": None,
    }
    assert [(part["model"], part["outcome"], part["used"], part["cost"]) for part in parts] == [
        ("a", "Overloaded", False, 0),
        ("b", "ok", True, 32),
    ]
    with pytest.raises(AttributeError):
        record.model = "other"


def figures(hub):
    total = hub.usage.total
    return total.calls, total.failed, total.attempts, total.input_tokens, total.output_tokens, total.estimated


# "abcdefghijkl" is 12 characters, 3 tokens and one: an estimate is 4 tokens of input.
TEXT = "abcdefghijkl"


def test_a_failure_that_was_surely_not_billed_counts_no_tokens(notes):
    """The attempt counts, its tokens do not."""
    hub = hub_of(notes, {"a": {"steps": [{"fail": "RateLimited"}]}})
    with pytest.raises(CallError):
        ask(hub, "a", TEXT)
    assert figures(hub) == (1, 1, 1, 0, 0, 0)
    assert hub.usage.total.cost == 0


@table("failure", ["ServerError", "BadReply", "ConnectionLost", "ContentBlocked", "UnknownFailure"])
def test_a_failure_that_may_have_been_billed_is_estimated(notes, failure):
    """The vendor gave no figures: the input is estimated, and nothing came in."""
    hub = hub_of(notes, {"a": {"steps": [{"fail": failure}]}})
    with pytest.raises(CallError):
        ask(hub, "a", TEXT)
    assert figures(hub) == (1, 1, 1, 4, 0, 1)
    assert hub.usage.total.cost == 4


def test_every_retry_is_counted(notes):
    """Three attempts at a model that fails dearly are three times the input."""
    hub = hub_of(notes, {"a": {"steps": [{"fail": "ServerError"}], "retry": {"max_attempts": 3}}})
    with pytest.raises(CallError):
        ask(hub, "a", TEXT)
    assert figures(hub) == (1, 1, 3, 12, 0, 3)


def test_a_broken_stream_counts_what_came_in(notes):
    """The text received is 16 characters, 4 tokens."""
    hub = hub_of(
        notes, {"a": {"steps": [{"say": "abcdefgh ijklmno pqrst", "break_after": 2}], "retry": {"max_attempts": 2}}}
    )
    with pytest.raises(StreamBroken):
        # The chain restarts once on the same model: two attempts.
        ask(hub, "a", TEXT, stream=True)
    assert figures(hub) == (1, 1, 2, 8, 8, 2)


def test_a_restart_is_counted_with_what_was_lost(notes):
    """Each model has its own part; the call counts for the one that answered."""
    models = {"a": {"steps": [{"say": "abcdefgh ijklmno pqrst", "break_after": 2}]}, "b": {"reply": "done"}}
    hub = hub_of(notes, models, {"c": {"models": ["a", "b"]}})
    ask(hub, "c", TEXT, stream=True)
    by_model = {name: (one.calls, one.attempts, one.output_tokens) for name, one in hub.usage.by_model.items()}
    assert by_model == {"a": (0, 1, 4), "b": (1, 1, 1)}
    assert hub.usage.by_chain["c"].cost == 4 + 40 + 1 + 10


def test_a_closed_and_a_forgotten_stream_are_counted(notes):
    """Who stops reading has paid for what came in, at least."""
    hub = hub_of(notes, {"a": {"reply": "abcdefgh ijklmno pqrst"}})
    ask(hub, "a", TEXT, stream=True, read=2)
    assert figures(hub) == (1, 0, 1, 4, 4, 1)

    async def forget():
        await anext(await hub.get("a")(TEXT, stream=True))
        gc.collect()
        await asyncio.sleep(1)

    with pytest.warns(ResourceWarning):
        run_virtual(forget())
    assert [event.how for event in notes] == ["closed", "abandoned"]
    assert figures(hub) == (2, 0, 2, 8, 4 + 2, 2)


def test_a_cancelled_call_is_counted(notes):
    """It was under way: the vendor may charge for the input."""
    hub = hub_of(notes, {"a": {"steps": [{"say": "late", "wait": "60s"}]}})

    async def cancel():
        task = asyncio.ensure_future(hub.get("a")(TEXT))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])

    run_virtual(cancel())
    assert [event.how for event in notes] == ["cancelled"]
    assert figures(hub) == (1, 0, 1, 4, 0, 1)


def test_a_rejected_structured_answer_was_billed(notes):
    """The figures are the vendor's own: nothing is estimated beyond them."""
    from pydantic import BaseModel

    class Wanted(BaseModel):
        number: int

    hub = hub_of(notes, {"a": {"reply": "not JSON at all"}})
    with pytest.raises(BadReply):
        ask(hub, "a", TEXT, structured_model=Wanted)
    assert figures(hub)[:5] == (1, 1, 1, 1, 4)


def test_a_model_that_is_passed_over_costs_nothing(notes):
    """A skipped model has no attempt."""
    hub = hub_of(notes, {"a": {"context_window": 1}, "b": {}}, {"c": {"models": ["a", "b"]}})
    ask(hub, "c", TEXT)
    assert list(hub.usage.by_model) == ["b"]


def test_a_reply_shows_its_own_cost_and_keeps_nothing_alive(notes):
    """What is worked out later needs no garbage collector to go."""
    hub = hub_of(notes, {"a": {"reply": "one"}})
    reply = ask(hub, "a", "hello")
    assert reply.usage.cost == Decimal(11)
    assert reply.attempts[0].usage.cost == Decimal(11)
    assert json.loads(json.dumps(reply))["usage"]["cost"] == "11"


def test_an_unknown_price_makes_a_sum_unknown(notes, monkeypatch):
    """The sum says so, how many parts it lacks, and what is known."""
    # A scripted answer costs nothing; here it stands for one whose price nobody knows.
    monkeypatch.setattr("modelhub.accounting.prices.FreePrice.cost", lambda *_: None)
    hub = hub_of(notes, {"a": {"reply": "one"}, "b": {"reply": "one", "pricing": {"input": 0, "output": 0}}})
    hub2 = Hub.from_dict({"version": 1, "models": {"x": {"provider": "scripted"}}})
    ask(hub, "a", "hello")
    ask(hub, "b", "hello")
    ask(hub2, "x", "hello")
    assert hub.usage.total.cost == 11
    total = hub2.usage.total
    assert (total.cost, total.known_cost, total.unpriced) == (None, 0, 1)
    assert total.as_dict()["cost"] is None


def test_tags_come_from_around_from_the_view_and_from_the_call(notes):
    """The nearer goes before the farther; tags are text."""
    hub = hub_of(notes, {"a": {}})
    model = hub.get("a")

    async def main():
        with hub.tags(user="1", job="x", level="around"):
            await model("hi")
            await model.with_tags(level="view", nothing=None)("hi")
            await model.with_tags(level="view").with_tags({"a b": 7})("hi", tags={"level": "call"})
            await asyncio.gather(*(model("hi", tags={"n": n}) for n in range(2)))
        await model("hi")

    run_virtual(main())
    around = {"user": "1", "job": "x", "level": "around"}
    assert [event.tags for event in notes] == [
        around,
        around | {"level": "view"},
        around | {"level": "call", "a b": "7"},
        around | {"n": "0"},
        around | {"n": "1"},
        {},
    ]
    by_tag = {tag: {value: one.calls for value, one in values.items()} for tag, values in hub.usage.by_tag.items()}
    assert by_tag["level"] == {"around": 3, "view": 1, "call": 1}
    with pytest.raises(InvalidRequest, match="tags must be a mapping"):
        ask(hub, "a", "hi", tags="user")


def test_a_view_with_tags_is_called_like_its_chain(notes):
    """Also streaming, also without an event loop, also when the hub is closed."""
    hub = hub_of(notes, {"a": {"reply": "one"}})
    view = hub.get("a").with_tags(user="1")
    assert (view.name, view.streams, view.configured) == ("a", False, True)
    with hub.tags(job="sync"):
        assert view.sync("hi").requested == "a"
    assert notes[0].tags == {"user": "1", "job": "sync"}


def test_reset_begins_anew_and_threads_lose_nothing(notes):
    """Eight threads, a thousand calls."""
    hub = hub_of(notes, {"a": {"reply": "one"}})
    ask(hub, "a", "hi")
    hub.usage.reset()
    assert hub.usage.total.calls == 0

    async def many():
        for n in range(125):
            await hub.get("a").with_tags(n=n % 3)("hi")

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert figures(hub) == (1000, 0, 1000, 1000, 1000, 1000)
    assert sum(one.calls for one in hub.usage.by_tag["n"].values()) == 1000
    assert json.loads(json.dumps(hub.usage.as_dict()))["total"]["calls"] == 1000


def test_of_too_many_tags_those_used_last_are_kept(notes, monkeypatch):
    """Totals stay exact; what was not used for longest is counted together."""
    monkeypatch.setattr("modelhub.accounting.usage_tracker.MAX_CELLS", 5)
    hub = hub_of(notes, {"a": {"reply": "one"}})
    for n in (*range(8), 3, 3, 9):
        ask(hub, "a", "hi", tags={"n": n})
    calls = {value: total.calls for value, total in hub.usage.by_tag["n"].items()}
    assert calls == {"(other)": 4, "3": 3, "5": 1, "6": 1, "7": 1, "9": 1}
    assert (hub.usage.total.calls, hub.usage.total.known_cost) == (11, 11 * 11)


def test_what_is_not_logged_is_not_gathered(notes, caplog):
    """An entry with the cost is written where somebody listens."""
    hub = hub_of(notes, {"a": {"reply": "one"}})
    plain = Hub.from_dict({"version": 1, "models": {"a": {"provider": "scripted", "pricing": PRICE}}})
    with caplog.at_level(logging.INFO, "modelhub"):
        asyncio.run(plain.get("a")("hi", tags={"user": "1"}))
    (entry,) = [record for record in caplog.records if record.event == "settle"]
    assert (entry.tags, entry.cost) == ({"user": "1"}, "51")
    assert hub.usage.total.calls == 0


@table(
    ("outcome", "text", "figures", "expected"),
    [
        # The vendor gives the input first, and the output with an end that never came.
        ("StreamBroken", "x" * 400, (9, 1), (9, 100, True)),
        ("closed", "x" * 400, (9, 1), (9, 100, True)),
        # Also a few words more than the first figure, which only says that there is an answer.
        ("closed", "x" * 40, (9, 1), (9, 10, True)),
        ("closed", "x", (9, 0), (9, 1, True)),
        # It gives figures as it goes, about as many as the text has: they are kept, but were not its last.
        ("StreamBroken", "x" * 400, (9, 80), (9, 80, True)),
        ("cancelled", "", (9, 1), (9, 1, True)),
        # Rejected by us, or by the vendor's filter, at its end.
        ("BadReply", "x" * 400, (9, 1), (9, 1, False)),
        ("ContentBlocked", "x" * 400, (9, 1), (9, 1, False)),
        # Whole: its own figures are right, whatever the text looks like.
        ("ok", "x" * 400, (9, 1), (9, 1, False)),
        ("ok", "x" * 400, None, (4, 100, True)),
        ("RateLimited", "", None, None),
        (None, "", None, (4, 0, True)),
    ],
)
def test_only_what_the_vendor_did_not_say_is_estimated(outcome, text, figures, expected):
    """Its figures are kept as far as they go; those of an answer that did not come to its end are not the last."""
    attempt = Attempt("m", "scripted", "m")
    attempt.update(outcome=outcome, usage=None if figures is None else ChatUsage(*figures))
    message = next(iter(normalise_messages(TEXT)))
    request = ChatRequest((message,), (), None, None, None, {}, CallContext(Services(), "m"))
    complete_usage(attempt, request, ChatResponse([{"type": "text", "text": text}]))
    usage = attempt["usage"]
    assert expected == (usage and (usage.input_tokens, usage.output_tokens, usage.estimated))


def test_a_stream_may_be_collected_while_totals_are_read(notes, monkeypatch):
    """It is counted right after: what the garbage collector finds there waits for nobody."""
    hub = hub_of(notes, {"a": {"reply": "one"}})
    forgotten, copy_cell = [], dataclasses.replace

    def interrupted(cell):
        forgotten.clear()
        return copy_cell(cell)

    async def main():
        forgotten.append(await hub.get("a")("hi", stream=True))

    ask(hub, "a", "hi")
    run_virtual(main())
    monkeypatch.setattr(dataclasses, "replace", interrupted)
    with pytest.warns(ResourceWarning):
        assert hub.usage.total.calls == 1
    assert hub.usage.total.calls == 2
