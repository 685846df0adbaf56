"""Moved to `modelhub.core.response`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names("modelhub.response", "modelhub.core.response", {"Later": "Lazy"})
