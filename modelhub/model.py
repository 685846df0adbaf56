"""Moved to `modelhub.core.model`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names("modelhub.model", "modelhub.core.model")
