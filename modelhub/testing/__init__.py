"""What modelhub is tested with, for your own tests too: vendors that fail on demand, and time that does not pass.

`FaultServer` speaks like the vendors and fails as `faults` say; `rerouted` points a configuration at it; `FAULTS` is
what a fire drill plays; `run_virtual` runs all of it in virtual time. Fixtures are in `modelhub.testing.pytest_plugin`.
"""

from modelhub.testing import faults
from modelhub.testing.drills import FAULTS, Drill
from modelhub.testing.faults import Fault
from modelhub.testing.reroute import rerouted
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
    "rerouted",
    "run_virtual",
]
