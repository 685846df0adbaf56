"""Moved to `modelhub.core.context`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names(
    "modelhub.context", "modelhub.core.context", {"Followed": "CallSpan", "Follower": "Instrumentation"}
)
