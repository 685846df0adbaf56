"""Hubs of a file that is rewritten, in virtual time."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.testing import VirtualClock, VirtualLoop


def pytest_asyncio_loop_factories(config, item):
    """Every test of this folder runs in virtual time."""
    return {"virtual": VirtualLoop}


@dataclass
class File:
    """A configuration file, the hub that was made from it, and the events of that hub."""

    path: Path
    events: list = field(default_factory=list)
    hub: Hub | None = None

    def write(self, models, **sections):
        """Write the file: a model is its answer, its steps, or a whole entry."""
        config = {"version": 1, "models": {name: self._entry(model) for name, model in models.items()}, **sections}
        self.path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def _entry(self, model):
        if isinstance(model, str):
            return {"provider": "scripted", "reply": model}
        return (
            {"provider": "scripted", "steps": model} if isinstance(model, list) else {"provider": "scripted", **model}
        )

    def open(self, models, environ=None, **sections):
        """Write the file, and return a hub of it."""
        self.write(models, **sections)
        services = Services(VirtualClock(), observers=(self.events.append,))
        self.hub = Hub.from_yaml(self.path, environ=environ, services=services)
        return self.hub

    def reload(self, models, **sections):
        """Write the file, and have the hub read it again."""
        self.write(models, **sections)
        return self.hub.reload()


@pytest.fixture(name="file")
def _file(tmp_path):
    return File(tmp_path / "models.yaml")
