"""Moved to `modelhub.core.events`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names(
    "modelhub.events", "modelhub.core.events", {"CallSettled": "CallEnded", "How": "CompletionStatus"}
)
