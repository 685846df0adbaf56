"""Named chat models and fallback chains from one YAML file, behind one async call."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelhub.version import __version__

if TYPE_CHECKING:
    from modelhub.core.errors import (
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
        RequestRefused,
        ServerError,
        StreamBroken,
        TimedOut,
        TooSlow,
        TotalTimeout,
        UnknownFailure,
        UnknownModel,
        UnsupportedFeature,
    )
    from modelhub.core.model import ChatModelBase, Layer
    from modelhub.core.response import Attempt, ChatResponse, ChatUsage
    from modelhub.core.row_result import MapProgress, RowResult
    from modelhub.core.row_stream import RowStream
    from modelhub.core.stream import ChatStream
    from modelhub.hub import Hub
    from modelhub.middleware.chain.layer import Chain
    from modelhub.providers.anthropic import AnthropicChatModel
    from modelhub.providers.dashscope import DashScopeChatModel
    from modelhub.providers.gemini import GeminiChatModel
    from modelhub.providers.ollama import OllamaChatModel
    from modelhub.providers.openai import OpenAIChatModel
    from modelhub.providers.scripted import ScriptedChatModel

__all__ = [
    "Hub",
    "ChatModelBase",
    "Layer",
    "ChatStream",
    "Attempt",
    "ChatResponse",
    "ChatUsage",
    "RowStream",
    "RowResult",
    "MapProgress",
    "Chain",
    "OpenAIChatModel",
    "AnthropicChatModel",
    "DashScopeChatModel",
    "OllamaChatModel",
    "GeminiChatModel",
    "ScriptedChatModel",
    "AllModelsFailed",
    "AuthenticationFailed",
    "BadReply",
    "BreakerOpen",
    "BudgetExceeded",
    "CallError",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "ConnectTimeout",
    "ContentBlocked",
    "ContextTooLong",
    "DeadlineExceeded",
    "FirstTokenTimeout",
    "HubClosed",
    "IdleTimeout",
    "InvalidRequest",
    "RequestRefused",
    "LimitRejected",
    "ModelHubError",
    "ModelNotFound",
    "NotConfigured",
    "Overloaded",
    "QuotaExhausted",
    "RateLimited",
    "ServerError",
    "StreamBroken",
    "TimedOut",
    "TooSlow",
    "TotalTimeout",
    "UnknownFailure",
    "UnknownModel",
    "UnsupportedFeature",
    "__version__",
]

_ROOMS = {
    "Hub": "modelhub.hub",
    "ChatModelBase": "modelhub.core.model",
    "Layer": "modelhub.core.model",
    "ChatStream": "modelhub.core.stream",
    "Attempt": "modelhub.core.response",
    "ChatResponse": "modelhub.core.response",
    "ChatUsage": "modelhub.core.response",
    "RowStream": "modelhub.core.row_stream",
    "RowResult": "modelhub.core.row_result",
    "MapProgress": "modelhub.core.row_result",
    "Chain": "modelhub.middleware.chain.layer",
    "OpenAIChatModel": "modelhub.providers.openai",
    "AnthropicChatModel": "modelhub.providers.anthropic",
    "DashScopeChatModel": "modelhub.providers.dashscope",
    "OllamaChatModel": "modelhub.providers.ollama",
    "GeminiChatModel": "modelhub.providers.gemini",
    "ScriptedChatModel": "modelhub.providers.scripted",
}


def __getattr__(name: str) -> Any:
    # A name is loaded when it is first used: who wants one provider does not pay for the others.
    if name not in __all__:
        raise AttributeError(f"module 'modelhub' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_ROOMS.get(name, "modelhub.core.errors")), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
