"""Moved to `modelhub.core.errors`; this module goes with the next release."""

from modelhub._deprecated import forward_names

__getattr__ = forward_names(
    "modelhub.errors",
    "modelhub.core.errors",
    {"Verdict": "FailurePolicy", "Retry": "RetryRule", "Breaker": "BreakerEffect", "Billed": "Chargeable"},
)
