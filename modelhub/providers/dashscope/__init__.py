"""Alibaba Cloud's models by DashScope's native API."""

from modelhub.providers.dashscope.options import DashScopeOptions
from modelhub.providers.dashscope.provider import DashScopeChatModel

__all__ = ["DashScopeChatModel", "DashScopeOptions"]
