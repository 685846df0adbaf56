"""The vendors of the other frameworks' tests."""

from tests.integrations.conftest import fault_server, hub_faults, setup

__all__ = ["fault_server", "hub_faults", "setup"]
