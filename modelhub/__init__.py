"""Named chat models and fallback chains from one YAML file, behind one async call."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelhub.errors import (
        AllModelsFailed,
        AuthenticationFailed,
        BadReply,
        BreakerOpen,
        BudgetExceeded,
        CallError,
        ConfigError,
        ConnectFailed,
        ConnectionLost,
        ConnectTimeout,
        ContentBlocked,
        ContextTooLong,
        DeadlineExceeded,
        FirstTokenTimeout,
        HubClosed,
        IdleTimeout,
        InvalidRequest,
        LimitRejected,
        ModelHubError,
        ModelNotFound,
        NotConfigured,
        Overloaded,
        QuotaExhausted,
        RateLimited,
        ServerError,
        StreamBroken,
        TimedOut,
        TotalTimeout,
        UnknownFailure,
        UnknownModel,
        UnsupportedFeature,
    )
    from modelhub.hub import Hub
    from modelhub.middleware.chain import Chain
    from modelhub.model import ChatModelBase, Layer
    from modelhub.providers.openai import OpenAIChatModel
    from modelhub.providers.scripted import ScriptedChatModel
    from modelhub.response import Attempt, ChatResponse, ChatUsage
    from modelhub.stream import ChatStream

_ROOMS = {
    "modelhub.hub": ["Hub"],
    "modelhub.model": ["ChatModelBase", "Layer"],
    "modelhub.stream": ["ChatStream"],
    "modelhub.response": ["Attempt", "ChatResponse", "ChatUsage"],
    "modelhub.middleware.chain": ["Chain"],
    "modelhub.providers.openai": ["OpenAIChatModel"],
    "modelhub.providers.scripted": ["ScriptedChatModel"],
    "modelhub.errors": [
        "ModelHubError",
        "ConfigError",
        "UnknownModel",
        "HubClosed",
        "CallError",
        "NotConfigured",
        "ConnectFailed",
        "ConnectionLost",
        "TimedOut",
        "ConnectTimeout",
        "FirstTokenTimeout",
        "IdleTimeout",
        "TotalTimeout",
        "RateLimited",
        "QuotaExhausted",
        "Overloaded",
        "ServerError",
        "InvalidRequest",
        "UnsupportedFeature",
        "ModelNotFound",
        "AuthenticationFailed",
        "ContextTooLong",
        "ContentBlocked",
        "BadReply",
        "StreamBroken",
        "LimitRejected",
        "BreakerOpen",
        "BudgetExceeded",
        "DeadlineExceeded",
        "UnknownFailure",
        "AllModelsFailed",
    ],
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"
__all__ = [*_ROOM_OF, "__version__"]  # noqa: PLE0604 - all names are strings, kept in one place


def __getattr__(name: str) -> Any:
    # A name is loaded when it is first used: who wants one provider does not pay for the others.
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'modelhub' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(room), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
