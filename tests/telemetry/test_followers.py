"""Who follows a call sees its request, its reply and its end."""

import pytest

from modelhub import Hub, InvalidRequest
from modelhub.core.context import Services
from modelhub.testing import VirtualClock, run_virtual


class Instrumentation:
    """Notes what it is told of every call."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def __call__(self, request):
        self.notes.append((self.name, "made", request.context.requested))
        return self

    def committed(self, reply):
        self.notes.append((self.name, "committed", type(reply).__name__))

    def settled(self, event, outcome):
        self.notes.append((self.name, event.how, outcome.reply.text if outcome.reply is not None else None))


def hub_of(step, *instrumentations, observers=()):
    services = Services(VirtualClock(), observers=observers, instrumentations=instrumentations)
    models = {"m": {"provider": "scripted", "steps": [step]}}
    return Hub.from_dict({"version": 1, "telemetry": {"enabled": False}, "models": models}, services=services)


def call(hub, messages="hi", stream=False):
    async def main():
        reply = await hub.get("m")(messages, stream=stream)
        if stream:
            await reply.final()

    run_virtual(main())


def test_a_call_is_followed_from_its_making_to_its_end():
    """Who came last leaves first; who gives nothing back hears no more."""
    notes = []
    call(hub_of({"say": "fine"}, Instrumentation("a", notes), lambda request: None, Instrumentation("b", notes)))
    assert notes == [
        ("a", "made", "m"), ("b", "made", "m"),
        ("b", "committed", "ChatResponse"), ("a", "committed", "ChatResponse"),
        ("b", "complete", "fine"), ("a", "complete", "fine"),
    ]  # fmt: skip


def test_a_stream_is_committed_before_it_is_read():
    """And settled when it ends."""
    notes = []
    call(hub_of({"say": "all is fine"}, Instrumentation("a", notes)), stream=True)
    assert notes == [("a", "made", "m"), ("a", "committed", "ChatStream"), ("a", "complete", "all is fine")]


def test_a_failed_call_is_never_committed():
    """Wrong input is no call at all."""
    notes = []
    hub = hub_of({"fail": "InvalidRequest"}, Instrumentation("a", notes))
    with pytest.raises(InvalidRequest):
        call(hub)
    assert notes == [("a", "made", "m"), ("a", "failed", None)]
    with pytest.raises(InvalidRequest):
        call(hub, [{"role": "nobody", "content": "hi"}])
    assert len(notes) == 2


def test_followers_hear_of_the_end_though_an_observer_fails():
    """What they hold for the call must be let go."""
    notes = []

    def broken(event):
        raise RuntimeError("out of order")

    call(hub_of({"say": "fine"}, Instrumentation("a", notes), observers=(broken,)))
    assert notes[-1][1] == "complete"
