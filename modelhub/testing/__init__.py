"""What modelhub is tested with, for your own tests too."""

from modelhub.testing.time import VirtualClock, VirtualLoop, run_virtual

__all__ = ["VirtualClock", "VirtualLoop", "run_virtual"]
