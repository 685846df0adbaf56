"""What a call says holds for whichever model answers it: every parameter, from every vendor to every other.

The first model is down; the second one's server refuses whatever its vendor's SDK has no name for. Which parameters a
vendor lacks is written down here once more, from the vendors' manuals. Each parameter alone goes from one vendor to the
next, every second one in a stream; MODELHUB_LONG=1 sends it from each to each, both ways.
"""

import itertools
import os
import random

import pytest
from pydantic import BaseModel

from modelhub import Hub, UnsupportedFeature
from modelhub.core.context import Services
from modelhub.testing import FaultServer, VirtualClock, faults, run_virtual
from modelhub.testing.reroute import reroute_config
from tests.tables import table

VENDORS = {
    "openai": {"provider": "openai", "model_name": "gpt-4.1", "api": "chat"},
    "openai_responses": {"provider": "openai", "model_name": "gpt-5.1", "api": "responses"},
    "anthropic": {"provider": "anthropic", "model_name": "claude-sonnet-4-5", "max_tokens": 4096},
    "gemini": {"provider": "gemini", "model_name": "gemini-2.5-flash"},
    "dashscope": {"provider": "dashscope", "model_name": "qwen-plus"},
    "ollama": {"provider": "ollama", "model_name": "qwen3:8b"},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
PARAMETERS = {
    "max_tokens": 3000,
    "max_completion_tokens": 3000,
    "temperature": 0.3,
    "top_p": 0.9,
    "top_k": 20,
    "stop": ["END"],
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "reasoning_effort": "medium",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "user": "user-1",
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "service_tier": "default",
}
LACKING = {
    "openai": {"top_k", "reasoning_effort"},  # gpt-4.1 does not reason
    "openai_responses": {"top_k", "stop", "seed", "presence_penalty", "frequency_penalty", "logprobs", "n"},
    "anthropic": {"seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "n"},
    "gemini": {"user", "parallel_tool_calls"},
    "dashscope": {"frequency_penalty", "user", "service_tier"},
    "ollama": {"parallel_tool_calls", "user", "n", "service_tier"},
}
UNTAKEN_WHILE_THINKING = {
    "openai_responses": {"temperature", "top_p", "top_logprobs"},
    "anthropic": {"temperature", "top_p", "top_k"},
}
FOREIGN = {
    "openai": {"logit_bias": {"50256": -100}, "prompt_cache_key": "k", "verbosity": "low"},
    "openai_responses": {"text": {"verbosity": "low"}, "truncation": "auto", "max_output_tokens": 50},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["END"]},
    "gemini": {"thinking_config": {"thinking_budget": 0}, "max_output_tokens": 50, "safety_settings": []},
    "dashscope": {"enable_search": True, "repetition_penalty": 1.1},
    "ollama": {"options": {"num_ctx": 4096}, "keep_alive": "1m", "num_predict": 50},
}
SHARED = {
    "openai": {"max_output_tokens"},
    "openai_responses": {"max_output_tokens", "prompt_cache_key", "verbosity"},
    "anthropic": set(),
    "gemini": {"max_output_tokens", "stop_sequences"},
    "dashscope": set(),
    "ollama": set(),
}
"""What a vendor takes by the same name as another, or is written as its own."""
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
PAIRS = list(itertools.product(VENDORS, VENDORS))
NEIGHBOURS = list(zip(VENDORS, [*list(VENDORS)[1:], "openai"], strict=True))
LONG = bool(os.environ.get("MODELHUB_LONG"))


class Answer(BaseModel):
    """What is asked for."""

    a: str


def config(*vendors, **more):
    """A chain of *vendors*; no attempt is repeated, and no breaker opens."""
    names = [f"m{number}" for number, _ in enumerate(vendors)]
    entry = {"retry": {"max_attempts": 1}, "breaker": {"failures": 1000, "share": 1}}
    models = {name: {**VENDORS[vendor], **entry} for name, vendor in zip(names, vendors, strict=True)}
    return {"version": 1, "models": models, "chains": {"main": {"models": names}}, **more}


def play(rules, vendors, calls, **more):
    """What came of *calls* to a chain of *vendors*, the first one down: the last attempt and the body of each."""
    *_, last = vendors
    wrong = []

    def check(request):
        found = rules.problems(last, request.body, request.path)
        wrong.extend(found)
        return faults.status(400, message=f"Unknown parameter: {found}") if found else None

    async def ask():
        answers = []
        async with FaultServer('{"a": "fine"}') as server:
            for name in [f"m{number}" for number in range(len(vendors) - 1)]:
                server.script(name, faults.status(503))
            name = f"m{len(vendors) - 1}"
            server.script(name, check)
            services = Services(clock=VirtualClock(), random=random.Random(1))
            hub = Hub.from_dict(reroute_config(config(*vendors, **more), server), environ={}, services=services)
            async with hub:
                for given in calls:
                    reply = await hub.get("main")("hi", **given)
                    if given.get("stream"):
                        reply = await reply.final()
                    answers.append((reply.attempts[-1], server.requests(name)[-1].body))
        return answers

    answers = run_virtual(ask())
    assert wrong == []
    return answers


@table(("first", "second"), PAIRS if LONG else NEIGHBOURS, ids=lambda vendor: vendor)
@table("turn", [0, 1] if LONG else [0])
def test_whatever_a_call_says_the_next_model_answers(rules, first, second, turn):
    """Each parameter alone: the second model's vendor takes it or is not sent it, and the attempt says which."""
    streams = itertools.cycle([turn == 0, turn == 1])
    calls = [
        {name: value, "tools": [TOOL], "stream": stream}
        for (name, value), stream in zip(PARAMETERS.items(), streams, strict=False)
    ]
    for (attempt, _), name in zip(play(rules, (first, second), calls), PARAMETERS, strict=True):
        assert (attempt.model, attempt.outcome) == ("m1", "ok"), name
        assert set(attempt.dropped) == LACKING[second] & {name}, name


@table("second", VENDORS)
@table("more", [{}, {"tools": [TOOL]}, {"structured_model": Answer}], ids=["", "tools", "structured"])
def test_all_parameters_at_once_are_answered(rules, second, more):
    """What a vendor lacks is left out together, and what only goes with tools is no loss without them."""
    lacking = LACKING[second] | UNTAKEN_WHILE_THINKING.get(second, set())
    if "tools" not in more:
        lacking -= {"parallel_tool_calls"}
    ((attempt, _),) = play(rules, ("openai", second), [{**PARAMETERS, **more}])
    assert (attempt.outcome, set(attempt.dropped)) == ("ok", lacking)


@table(("first", "second"), PAIRS, ids=lambda vendor: vendor)
def test_another_vendors_own_names_are_left_out(rules, first, second):
    """A call that was written for one vendor is answered by the others, and each name of its own is told."""
    ((attempt, _),) = play(rules, (first, second), [FOREIGN[first]])
    taken = set(FOREIGN[first]) if first == second else SHARED[second]
    assert set(attempt.dropped) == set(FOREIGN[first]) - taken


@table("second", VENDORS)
def test_a_hub_may_refuse_what_is_not_supported(rules, second):
    """With `unsupported: refuse` a model that lacks a parameter is not asked, and the error names it."""
    lacking = {name: PARAMETERS[name] for name in LACKING[second]}
    calls = [{**lacking, "tools": [TOOL]}]
    with pytest.raises(UnsupportedFeature) as caught:
        play(rules, (second,), calls, parameters={"unsupported": "refuse"})
    assert all(f"`{name}`" in str(caught.value) for name in lacking)


SPELLED = {
    "openai_responses": lambda body: (body["max_output_tokens"], body["reasoning"], body["text"]["format"]),
    "openai": lambda body: (body["max_completion_tokens"], body["stop"], body["response_format"]),
    "anthropic": lambda body: (body["max_tokens"], body["stop_sequences"], body["thinking"]["budget_tokens"]),
    "gemini": lambda body: tuple(
        body["generationConfig"][name]
        for name in ("maxOutputTokens", "stopSequences", "thinkingConfig", "responseMimeType")
    ),
    "dashscope": lambda body: tuple(
        body["parameters"].get(name)
        for name in ("max_tokens", "stop", "enable_thinking", "thinking_budget", "response_format")
    ),
    "ollama": lambda body: (body["options"]["num_predict"], body["options"]["stop"], body["think"], body["format"]),
}
WRITTEN = {
    "openai_responses": (3000, {"effort": "medium"}, {"type": "json_object"}),
    "openai": (3000, ["END"], {"type": "json_object"}),
    "anthropic": (3000, ["END"], 1500),  # half of what the answer may have
    "gemini": (3000, ["END"], {"thinking_budget": 8192}, "application/json"),
    "dashscope": (3000, ["END"], True, 8192, None),  # no JSON mode while it thinks
    "ollama": (3000, ["END"], True, "json"),
}


@table("vendor", VENDORS)
def test_every_vendor_spells_in_its_own_way(rules, vendor):
    """Length, stops, effort and JSON, by each vendor's names; JSON in words where there is no mode."""
    asked = {name: PARAMETERS[name] for name in ("max_tokens", "stop", "reasoning_effort", "response_format")}
    ((attempt, body),) = play(rules, (vendor,), [asked])
    assert SPELLED[vendor](body) == WRITTEN[vendor]
    in_words = vendor in ("anthropic", "dashscope")
    assert ("one JSON object" in str(body)) == in_words == ("response_format" in attempt.rounded)
