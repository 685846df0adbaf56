"""The options of the section `shared:`."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from modelhub.options import Duration, Options, Secret

__all__ = ["SharedOptions", "WhenDownOptions"]

_SCHEMES = ("redis", "rediss", "unix")


def _check_url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        is_address = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address:
        raise PydanticCustomError("url", "expected an address such as redis://host:6379/0, rediss:// or unix:///path")
    return url


class WhenDownOptions(Options):
    """What happens while the store of `shared:` cannot be reached."""

    limits: Literal["split", "refuse", "alone"] = "split"
    """`split`: each process keeps to its part of every limit, one part for each of `replicas`. `refuse`: attempts at
    models with a limit are refused, so that a chain asks its models without one. `alone`: each process keeps to the
    whole limit by itself, so that together they may exceed it."""
    budgets: Literal["refuse", "alone"] = "refuse"
    """`refuse`: calls that a budget counts are refused. `alone`: each process counts by itself, and by the ledger."""


class SharedOptions(Options):
    """Where limits, cooldowns and budgets are kept that hold over several processes and machines."""

    url: Annotated[Secret, AfterValidator(_check_url)]
    """The address of a Redis (6.2 or later) or Valkey server, such as `${REDIS_URL}`: `redis://host:6379/0`, `rediss://`
    for TLS, or `unix:///path`."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$", max_length=60, examples=["my-app"])] = "modelhub"
    """The prefix of all keys and channels in the store. Limits of the same prefix and name are shared."""
    when_down: WhenDownOptions = Field(default_factory=WhenDownOptions)
    """What happens while the store cannot be reached: which processes may do what without it."""
    replicas: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """By how many `split` divides a limit, at least: how many processes there may be. If the store counted more in
    the minute before it went down, by as many as that. Without `replicas`, by as many as it counted; a process that had
    not reached it in that minute knows of no number, and refuses."""
    timeout: Annotated[float, Duration(0.01, 10)] = 0.5
    """How long the store may take to answer; after that, it counts as down."""
    retry_interval: Annotated[float, Duration(0.05, 60)] = 1.0
    """How often a store that is down is tried again."""
    lease: Annotated[float, Duration(0.1, 3600)] = 30.0
    """After what time the slots of a process that was killed are free again. While an attempt lasts, its slot is
    renewed three times in this time."""
