"""Settings that contradict each other, or cannot be meant, are errors with place and suggestion."""

import pytest

from modelhub.config.load import load_text
from modelhub.core.errors import ConfigError
from tests.tables import table

HEAD = "version: 1\nmodels:\n  ok: {provider: scripted, reply: x}\n"


def problem_of(text):
    with pytest.raises(ConfigError) as caught:
        load_text(HEAD + text, environ={})
    (problem,) = caught.value.problems
    return problem


CASES = {
    "first_token over total": (
        "  a: {provider: scripted, timeout: {first_token: 30s, total: 10s}}\n",
        (4, 50, "`first_token: 30s` is longer than `total: 10s`", "at most `total`"),
    ),
    "initial_wait over max_wait": (
        "defaults: {retry: {initial_wait: 5s, max_wait: 1s}}\n",
        (4, 34, "`initial_wait: 5s` is longer than `max_wait: 1s`", "at most `max_wait`"),
    ),
    "reply and steps": (
        "  a: {provider: scripted, reply: x, steps: [{say: y}]}\n",
        (4, 37, "`steps` and `reply` are both set", "keep one"),
    ),
    "a parameter of ours": (
        "  a: {provider: ollama, model_name: m, generate_kwargs: {model: n}}\n",
        (4, 58, "`model` cannot be set in `generate_kwargs`", "model_name"),
    ),
    "a name with a line break": (
        '  a: {provider: ollama, model_name: "a\\nb"}\n',
        (4, 37, "`model_name` contains a line break", "one line"),
    ),
    "two addresses": (
        "  a: {provider: ollama, model_name: m, host: h1, base_url: h2}\n",
        (4, 40, "`host` and `base_url` are two names for the same setting", "keep one"),
    ),
    "an unknown server": (
        "  a: {provider: openai, model_name: m, compat: deepsek}\n",
        (4, 48, "there is no such server", "did you mean `deepseek`?"),
    ),
    "an unknown failure": (
        "chains: {c: {models: [ok], fallback_on: [ContentBloked]}}\n",
        (4, 42, "unknown failure `ContentBloked` in `fallback_on`", "did you mean `ContentBlocked`?"),
    ),
    "a failure in both": (
        "chains: {c: {models: [ok], fallback_on: [ContentBlocked], no_fallback_on: [ContentBlocked]}}\n",
        (4, 76, "`ContentBlocked` is in `fallback_on` too", "keep it in one"),
    ),
    "the end of a chain": (
        "chains: {c: {models: [ok], no_fallback_on: [AllModelsFailed]}}\n",
        (4, 45, "`AllModelsFailed` in `no_fallback_on`", "failures of models"),
    ),
    "a budget in dollars without a price": (
        "  a: {provider: ollama, model_name: m}\nbudgets: {day: {usd: 5, per: day}}\n",
        (5, 17, "the price of `a` is unknown", "on_unpriced: allow"),
    ),
}


@table(("text", "expected"), CASES.values(), ids=CASES)
def test_a_contradiction_is_an_error(text, expected):
    """With line, column and what to do."""
    problem = problem_of(text)
    line, column, message, hint = expected
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert hint in problem.hint


@table(
    "text",
    [
        "  a: {provider: scripted, timeout: {total: 10s}}\n",
        "  a: {provider: scripted, timeout: {total: 10s}}\ndefaults: {timeout: {first_token: 20s}}\n",
        "  a: {provider: scripted, retry: {max_wait: 0}}\n",
        "  a: {provider: ollama, model_name: m, host: h1, base_url: h1}\n",
        "  a: {provider: ollama, model_name: m}\nbudgets: {day: {usd: 5, per: day, on_unpriced: allow}}\n",
        "  a: {provider: ollama, model_name: m}\nbudgets: {day: {usd: 5, per: day, model: ok}}\n",
        "  a: {provider: ollama, model_name: m, pricing: {input: 0, output: 0}}\nbudgets: {day: {usd: 5, per: day}}\n",
        "  a: {provider: ollama, model_name: m}\nbudgets: {day: {tokens: 5, per: day}}\n",
    ],
)
def test_what_only_looks_like_one_is_none(text):
    """A default that nobody wrote beside the value, the same address twice, a budget that needs no price."""
    assert load_text(HEAD + text, environ={}).models


@table(
    ("name", "hint"),
    [
        ("azure", "client_type: azure"),
        ("openrouter", "base_url: https://openrouter.ai/api/v1"),
        ("vertex", "vertexai: true"),
        ("groq", "base_url: https://api.groq.com/openai/v1"),
        ("google", "provider: gemini"),
        ("claude", "provider: anthropic"),
        ("bedrock", "not offered"),
        ("Azure_OpenAI", "client_type: azure"),
    ],
)
def test_a_vendor_that_is_done_elsewhere_is_named_there(name, hint):
    """People name vendors; the suggestion says how each is written."""
    problem = problem_of(f"  a: {{provider: {name}, model_name: m}}\n")
    assert hint in problem.hint
