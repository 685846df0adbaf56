"""Who may call what: bearer keys, the tags of their calls, and the models that they may name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelhub.config.schema import KeyOptions
from modelhub.integrations.asgi.errors import HttpError

__all__ = ["Access", "Client"]

KEY_TAG = "key"
"""The tag that has the name of the key of a call."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever sent a request: the *tags* of its calls, and the *models* it may call, in order."""

    models: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    def check_model(self, name: str) -> None:
        """Raise HttpError, as for a model that does not exist, if the client may not call *name*."""
        if name not in self.models:
            message = f"no model or chain is called `{name}` (there are: {', '.join(self.models)})"
            raise HttpError(404, message, code="model_not_found", param="model", headers={"x-should-retry": "false"})


class Access:
    """The keys of an endpoint that serves *models*; if it *is_open*, requests need none. Only hashes are kept."""

    def __init__(self, keys: Mapping[str, KeyOptions], models: Iterable[str], *, is_open: bool) -> None:
        self.models = tuple(models)
        self.is_open = is_open
        self._clients: dict[bytes, Client] = {}
        for name, options in keys.items():
            if not (secret := options.key.get_secret_value()):
                continue
            allowed = [model for model in self.models if options.models is None or model in options.models]
            self._clients[_hash(secret)] = Client(tuple(allowed), {**options.tags, KEY_TAG: name})

    def authenticate(self, authorization: str) -> Client:
        """Return who sends the header *authorization*, "" if there is none. Raises HttpError if no key is valid."""
        if self.is_open:
            return Client(self.models)
        scheme, _, secret = authorization.partition(" ")
        # The key is compared by its hash, so that the time it takes says nothing about it.
        client = self._clients.get(_hash(secret.strip())) if scheme.lower() == "bearer" else None
        if client is None:
            message = "the API key is not valid" if authorization else "an API key is needed: Authorization: Bearer ..."
            headers = {"www-authenticate": "Bearer", "x-should-retry": "false"}
            raise HttpError(401, message, code="invalid_api_key", headers=headers)
        return client


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
