"""Moved to `modelhub.core.stream`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names("modelhub.stream", "modelhub.core.stream", {"on_settled": "add_done_callback"})
