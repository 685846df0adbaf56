"""DashScope's international prices, which the published table of genai-prices lacks.

US dollars per million tokens, in the international regions; the mainland has other ones, in yuan. Looked up on
2026-11-29 in the table that LiteLLM 1.108.7 ships (MIT), which names the vendor's own pages as its source.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["PRICES_DATE", "PriceStep", "find_prices"]

PRICES_DATE = "2026-11-29"


class PriceStep(NamedTuple):
    """Prices of a million tokens in a call with more than `over` input tokens (-1: any); "" if there is no such price.

    `thinking` is the price of output tokens when the model thinks.
    """

    over: int
    input: str
    output: str
    thinking: str = ""
    cache_read: str = ""
    cache_write: str = ""


def find_prices(model_name: str, address: str | None) -> tuple[PriceStep, ...] | None:
    """Return the prices of *model_name* at *address*, None where they are not known."""
    host = urlsplit(address or "").hostname or ""
    is_abroad = host in {"dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com"}
    if host.endswith(".maas.aliyuncs.com"):
        is_abroad = not host.split(".")[-4].startswith("cn-")
    return _PRICES.get(model_name) if is_abroad else None


_PRICES: dict[str, tuple[PriceStep, ...]] = {
    "deepseek-v4-flash": (PriceStep(-1, "0.2", "0.4", "", "0.04"),),
    "deepseek-v4-flash-0731": (PriceStep(-1, "0.2", "0.4", "", "0.04"),),
    "deepseek-v4-pro": (PriceStep(-1, "2.4", "4.8", "", "0.2"),),
    "glm-5.1": (PriceStep(-1, "1.4", "4.4", "", "0.26"),),
    "glm-5.2": (PriceStep(-1, "1.4", "4.4", "", "0.28"),),
    "kimi-k2.7-code": (PriceStep(-1, "0.95", "4", "", "0.19"),),
    "qwen-coder": (PriceStep(-1, "0.3", "1.5"),),
    "qwen-flash": (PriceStep(-1, "0.05", "0.4"), PriceStep(256000, "0.25", "2")),
    "qwen-flash-2025-07-28": (PriceStep(-1, "0.05", "0.4"), PriceStep(256000, "0.25", "2")),
    "qwen-max": (PriceStep(-1, "1.6", "6.4"),),
    "qwen-plus": (PriceStep(-1, "0.4", "1.2"),),
    "qwen-plus-2025-01-25": (PriceStep(-1, "0.4", "1.2"),),
    "qwen-plus-2025-04-28": (PriceStep(-1, "0.4", "1.2", "4"),),
    "qwen-plus-2025-07-14": (PriceStep(-1, "0.4", "1.2", "4"),),
    "qwen-plus-2025-07-28": (PriceStep(-1, "0.4", "1.2", "4"), PriceStep(256000, "1.2", "3.6", "12")),
    "qwen-plus-2025-09-11": (PriceStep(-1, "0.4", "1.2", "4"), PriceStep(256000, "1.2", "3.6", "12")),
    "qwen-plus-latest": (PriceStep(-1, "0.4", "1.2", "4"), PriceStep(256000, "1.2", "3.6", "12")),
    "qwen-turbo": (PriceStep(-1, "0.05", "0.2", "0.5"),),
    "qwen-turbo-2024-11-01": (PriceStep(-1, "0.05", "0.2"),),
    "qwen-turbo-2025-04-28": (PriceStep(-1, "0.05", "0.2", "0.5"),),
    "qwen-turbo-latest": (PriceStep(-1, "0.05", "0.2", "0.5"),),
    "qwen3-coder-flash": (
        PriceStep(-1, "0.3", "1.5", "", "0.08"),
        PriceStep(32000, "0.5", "2.5", "", "0.12"),
        PriceStep(128000, "0.8", "4", "", "0.2"),
        PriceStep(256000, "1.6", "9.6", "", "0.4"),
    ),
    "qwen3-coder-flash-2025-07-28": (
        PriceStep(-1, "0.3", "1.5"),
        PriceStep(32000, "0.5", "2.5"),
        PriceStep(128000, "0.8", "4"),
        PriceStep(256000, "1.6", "9.6"),
    ),
    "qwen3-coder-plus": (
        PriceStep(-1, "1", "5", "", "0.1"),
        PriceStep(32000, "1.8", "9", "", "0.18"),
        PriceStep(128000, "3", "15", "", "0.3"),
        PriceStep(256000, "6", "60", "", "0.6"),
    ),
    "qwen3-coder-plus-2025-07-22": (
        PriceStep(-1, "1", "5"),
        PriceStep(32000, "1.8", "9"),
        PriceStep(128000, "3", "15"),
        PriceStep(256000, "6", "60"),
    ),
    "qwen3-max": (PriceStep(-1, "1.2", "6"), PriceStep(32000, "2.4", "12"), PriceStep(128000, "3", "15")),
    "qwen3-max-2026-01-23": (PriceStep(-1, "1.2", "6"), PriceStep(32000, "2.4", "12"), PriceStep(128000, "3", "15")),
    "qwen3-max-preview": (PriceStep(-1, "1.2", "6"), PriceStep(32000, "2.4", "12"), PriceStep(128000, "3", "15")),
    "qwen3-next-80b-a3b-instruct": (PriceStep(-1, "0.15", "1.2"),),
    "qwen3-next-80b-a3b-thinking": (PriceStep(-1, "0.15", "1.2"),),
    "qwen3-vl-235b-a22b-instruct": (PriceStep(-1, "0.4", "1.6"),),
    "qwen3-vl-235b-a22b-thinking": (PriceStep(-1, "0.4", "4"),),
    "qwen3-vl-32b-instruct": (PriceStep(-1, "0.16", "0.64"),),
    "qwen3-vl-32b-thinking": (PriceStep(-1, "0.16", "2.87"),),
    "qwen3-vl-plus": (PriceStep(-1, "0.2", "1.6"), PriceStep(32000, "0.3", "2.4"), PriceStep(128000, "0.6", "4.8")),
    "qwen3.5-plus": (PriceStep(-1, "0.4", "2.4"), PriceStep(256000, "0.5", "3")),
    "qwen3.7-max": (PriceStep(-1, "2.5", "7.5", "", "0.5", "3.125"),),
    "qwen3.7-plus": (PriceStep(-1, "0.4", "1.6", "", "0.08"), PriceStep(256000, "1.2", "4.8", "", "0.24")),
    "qwen3.8-flash": (PriceStep(-1, "0.15", "0.47", "", "0.016", "0.2"),),
    "qwen3.8-max": (PriceStep(-1, "2", "6", "", "0.25"),),
    "qwen3.8-omni-flash": (PriceStep(-1, "0.15", "0.47", "", "0.016"),),
    "qwq-plus": (PriceStep(-1, "0.8", "2.4"),),
}
