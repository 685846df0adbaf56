"""A span for each call, with a child for each attempt."""

import asyncio
import gc
import logging

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from modelhub import AllModelsFailed, InvalidRequest
from modelhub.testing import FaultServer, reroute_config, run_virtual

BUSY = {"fail": "Overloaded", "status": 503, "message": "come back later", "wait": 1}
OK = {"say": "one two three", "wait": 2}


def seconds(span):
    """When a span began and ended, in seconds of virtual time."""
    start = 1_767_225_600_000_000_000  # 2026-01-01, when virtual time begins
    return (span.start_time - start) / 1e9, (span.end_time - start) / 1e9


def test_a_call_that_falls_back_is_a_tree(told):
    """The call below the caller's span, each attempt below the call, at the times they had."""
    hub = told.hub(a=[BUSY], b=[OK])

    async def main():
        with told.inside("app"):
            return await hub.get("main")("hi there", tags={"user": "u1"})

    reply = run_virtual(main())
    assert told.tree() == {"app": {"chat main": {"chat a-1": {}, "chat b-1": {}}}}
    call, (first, second) = told.call(), told.attempts()
    assert [seconds(span) for span in (call, first, second)] == [(0, 3), (0, 1), (1, 3)]
    assert (call.kind, first.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert (call.status.status_code, first.status.status_code, second.status.status_code) == (
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert dict(call.attributes) == {
        "modelhub.call_id": call.attributes["modelhub.call_id"],
        "modelhub.requested": "main",
        "modelhub.model": "b",
        "modelhub.how": "complete",
        "modelhub.stream": False,
        "modelhub.attempts": 2,
        "modelhub.restarts": 0,
        "modelhub.finish_reason": "stop",
        "modelhub.usage.input_tokens": 2,
        "modelhub.usage.output_tokens": 3,
        "modelhub.usage.estimated": True,
        "modelhub.tag.user": "u1",
    }
    assert dict(first.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "a-1",
        "modelhub.model": "a",
        "modelhub.attempt.number": 1,
        "modelhub.attempt.outcome": "Overloaded",
        "http.response.status_code": 503,
        "error.type": "Overloaded",
    }
    assert dict(second.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "b-1",
        "gen_ai.response.model": "b-1",
        "gen_ai.response.id": reply.id,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
        "modelhub.usage.estimated": True,
        "modelhub.model": "b",
        "modelhub.attempt.number": 2,
        "modelhub.attempt.outcome": "ok",
    }


def test_an_attempt_says_what_was_left_out_or_changed_for_its_model(told):
    """The request's attributes say only what was sent."""
    model = {"provider": "anthropic", "model_name": "claude-opus-4-8", "ask": {"top_p": 0.5}}
    config = {"version": 1, "models": {"claude": model, "any": {"provider": "scripted"}}}

    async def main():
        async with FaultServer("fine") as server:
            hub = told.hub(options=reroute_config(config, server) | {"chains": {}})
            asked = {"temperature": 0.5, "seed": 3, "max_tokens": 9, "reasoning_effort": "minimal"}
            async with hub:
                await hub.get("claude")("hi", **asked)
                await hub.get("any")("hi", **asked)

    run_virtual(main())
    changed, whole = (span.attributes for span in told.attempts())
    assert sorted(changed["modelhub.attempt.dropped"]) == ["seed", "temperature", "top_p"]
    assert changed["modelhub.attempt.rounded"] == ("reasoning_effort: minimal -> low",)
    assert {name for name in changed if name.startswith("gen_ai.request.")} == {
        "gen_ai.request.model",
        "gen_ai.request.max_tokens",
    }
    assert not {"modelhub.attempt.dropped", "modelhub.attempt.rounded"} & whole.keys()
    assert whole["gen_ai.request.temperature"] == 0.5


def test_the_arm_is_on_the_attempt(told):
    """On its span, and on the event of one that was skipped; a model with a place to itself has none."""
    options = {"chains": {"main": {"models": [{"arms": {"a": 1_000_000, "b": 0.000001}}, "c"]}}}
    hub = told.hub(a=[{"fail": "AuthenticationFailed"}], b=[BUSY], c=[OK], options=options)

    async def main():
        await hub.get("main")("hi")
        await hub.get("main")("hi")

    run_virtual(main())
    attempts = [span for span in told.spans if "modelhub.attempt.number" in span.attributes]
    assert [span.attributes.get("modelhub.arm") for span in attempts] == ["a", "b", None, "b", None]
    skipped = [event for span in told.spans for event in span.events if event.name == "modelhub.skipped"]
    assert [event.attributes["modelhub.arm"] for event in skipped] == ["a"]


def test_nothing_is_counted_twice(told):
    """The conventions' attributes stand on attempts only."""
    hub = told.hub(a=[OK])

    async def main():
        await hub.get("main")("hi")

    run_virtual(main())
    assert not [name for name in told.call().attributes if name.startswith("gen_ai.")]


def test_a_stream_that_begins_anew(told):
    """Both streams are attempts of one call, which says that it began anew."""
    hub = told.hub(
        a=[{"say": "one two", "break_after": 1, "wait": 2}], b=[{"say": "three four", "wait": 3, "pause": 1}]
    )

    async def main():
        with told.inside("app"):
            stream = await hub.get("main")("hi", stream=True)
        await stream.final()

    run_virtual(main())
    assert told.tree() == {"app": {"chat main": {"chat a-1": {}, "chat b-1": {}}}}
    call, (broken, whole) = told.call(), told.attempts()
    assert (call.attributes["modelhub.restarts"], call.attributes["modelhub.stream"]) == (1, True)
    assert call.attributes["modelhub.first_token"] == 5
    assert broken.attributes["error.type"] == "StreamBroken"
    assert whole.attributes["gen_ai.request.stream"] is True
    assert whole.attributes["gen_ai.response.time_to_first_chunk"] == 3
    assert whole.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert [seconds(span) for span in (call, broken, whole)] == [(0, 6), (0, 2), (2, 6)]


def test_a_call_that_fails(told):
    """The error's class, but not what it says, which may repeat the prompt; who was passed over is an event."""
    hub = told.hub(
        a=[BUSY],
        options={"chains": {"main": {"models": ["none", "a"]}}}
        | {
            "models": {
                "a": {"provider": "scripted", "steps": [BUSY], "retry": {"max_attempts": 2, "initial_wait": "1s"}},
                "none": {"provider": "openai", "model_name": "x"},
            }
        },
    )

    async def main():
        await hub.get("main")("hi")

    with pytest.raises(AllModelsFailed):
        run_virtual(main())
    call, attempts = told.call(), told.attempts()
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, None)
    assert (call.attributes["error.type"], call.attributes["modelhub.how"]) == ("AllModelsFailed", "failed")
    assert [span.attributes["error.type"] for span in attempts] == ["Overloaded", "Overloaded"]
    assert [span.attributes["modelhub.attempt.number"] for span in attempts] == [1, 2]
    assert attempts[1].attributes["modelhub.attempt.wait"] > 0
    (event,) = call.events
    assert event.name == "modelhub.skipped"
    assert dict(event.attributes) == {"modelhub.model": "none", "error.type": "NotConfigured"}
    assert "come back later" not in told.everything()


def test_a_call_that_is_cancelled(told):
    """It is no error: somebody wanted it so."""
    hub = told.hub(a=[{"say": "late", "wait": 60}])

    async def main():
        task = asyncio.ensure_future(hub.get("main")("hi"))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])

    run_virtual(main())
    call, (attempt,) = told.call(), told.attempts()
    assert call.attributes["modelhub.how"] == "cancelled"
    assert attempt.attributes["modelhub.attempt.outcome"] == "cancelled"
    for span in (call, attempt):
        assert (span.status.status_code, "error.type" in span.attributes) == (StatusCode.UNSET, False)
        assert seconds(span) == (0, 5)


def test_a_stream_that_is_closed(told):
    """Its attempt has what was known by then."""
    hub = told.hub(a=[{"say": "one two three", "pause": 1}])

    async def main():
        async with await hub.get("main")("hi", stream=True) as stream:
            await anext(stream)
            await anext(stream)

    run_virtual(main())
    call, (attempt,) = told.call(), told.attempts()
    assert call.attributes["modelhub.how"] == attempt.attributes["modelhub.attempt.outcome"] == "closed"
    assert attempt.attributes["gen_ai.response.model"] == "a-1"
    assert "gen_ai.response.finish_reasons" not in attempt.attributes


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_stream_that_is_forgotten_is_told_of_later(told):
    """The garbage collector may come in the midst of the SDK's own work: nothing is told from there."""
    hub = told.hub(a=[{"say": "one two three", "pause": 1}])

    async def main():
        stream = await hub.get("main")("hi", stream=True)
        del stream
        gc.collect()
        before = len(told.spans)
        await asyncio.sleep(0)
        return before

    assert run_virtual(main()) == 0
    assert told.call().attributes["modelhub.how"] == "abandoned"
    assert told.attempts()[0].attributes["modelhub.attempt.outcome"] == "abandoned"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_was_postponed_is_told_at_the_next_call(told):
    """Where no loop runs any more."""
    hub = told.hub(a=[OK])
    kept = []

    async def main():
        kept.append(await hub.get("main")("hi", stream=True))

    run_virtual(main())
    kept.clear()
    gc.collect()
    assert told.spans == []

    async def again():
        await hub.get("main")("hi")

    run_virtual(again())
    hows = {span.attributes.get("modelhub.how") for span in told.spans}
    assert {"abandoned", "complete"} <= hows


def test_the_calls_span_is_current_until_a_reply_is_in_hand(told):
    """What is traced and logged below belongs to the call, what the reader does to the reader."""
    hub, seen = told.hub(a=[{"say": "one two", "wait": 1, "pause": 1}]), []
    sleep = told.clock.sleep

    async def noting(delay):
        seen.append(trace.get_current_span().name)
        await sleep(delay)

    told.clock.sleep = noting

    async def main():
        with told.inside("app") as app:
            stream = await hub.get("main")("hi", stream=True)
            assert trace.get_current_span() is app
            await stream.final()
            await hub.get("main")("hi")
            assert trace.get_current_span() is app
            with pytest.raises(InvalidRequest):
                await hub.get("main")([{"role": "nobody", "content": "hi"}])
            assert trace.get_current_span() is app

    run_virtual(main())
    assert seen == ["chat main", "app", "chat main"]


def test_the_callers_span_is_current_again_after_a_failure(told):
    """Also after a cancellation."""
    hub = told.hub(a=[{"fail": "InvalidRequest"}, {"say": "late", "wait": 60}])

    async def main():
        with told.inside("app") as app:
            with pytest.raises(InvalidRequest):
                await hub.get("main")("hi")
            assert trace.get_current_span() is app
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await hub.get("main")("hi")
            assert trace.get_current_span() is app

    run_virtual(main())


def test_calls_side_by_side_do_not_mix(told):
    """Each below its own caller, in tasks of their own."""
    hub = told.hub(a=[{"say": "one", "wait": 1}])

    async def one(name):
        with told.inside(name):
            await hub.get("main")("hi")

    async def main():
        await asyncio.gather(*(one(f"app {number}") for number in range(20)))

    run_virtual(main())
    assert told.tree() == {f"app {number}": {"chat main": {"chat a-1": {}}} for number in range(20)}


def test_a_call_without_a_loop_has_its_callers_span_too(told):
    """The loop in the background hears of it."""
    hub = told.hub(a=[{"say": "one"}])
    with told.inside("app"):
        hub.get("main").sync("hi")
    assert told.tree() == {"app": {"chat main": {"chat a-1": {}}}}


def test_a_coroutine_that_is_thrown_away_is_no_trouble(told, caplog):
    """It is closed in another context than its own; OpenTelemetry would log an error."""
    hub = told.hub(a=[{"say": "late", "wait": 60}])

    async def main():
        import contextvars

        call = hub.get("main")("hi")
        contextvars.copy_context().run(call.send, None)
        call.close()
        await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING):
        run_virtual(main())
    assert caplog.records == []
    assert told.call().attributes["modelhub.how"] == "cancelled"


def test_a_call_whose_loop_is_dropped_is_no_trouble(told, caplog):
    """Its span ends where the hub's close completes it, in another context than its own."""
    hub = told.hub(a=[{"say": "late", "wait": 20}])

    async def begin():
        asyncio.ensure_future(hub.get("main")("hi"))  # noqa: RUF006 - nobody keeps it
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    hub.close()
    gc.collect()
    assert told.call().attributes["modelhub.how"] == "abandoned"
    assert "detach" not in caplog.text


def test_what_is_not_sampled_is_measured_all_the_same(telling):
    """No spans, and all metrics."""
    told = telling(ALWAYS_OFF)
    hub = told.hub(a=[BUSY], b=[OK])

    async def main():
        await hub.get("main")("hi")

    run_virtual(main())
    assert told.spans == []
    assert len(told.points("gen_ai.client.operation.duration")) == 2


def test_telemetry_that_fails_fails_no_call(told, caplog):
    """It is logged, and the answer is the answer."""
    hub = told.hub(a=[OK])

    def broken(*args, **kwargs):
        raise RuntimeError("out of order")

    async def main():
        await hub.get("main")("hi")
        hub.services.instrumentations[0].instruments.tracer.start_span = broken
        return await hub.get("main")("hi")

    assert run_virtual(main()).text == "one two three"
    assert [record.message for record in caplog.records] == ["the span of a call could not be started"]
