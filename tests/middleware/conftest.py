"""Layers are tested as people use them, through a hub of scripted models, in virtual time."""

import random
from dataclasses import dataclass, field
from functools import partial

import pytest

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.events import AttemptEnded, CallEnded
from modelhub.testing import VirtualClock, VirtualLoop


def pytest_asyncio_loop_factories(config, item):
    """Every test of this folder runs in virtual time, in which nobody waits for sockets: there are none."""
    return {"virtual": partial(VirtualLoop, grace=0)}


@dataclass
class World:
    """A hub's surroundings, and all that was seen."""

    seed: int = 0
    events: list = field(default_factory=list)
    hubs: list = field(default_factory=list)

    def begin_row(self):
        """Forget what the rows of a table before have made and seen."""
        self.events.clear()
        self.hubs.clear()

    def hub(self, models, chains=None, *, environ=None, **rest):
        """A hub; a model is a list of steps, one step, or a whole entry."""
        entries = {name: self._entry(what) for name, what in models.items()}
        config = {"version": 1, "models": entries, "chains": chains or {}, **rest}
        hub = Hub.from_dict(config, environ=environ or {}, services=self._services())
        self.hubs.append(hub)
        return hub

    def hub_like(self, hub):
        """Another hub of the configuration of *hub*, which is not checked again."""
        self.hubs.append(Hub(hub.loaded, services=self._services()))
        return self.hubs[-1]

    def _services(self):
        return Services(VirtualClock(), random.Random(self.seed), (self.events.append,))

    def _entry(self, what):
        if isinstance(what, dict) and ("provider" in what or "steps" in what):
            return {"provider": "scripted", **what}
        return {"provider": "scripted", "steps": what if isinstance(what, list) else [what]}

    def chain(self, *models, entry=None, **options):
        """A chain `main` of models `a`, `b`, ..., each with the keys of *entry*."""
        entries = {name: self._entry(what) | (entry or {}) for name, what in zip("abcdef", models, strict=False)}
        rest = {key: options.pop(key) for key in ("limits", "retry_budget", "defaults") if key in options}
        return self.hub(entries, {"main": {"models": list(entries), **options}}, **rest).get("main")

    def layer(self, name, cls):
        """The layer of class *cls* around the model *name*."""
        return next(layer for layer in self.hubs[-1].get(name).models[0].stack() if isinstance(layer, cls))

    def asked(self, name):
        """How often the model *name* was really asked."""
        *_, provider = self.hubs[-1].get(name).models[0].stack()
        return provider.calls

    def of(self, kind):
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    def settled(self):
        """The only call's end."""
        (event,) = self.of(CallEnded)
        return event

    def ended(self):
        """Every attempt that ended, as model and outcome."""
        return [(event.attempt.model, event.attempt.outcome) for event in self.of(AttemptEnded)]


@pytest.fixture(name="world")
def _world():
    return World()


@pytest.fixture(name="worlds")
def _worlds():
    return World


@pytest.fixture(name="now")
def _now():
    return VirtualClock().now


def told(attempts):
    """A story in short: model and outcome of each attempt."""
    return [(attempt.model, attempt.outcome) for attempt in attempts]


@pytest.fixture(name="told")
def _told():
    return told
