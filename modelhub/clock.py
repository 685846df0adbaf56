"""Moved to `modelhub.core.clock`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names("modelhub.clock", "modelhub.core.clock")
