"""The section `serve:` of the file: how the hub is served as an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import Options, Secret

__all__ = ["KeyOptions", "ServeOptions"]


class KeyOptions(Options):
    """A bearer key of clients. Their calls have its tags, and the tag `key` with its name."""

    key: Secret
    """The key that clients send, such as `${TEAM_A_KEY}`. An empty key lets nobody in."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of every call with this key, such as `{team: search}`; a budget with `tag: team=search` counts them, and one
    with `tag: key=NAME` counts the calls of this key alone."""
    models: list[str] | None = None
    """The models and chains that clients with this key may call; all that are served if not given."""


class ServeOptions(Options):
    """How `modelhub serve` and `modelhub.integrations.asgi` serve the hub as an OpenAI-compatible endpoint."""

    keys: dict[str, KeyOptions] = Field(default_factory=dict)
    """Bearer keys by name. Without any, every client that can reach the endpoint may call it."""
    models: list[str] | None = None
    """The models and chains that are served; all of them if not given."""
    parameters: list[str] = Field(default_factory=list)
    """Further parameters of a request, by name, that are passed on to the vendors, beside OpenAI's own."""
    max_request_bytes: Annotated[int, Field(ge=1024, le=1_000_000_000)] = 33_554_432
    """How many bytes a request may have, images included."""
