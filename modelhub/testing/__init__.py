"""Tools for tests, modelhub's and yours: vendors that fail on demand, and virtual time.

`FaultServer` simulates the vendors and the `faults` of its scripts; `reroute_config` points a configuration at it;
`FAULTS` are the faults of `modelhub drill`; `run_virtual` runs all of it in virtual time. Pytest fixtures are in
`modelhub.testing.pytest_plugin`.
"""

from modelhub._deprecated import forward_names
from modelhub.testing import faults
from modelhub.testing.drill_faults import FAULTS, Drill
from modelhub.testing.faults import Fault
from modelhub.testing.reroute import reroute_config
from modelhub.testing.server import FaultServer, Recorded
from modelhub.testing.time import VirtualClock, VirtualLoop, run_virtual
from modelhub.testing.wires import CannedResponse, ToolCall

__all__ = [
    "FAULTS",
    "CannedResponse",
    "Drill",
    "Fault",
    "FaultServer",
    "Recorded",
    "ToolCall",
    "VirtualClock",
    "VirtualLoop",
    "faults",
    "reroute_config",
    "run_virtual",
]

__getattr__ = forward_names(__name__, __name__, {"Answer": "CannedResponse", "rerouted": "reroute_config"})
