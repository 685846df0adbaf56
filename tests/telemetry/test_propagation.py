"""Requests to vendors carry the W3C headers of the call's span."""

from types import SimpleNamespace

import pytest

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.testing import FaultServer, VirtualClock, faults, run_virtual

PROVIDERS = ["openai", "anthropic", "gemini", "dashscope", "ollama"]


def trace_of(record):
    """The ids of the trace and the span in a request's header, or None."""
    header = record.headers.get("traceparent")
    if header is None:
        return None
    version, trace, span, flags = header.split("-")
    assert (version, len(trace), len(span), int(flags, 16) & 1) == ("00", 32, 16, 1)  # 1: sampled
    return SimpleNamespace(trace=trace, span=span)


async def make_calls(server, provider, telemetry, *, stream=False, number=3, options=None):
    """*number* calls, one after another, over one client; the requests that the vendor got."""
    address = {"host": server.url("m")} if provider == "ollama" else {"base_url": server.url("m"), "api_key": "k"}
    model = {"provider": provider, "model_name": "m", "retry": {"initial_wait": 0}, **address}
    config = {"version": 1, "models": {"m": model}, **(options or {})}
    instrumentations = () if telemetry is None else (telemetry,)
    async with Hub.from_dict(config, services=Services(VirtualClock(), instrumentations=instrumentations)) as hub:
        for _ in range(number):
            reply = await hub.get("m")("hi", stream=stream)
            if stream:
                await reply.final()
    return server.requests("m")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_request_carries_its_own_calls_span(provider, told):
    """Also when the headers of an earlier request are sent again."""

    async def main():
        async with FaultServer() as server:
            plain = await make_calls(server, provider, told.telemetry())
            with told.inside("the application's own"):
                streamed = await make_calls(server, provider, told.telemetry(), stream=True, number=1)
            return plain, streamed[len(plain) :]

    plain, (streamed,) = run_virtual(main())
    calls = {format(span.context.span_id, "016x"): span for span in told.spans if "modelhub.call_id" in span.attributes}
    assert [trace_of(record).span for record in (*plain, streamed)] == list(calls)
    (app,) = (span for span in told.spans if span.name == "the application's own")
    assert trace_of(streamed).trace == format(app.context.trace_id, "032x")
    assert len({trace_of(record).trace for record in plain}) == 3


def test_a_retry_carries_the_same_span(told):
    """Both attempts are the call's."""

    async def main():
        async with FaultServer() as server:
            server.script("m", [faults.status(503)], then="healthy")
            return await make_calls(server, "openai", told.telemetry(), number=1)

    first, second = run_virtual(main())
    assert trace_of(first) == trace_of(second)


def test_a_file_may_say_no(told, monkeypatch):
    """Vendors then learn nothing of the trace, nor do they where nothing is traced."""
    from opentelemetry import trace

    monkeypatch.setattr(trace, "get_tracer_provider", lambda: told.tracers)

    async def main():
        async with FaultServer() as server:
            silent = await make_calls(server, "openai", None, options={"telemetry": {"propagate": False}})
            off = await make_calls(server, "openai", None, options={"telemetry": {"enabled": False}})
            auto = await make_calls(server, "openai", None)
            return silent, off[len(silent) :], auto[len(off) :]

    silent, off, auto = run_virtual(main())
    assert [trace_of(record) for record in (*silent, *off)] == [None] * 6
    assert all(trace_of(record) for record in auto)
    assert len(auto) == 3
