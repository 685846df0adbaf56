"""Pytest fixtures for applications that use modelhub: a fault server, and a hub whose models are rerouted to it.

Load them from a `conftest.py`:

    pytest_plugins = ["modelhub.testing.pytest_plugin"]

and let models fail:

    async def test_the_app_survives(hub_faults):
        async with hub_faults.hub("models.yaml") as hub:
            hub_faults.fail("gpt", 503)
            reply = await hub.get("primary")("hi")
        assert reply.model == "claude"
        assert len(hub_faults.requests("gpt")) == 3

No vendor is contacted and no key is needed. The server runs in a thread and in real time; for virtual time open a
`FaultServer` inside `run_virtual`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest

from modelhub.core.context import Services
from modelhub.hub import Hub, find_config_file
from modelhub.testing.faults import Item, status
from modelhub.testing.reroute import reroute_config
from modelhub.testing.server import FaultServer, Recorded

__all__ = ["HubFaults", "fault_server", "hub_faults"]


class HubFaults:
    """Makes hubs whose models are rerouted to *server*, and sets their faults."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self._hubs: list[Hub] = []
        self._names: list[str] = []

    def hub(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        services: Services | None = None,
    ) -> Hub:
        """Make the hub of *config* (a path, a dict, or ./models.yaml), with every model rerouted to the server.

        *environ* gives variables that matter; the others get a stand-in. Use it as a context manager, in the loop that
        calls its models.
        """
        source = config if isinstance(config, Mapping) else find_config_file(config, environ or {})
        hub = Hub.from_dict(reroute_config(source, self.server, environ=environ), environ={}, services=services)
        self._hubs.append(hub)
        self._names += hub.loaded.models
        return hub

    def fail(
        self, name: str, *faults: int | Item, then: Literal["repeat", "healthy"] = "repeat", **details: Any
    ) -> None:
        """Let the model *name* fail: with a status and *details* as in `faults.status`, or with faults of any kind.

        Each is played once, *then* the last one again and again, or none.
        """
        if details and not any(isinstance(fault, int) for fault in faults):
            raise TypeError(f"{', '.join(details)}: only statuses have details")
        items = [status(fault, **details) if isinstance(fault, int) else fault for fault in faults]
        self.server.script(self._check_name(name), items, then)

    def heal(self, name: str) -> None:
        """Let the model *name* answer again."""
        self.server.heal(self._check_name(name))

    def requests(self, name: str | None = None) -> list[Recorded]:
        """Return the requests to the model *name*, or to all models."""
        return self.server.requests(None if name is None else self._check_name(name))

    def _check_name(self, name: str) -> str:
        if self._names and name not in self._names:
            raise ValueError(f"no model is called `{name}` (there are: {', '.join(self._names)})")
        return name

    def close(self) -> None:
        """Close every hub that is still open."""
        for hub in self._hubs:
            hub.close()


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A running `FaultServer`, which clients reach past any proxy of the environment."""
    with pytest.MonkeyPatch.context() as patch, FaultServer().running() as server:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))))
        yield server


@pytest.fixture
def hub_faults(fault_server: FaultServer) -> Iterator[HubFaults]:
    """Hubs with their models at the fault server, and their faults."""
    faults = HubFaults(fault_server)
    yield faults
    faults.close()
