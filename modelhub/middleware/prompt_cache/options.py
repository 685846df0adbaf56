"""Where a request is marked for the vendor's prompt cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelhub.options import Duration, LayerOptions

__all__ = ["Place", "PromptCacheOptions"]

Place = Literal["tools", "system", "last"]


class PromptCacheOptions(LayerOptions):
    """Where to mark requests for the vendor's prompt cache. Vendors without such marks are sent none."""

    mark: tuple[Place, ...] = ("tools", "system", "last")
    """What to mark: the last of the `tools`, the end of the `system` message, the `last` message. A request has at most
    four marks; the caller's own (`cache_control` on blocks, messages and tools) take precedence."""
    ttl: Annotated[float, Duration(300, 86_400)] = 300.0
    """How long the vendor should keep what is marked. From `1h` on, one hour is asked for where the vendor has that
    choice (Anthropic); else the vendor's usual time, such as five minutes."""
    key: Annotated[str, Field(pattern=r"^tag:.+$")] | None = Field(default=None, examples=["tag:session"])
    """The tag whose value goes to OpenAI as `prompt_cache_key`, such as `tag:session`: requests with the same value are
    sent to the same cache."""
