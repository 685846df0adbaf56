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

_MODULES = {
    "modelhub.hub": ("Hub",),
    "modelhub.core.model": ("ChatModelBase", "Layer"),
    "modelhub.core.stream": ("ChatStream",),
    "modelhub.core.response": ("Attempt", "ChatResponse", "ChatUsage"),
    "modelhub.core.row_stream": ("RowStream",),
    "modelhub.core.row_result": ("RowResult", "MapProgress"),
    "modelhub.middleware.chain.layer": ("Chain",),
    "modelhub.providers.openai": ("OpenAIChatModel",),
    "modelhub.providers.anthropic": ("AnthropicChatModel",),
    "modelhub.providers.dashscope": ("DashScopeChatModel",),
    "modelhub.providers.ollama": ("OllamaChatModel",),
    "modelhub.providers.gemini": ("GeminiChatModel",),
    "modelhub.providers.scripted": ("ScriptedChatModel",),
}
"""The modules with public names; the names that stand in none of these are those of `modelhub.core.errors`."""


def __getattr__(name: str) -> Any:
    # A name is loaded when it is first used: who wants one provider does not pay for the others.
    if name not in __all__:
        raise AttributeError(f"module 'modelhub' has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "modelhub.core.errors")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
