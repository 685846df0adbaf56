"""Tokens and durations, by attempt and by call."""

from opentelemetry.sdk.metrics import MeterProvider

from modelhub.telemetry import names
from modelhub.testing import run_virtual

BUSY = {"fail": "Overloaded", "wait": 1}
OK = {"say": "one two three", "wait": 2}


def played(told, stream=False, **models):
    hub = told.hub(**models)

    async def main():
        reply = await hub.get("main")("hi there", stream=stream, tags={"user": "u1"})
        if stream:
            await reply.final()

    run_virtual(main())


def test_durations_are_the_attempts(told):
    """With the class of the failure, if there was one; tags, which may be many, are on spans only."""
    played(told, a=[BUSY], b=[OK])
    common = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted"}
    assert told.points("gen_ai.client.operation.duration") == [
        ({**common, "gen_ai.request.model": "a-1", "modelhub.model": "a", "error.type": "Overloaded"}, 1, 1.0),
        ({**common, "gen_ai.request.model": "b-1", "gen_ai.response.model": "b-1", "modelhub.model": "b"}, 1, 2.0),
    ]


def test_tokens_are_the_attempts(told):
    """Input and output; figures that the vendor did not give are marked."""
    played(told, a=[BUSY], b=[OK])
    points = told.points("gen_ai.client.token.usage")
    assert [(about["gen_ai.token.type"], total) for about, _, total in points] == [("input", 2), ("output", 3)]
    assert all(about["modelhub.usage.estimated"] for about, _, _ in points)


def test_a_call_is_measured_as_a_whole(told):
    """From the call to the end, with everything in between."""
    played(told, a=[BUSY], b=[OK])
    about = {"modelhub.requested": "main", "modelhub.model": "b", "modelhub.how": "complete"}
    assert told.points("modelhub.call.duration") == [(about, 1, 3.0)]


def test_only_streams_have_a_first_chunk(told):
    """Of a plain reply everything comes at once."""
    played(told, a=[OK])
    assert told.points("gen_ai.client.operation.time_to_first_chunk") == []
    played(told, stream=True, a=[OK])
    ((_, count, total),) = told.points("gen_ai.client.operation.time_to_first_chunk")
    assert (count, total) == (1, 2.0)


def test_the_conventions_buckets_are_advised(told):
    """A view of the application's own goes before them."""
    played(told, a=[OK])
    scope = told.reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    bounds = {metric.name: tuple(metric.data.data_points[0].explicit_bounds) for metric in scope.metrics}
    assert bounds["gen_ai.client.token.usage"] == names.TOKEN_BUCKETS
    assert bounds["gen_ai.client.operation.duration"] == names.SECOND_BUCKETS
    assert (scope.scope.name, scope.scope.schema_url) == ("modelhub", names.SCHEMA_URL)
    assert isinstance(told.meters, MeterProvider)
