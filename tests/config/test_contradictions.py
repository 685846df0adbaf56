"""Settings that contradict each other, or cannot be meant, are errors with place and suggestion."""

import re

import pytest
import yaml

from modelhub.config.load import load_text
from modelhub.core.errors import ConfigError
from modelhub.providers.openai.servers import SERVERS
from modelhub.registry import list_providers
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
    "parameters that are no mapping": (
        "  a: {provider: ollama, model_name: m, generate_kwargs: 3}\n",
        (4, 57, "`generate_kwargs: 3` must be a mapping", "for example"),
    ),
    "members that are no list, of a chain with a budget in dollars": (
        "chains: {c: {models: 2.5}}\nbudgets: {b: {usd: 1, per: day, chain: c}}\n",
        (4, 22, "`models: 2.5` must be a list", ""),
    ),
    "failures that are no list, beside a list of others": (
        "chains: {c: {models: [ok], fallback_on: 3, no_fallback_on: [TimedOut]}}\n",
        (4, 41, "`fallback_on: 3` must be a list", ""),
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
    "Azure without an address": (
        "  a: {provider: openai, model_name: m, compat: azure, api_key: kkkkkkkk}\n",
        (4, 48, "this server has no usual address", "give `base_url`, such as https://NAME.openai.azure.com/openai/v1"),
    ),
    "any server without an address": (
        "  a: {provider: openai, model_name: m, base_url: '', compat: generic}\n",
        (4, 62, "this server has no usual address", "give `base_url`, such as https://models.example.com/v1"),
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
        "  a: {provider: openai, model_name: m, compat: generic, client_args: {base_url: 'http://localhost:1/v1'}}\n",
        "  a: {provider: openai, model_name: m, compat: azure, client_type: azure}\n",
        "  a: {provider: openai, model_name: m, compat: azure, base_url: '${NOT_SET}'}\n",
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


VENDORS = {
    "azure": {"base_url": "https://NAME.openai.azure.com/openai/v1"},
    "Azure_OpenAI": {"base_url": "https://NAME.openai.azure.com/openai/v1"},
    "aws-bedrock": {
        "base_url": "https://bedrock-runtime.REGION.amazonaws.com/openai/v1",
        "api_key": "${AWS_BEARER_TOKEN_BEDROCK}",
    },
    "vertex": {"client_args": {"vertexai": True, "project": "my-project", "location": "europe-west4"}},
    "google": {"provider": "gemini"},
    "claude": {"provider": "anthropic"},
    "qwen": {"provider": "dashscope"},
    "chatgpt": {"provider": "openai"},
    "lm-studio": {"compat": "lmstudio"},
    "z.ai": {"compat": "zai"},
    "litellm": {"base_url": "http://localhost:4000/v1"},
    **{name: {"compat": name} for name in SERVERS if name not in {*list_providers(), "azure", "generic"}},
}


@table(("name", "settings"), VENDORS.items(), ids=[*VENDORS])
def test_what_is_advised_for_a_vendor_that_is_no_provider_is_an_entry(name, settings):
    """People name vendors; the suggestion says how each is written, and what it says loads."""
    problem = problem_of(f"  a: {{provider: {name}, model_name: m}}\n")
    advised = {}
    for setting in re.findall("`(.*?)`", problem.hint):
        advised |= yaml.safe_load(setting)
    assert advised.items() >= settings.items()
    text = yaml.safe_dump({"a": {**advised, "model_name": "m"}}, default_flow_style=True, width=1000)
    options = load_text(f"version: 1\nmodels: {text}", environ={}).models["a"].options
    assert options.provider == advised["provider"]
