"""Where a request is marked for the vendor's prompt cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelhub.options import Duration, LayerOptions

__all__ = ["Place", "PromptCacheOptions"]

Place = Literal["tools", "system", "last"]


class PromptCacheOptions(LayerOptions):
    """Where requests are marked for the vendor's prompt cache; a vendor without marks is sent none."""

    mark: tuple[Place, ...] = ("tools", "system", "last")
    """What is marked: the last of the `tools`, the end of the `system` message, the `last` message. A request has at
    most four marks, and the caller's own (`cache_control` on blocks, messages and tools) come first."""
    ttl: Annotated[float, Duration(300, 86_400)] = 300.0
    """How long what is marked should be kept: `5m`, or an hour or more at vendors that have a longer time."""
    key: Annotated[str, Field(pattern=r"^tag:.+$")] | None = None
    """The tag whose value goes to OpenAI as `prompt_cache_key`, such as `tag:session`: requests with the same value are
    sent to the same cache."""
