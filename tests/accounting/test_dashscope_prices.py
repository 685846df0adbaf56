"""DashScope's prices abroad, and names whose price is not known."""

from decimal import Decimal

from modelhub.accounting.prices import PriceBook
from modelhub.core.response import ChatUsage
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.openai import OpenAIChatModel
from modelhub.providers.scripted import ScriptedChatModel
from tests.tables import table

ABROAD = "https://dashscope-intl.aliyuncs.com/api/v1"


def cost_of(model, **usage):
    price = PriceBook().price(model)
    return None if price is None else price.cost(ChatUsage(**usage))


@table(
    ("name", "usage", "cost"),
    [
        ("qwen-plus", {"input_tokens": 1_000_000, "output_tokens": 1_000_000}, "1.6"),
        ("qwen-flash", {"input_tokens": 200_000, "output_tokens": 0}, "0.01"),
        ("qwen-flash", {"input_tokens": 300_000, "output_tokens": 0}, "0.075"),
        ("qwen-turbo", {"input_tokens": 0, "output_tokens": 1_000_000, "reasoning_tokens": 10}, "0.5"),
        ("qwen3.7-max", {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_tokens": 1_000_000}, "0.5"),
        ("qwen-of-tomorrow", {"input_tokens": 1, "output_tokens": 1}, None),
    ],
)
def test_a_model_abroad_has_the_vendors_price(name, usage, cost):
    """By the length of the input, and by whether it thinks; one that is not in the table has none."""
    found = cost_of(DashScopeChatModel(name, "k", base_url=ABROAD), **usage)
    assert found == (None if cost is None else Decimal(cost))


def test_the_mainlands_prices_are_not_known():
    """They are other ones, in yuan."""
    assert cost_of(DashScopeChatModel("qwen-plus", "k"), input_tokens=1, output_tokens=1) is None


def test_the_price_holds_at_the_compatible_address_too():
    """The same models behind OpenAI's API."""
    model = OpenAIChatModel("qwen-plus", "k", base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1")
    assert cost_of(model, input_tokens=1_000_000, output_tokens=0) == Decimal("0.4")


def test_a_fine_tuned_model_never_has_its_bases_price():
    """It finds its own, or none."""
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    tuned = cost_of(OpenAIChatModel("ft:gpt-4o-mini-2024-07-18:org::x", "k"), **usage)
    base = cost_of(OpenAIChatModel("gpt-4o-mini", "k"), **usage)
    assert tuned is None or tuned != base
    assert cost_of(OpenAIChatModel("ft:gpt-9-of-tomorrow:org::x", "k"), **usage) is None


def test_a_scripted_answer_costs_nothing():
    """No vendor charges for it."""
    assert cost_of(ScriptedChatModel("gpt-5", reply="x"), input_tokens=9, output_tokens=9) == 0
