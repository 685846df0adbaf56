"""Parameters as the file sets them, as models refuse them, and what is learned from a refusal."""

import logging
import random

import pytest

from modelhub import ConfigError, Hub, InvalidRequest, RequestRefused, UnsupportedFeature
from modelhub.core.call_options import FOREIGN_KEYWORDS, parse_call_options
from modelhub.core.context import Services
from modelhub.core.events import ParameterChanged
from modelhub.logs import LogObserver
from modelhub.options import AskOptions
from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.openai import OpenAIChatModel
from modelhub.providers.vendor_parameters import VENDOR_PARAMETERS
from modelhub.testing import FaultServer, VirtualClock, faults, run_virtual
from modelhub.testing.reroute import reroute_config
from tests.tables import table

MODELS = {
    "openai": {"provider": "openai", "model_name": "a-deployment", "api": "chat", "compat": "openai"},
    "anthropic": {"provider": "anthropic", "model_name": "claude-sonnet-4-5", "max_tokens": 4096},
    "gemini": {"provider": "gemini", "model_name": "gemini-2.5-flash"},
    "dashscope": {"provider": "dashscope", "model_name": "qwen-plus"},
    "ollama": {"provider": "ollama", "model_name": "qwen3:8b"},
}
WIRE_NAMES = {"gemini": {"temperature": "temperature", "seed": "seed", "reasoning_effort": "thinkingConfig"}}
EFFORT_FIELDS = {
    "openai": "reasoning_effort",
    "anthropic": "thinking",
    "gemini": "thinking_budget",
    "dashscope": "enable_thinking",
    "ollama": "think",
}


def play(main, entry=None, *, vendor="openai", events=None, script=None, observers=(), **config):
    """What *main* gives for the hub, with one model of *vendor* and the keys of *entry*, and the fault server."""

    async def run():
        async with FaultServer("fine") as server:
            if script is not None:
                server.script("m", script)
            seen = [] if events is None else events
            services = Services(VirtualClock(), random.Random(1), (seen.append, *observers))
            entries = {"m": {**MODELS[vendor], "retry": {"max_attempts": 1}, **(entry or {})}}
            hub = Hub.from_dict(
                reroute_config({"version": 1, "models": entries, **config}, server), environ={}, services=services
            )
            async with hub:
                return await main(hub, server)

    return run_virtual(run())


def body_of(entry=None, *, vendor="openai", ask=None, **config):
    """The body of a request that says *ask*, to one model."""

    async def main(hub, server):
        await hub.get("chain" if "chains" in config else "m")("hi", **(ask or {}))
        return server.requests("m")[-1].body

    return play(main, entry, vendor=vendor, **config)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_nearer_word_counts():
    """The defaults, below the model's `ask`, below the chain's, below the call."""
    file = {
        "defaults": {"ask": {"seed": 1, "top_p": 0.1, "temperature": 0.1, "max_tokens": 1}},
        "chains": {"chain": {"models": ["m"], "ask": {"temperature": 0.3, "max_tokens": 3}}},
    }
    body = body_of(
        {"ask": {"top_p": 0.2, "temperature": 0.2, "max_tokens": 2}}, ask={"max_completion_tokens": 4}, **file
    )
    told = {name: body[name] for name in ("seed", "top_p", "temperature", "max_completion_tokens")}
    assert told == {"seed": 1, "top_p": 0.2, "temperature": 0.3, "max_completion_tokens": 4}


def test_an_inner_chain_says_what_the_outer_one_does_not():
    """Of chains in chains the outer one counts, as a call's word would."""
    chains = {
        "inner": {"models": ["m"], "ask": {"seed": 1, "top_p": 0.1}},
        "chain": {"models": ["inner"], "ask": {"seed": 2}},
    }
    body = body_of(chains=chains)
    assert (body["seed"], body["top_p"]) == (2, 0.1)


def test_an_entrys_own_fields_go_before_ask():
    """What the entry says in its vendor's words is nearer than what holds for all."""
    common = {"defaults": {"ask": {"max_tokens": 5, "reasoning_effort": "high"}}}
    assert body_of({"max_tokens": 300}, vendor="anthropic", **common)["max_tokens"] == 300
    assert body_of({"generate_kwargs": {"max_output_tokens": 7}}, vendor="gemini", **common)["generationConfig"] == {
        "maxOutputTokens": 7,
        "thinkingConfig": {"thinking_budget": 24_576},
    }


def test_a_call_takes_a_parameter_of_the_file_away():
    """None stands for nothing."""
    assert "temperature" not in body_of({"ask": {"temperature": 0.1}}, ask={"temperature": None})


@table("vendor", MODELS)
def test_what_a_call_says_of_effort_goes_before_the_vendors_words_in_the_file(vendor):
    """Also where the vendor calls it otherwise; what else stands in its object stays."""
    file = {
        "openai": {"reasoning_effort": "low"},
        "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "gemini": {"thinking_config": {"include_thoughts": True, "thinking_budget": 1}},
        "dashscope": {"enable_thinking": True, "generate_kwargs": {"thinking_budget": 1}},
        "ollama": {"enable_thinking": True},
    }
    body = body_of(file[vendor], vendor=vendor, ask={"reasoning_effort": "none"})
    told = {
        "openai": lambda: body["reasoning_effort"] == "none",
        "anthropic": lambda: body["thinking"] == {"type": "disabled"},
        "gemini": lambda: (
            body["generationConfig"]["thinkingConfig"] == {"include_thoughts": True, "thinking_budget": 0}
        ),
        "dashscope": lambda: body["parameters"] == {"result_format": "message", "enable_thinking": False},
        "ollama": lambda: body["think"] is False,
    }
    assert told[vendor](), body


def test_what_is_left_out_is_listed_as_the_file_says():
    """`takes` goes before what is known of the model, also where it lists the levels of effort, or none."""
    listed = {}
    for levels in (["low"], []):
        model = OpenAIChatModel("gpt-4o", api_key="k")
        model.takes = {"reasoning_effort": levels}
        listed[len(levels)] = model.list_unsupported_parameters().get("reasoning_effort")
    assert listed == {1: None, 0: "`takes` says so"}


def test_the_file_says_what_a_model_takes():
    """`takes` goes before what is known of the model and of its vendor, either way; levels are those it lists."""
    entry = {"model_name": "gpt-5", "takes": {"temperature": True, "seed": False, "reasoning_effort": ["high"]}}
    body = body_of(entry, ask={"temperature": 0.1, "top_p": 0.5, "seed": 1, "reasoning_effort": "low"})
    assert (body.get("temperature"), body.get("top_p"), body.get("seed")) == (0.1, None, None)
    assert body["reasoning_effort"] == "high"


@table("vendor", [*MODELS, "scripted"])
def test_a_model_that_sees_no_images_is_passed_over_for_a_call_with_one_only(vendor):
    """`takes: {images: false}` holds for any vendor, also for an image that a tool gave back; nothing is sent."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP"}}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    shown = {"role": "tool", "tool_call_id": "c", "content": [picture]}
    asked = [
        [{"role": "user", "content": [picture]}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}, shown],
    ]

    async def main(hub, server):
        for messages in asked:
            reply = await hub.get("chain")(messages)
            assert [attempt.outcome for attempt in reply.attempts] == ["UnsupportedFeature", "ok"]
        assert server.requests("m") == []
        assert (await hub.get("chain")("hi")).model == "m"

    models = {"m": {**(MODELS | {"scripted": {"provider": "scripted", "reply": "yes"}})[vendor]}}
    models["m"]["takes"] = {"images": False}
    models["seeing"] = {"provider": "scripted", "reply": "A dot."}
    play(main, models=models, chains={"chain": {"models": ["m", "seeing"]}})


@table(
    ("section", "words"),
    [
        ({"models": {"m": {**MODELS["gemini"], "ask": {"temprature": 1}}}}, "did you mean `temperature`"),
        ({"models": {"m": {**MODELS["gemini"], "ask": {"reasoning_effort": "hihg"}}}}, "did you mean `high`"),
        ({"models": {"m": {**MODELS["gemini"], "takes": {"tempature": False}}}}, "did you mean `temperature`"),
        ({"models": {"m": {**MODELS["gemini"], "temperature": 1}}}, "it belongs under `ask`"),
        ({"models": {"m": {**MODELS["openai"], "reasoning_effort": "hgih"}}}, "did you mean `high`"),
        ({"models": {"m": {**MODELS["openai"], "drop_params": True}}}, "`takes:` on the model"),
        ({"models": {"m": MODELS["gemini"]}, "parameters": {"unsupported": "dorp"}}, "did you mean `drop`"),
        ({"models": {"m": MODELS["gemini"]}, "chains": {"c": {"models": ["m"], "ask": {"seed": "x"}}}}, "seed"),
    ],
)
def test_what_is_wrong_with_parameters_in_the_file_is_told_at_load(section, words):
    """Names and values are checked, with what was probably meant."""
    with pytest.raises(ConfigError, match=words):
        Hub.from_dict({"version": 1, **section})


# -- mistakes in a call ------------------------------------------------------------------------------------------------

EFFORT = "expected `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`, got"


@table("vendor", MODELS)
@table(
    ("asked", "words"),
    [
        ({"reasoning_effort": "hgih"}, f"reasoning_effort: {EFFORT} `hgih`: did you mean `high`?"),
        ({"reasoning_effort": "sk-proj-0123456789abcdef"}, f"reasoning_effort: {EFFORT} str"),
        ({"max_tokens": "many"}, "max_tokens: expected a whole number over 0, got `many`"),
        ({"max_completion_tokens": -1}, "max_completion_tokens: expected a whole number over 0, got -1"),
        ({"max_tokens": 1.5}, "max_tokens: expected a whole number over 0, got 1.5"),
        ({"seed": True}, "seed: expected a whole number, got True"),
        ({"temperature": -0.1}, "temperature: expected a number from 0 on, got -0.1"),
        ({"top_p": 90}, "top_p: expected a number from 0 to 1, got 90"),
        ({"presence_penalty": "1"}, "presence_penalty: expected a number from -2 to 2, got `1`"),
        ({"stop": 7}, "stop: expected text or a list of texts, got 7"),
        ({"stop": [None]}, "stop: expected text or a list of texts, got list"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls: expected True or False, got `no`"),
        ({"user": 42}, "user: expected text, got 42"),
        ({"response_format": AskOptions}, "response_format: expected a dict such as"),
    ],
)
def test_a_value_that_no_vendor_takes_is_told_before_anything_is_sent(vendor, asked, words):
    """The values of `ask:` hold for a call too; what is long enough to be a key is not shown."""

    async def main(hub, server):
        with pytest.raises(InvalidRequest) as caught:
            await hub.get("m")("hi", **asked)
        return str(caught.value), server.requests()

    message, requests = play(main, vendor=vendor)
    assert (message[: len(words)], requests) == (words, [])
    assert "sk-proj" not in message


@table(("name", "schema"), [*AskOptions.model_json_schema()["properties"].items()], ids=lambda part: str(part)[:20])
def test_a_call_takes_at_least_what_the_file_may_ask(name, schema):
    """Every bound and every choice of `ask:`."""
    kinds = [kind for kind in schema["anyOf"] if kind["type"] != "null"]
    samples = {
        "integer": 1,
        "number": 0.5,
        "string": "END",
        "array": ["END"],
        "boolean": True,
        "object": {"type": "text"},
    }
    for kind in kinds:
        bounds = [kind[bound] for bound in ("minimum", "maximum") if bound in kind]
        for value in kind.get("enum") or [*bounds, samples[kind["type"]]]:
            parse_call_options({name: value})


@table("vendor", MODELS)
def test_a_format_of_text_asks_for_nothing(vendor):
    """Text is what every model gives without being asked; only where OpenAI's own form is known it is sent."""
    body = body_of(vendor=vendor, ask={"response_format": {"type": "text"}})
    assert ("response_format" in body) == (vendor == "openai")
    body.pop("response_format", None)
    assert body == body_of(vendor=vendor)


@table(
    ("vendor", "entry", "asked", "sent"),
    [
        ("openai", {"compat": "vllm"}, {"temperature": 3, "top_k": -1}, {"temperature": 3, "top_k": -1}),
        ("openai", {"compat": "groq"}, {"reasoning_effort": "default"}, {"reasoning_effort": "default"}),
        ("dashscope", {}, {"stop": [[1, 2]]}, {"stop": [[1, 2]]}),
        ("dashscope", {}, {"reasoning_effort": "default", "stop": ("a",)}, {"stop": ["a"]}),
        ("gemini", {}, {"logprobs": 3}, {"logprobs": 3}),
    ],
)
def test_what_one_vendor_takes_beyond_the_others_is_sent(vendor, entry, asked, sent):
    """Bounds that others have, tokens by their numbers, and a word for an effort of its own."""
    body = body_of(entry, vendor=vendor, ask=asked)
    body = {**body, **body.get("parameters", {}), **body.get("generationConfig", {})}
    assert {name: body.get(name) for name in sent} == sent


@table(
    ("keyword", "instead"),
    [
        ("model", "hub.get(name)"),
        ("timeout", "deadline=20"),
        ("request_timeout", "deadline=20"),
        ("num_retries", "retry: {max_attempts: 3}"),
        ("fallbacks", "chains:"),
        ("api_key", ".with_keys(openai=...)"),
        ("api_base", "base_url"),
        ("drop_params", "takes:"),
        ("cache", "prompt_cache"),
        ("response_model", "structured_model="),
    ],
)
@table("vendor", MODELS)
def test_a_keyword_of_another_library_is_told(vendor, keyword, instead):
    """In a call and in the file, with what to write instead; nothing is sent."""

    async def main(hub, server):
        with pytest.raises(InvalidRequest) as caught:
            await hub.get("m")("hi", **{keyword: "sk-secret"})
        return str(caught.value), server.requests()

    message, requests = play(main, vendor=vendor)
    assert message.startswith(f"there is no keyword `{keyword}`: ")
    assert instead in message
    assert "sk-secret" not in message
    assert requests == []
    if keyword not in ("model", "timeout"):  # these are told otherwise, or are an SDK's
        with pytest.raises(ConfigError, match=f"`{keyword}` cannot be set in `generate_kwargs`") as refused:
            Hub.from_dict(
                {"version": 1, "models": {"m": {**MODELS[vendor], "generate_kwargs": {keyword: "sk-secret"}}}}
            )
        assert "sk-secret" not in str(refused.value)


def test_no_vendor_has_a_parameter_by_a_name_that_is_refused():
    """`timeout` alone is the SDKs' own, of a request, and no vendor is sent it."""
    names = {name for names in VENDOR_PARAMETERS.values() for name in names}
    assert names & FOREIGN_KEYWORDS.keys() == {"timeout"}


@table(
    ("given", "meant"),
    [("deadlne", "deadline"), ("tag", "tags"), ("steam", "stream"), ("temprature", "temperature")],
)
def test_a_misspelt_keyword_is_told(given, meant):
    """Before anything is sent, with what was probably meant."""

    async def main(hub, server):
        with pytest.raises(InvalidRequest, match=f"no keyword `{given}`: did you mean `{meant}`"):
            await hub.get("m")("hi", **{given: 1})
        return server.requests()

    assert play(main) == []


def test_names_that_nobody_knows_are_sent():
    """A server may know more than any list; for Gemini, whose SDK knows all, they are left out, and told."""
    assert body_of(ask={"novelty": 1})["novelty"] == 1

    async def main(hub, server):
        reply = await hub.get("m")("hi", novelty=1)
        return reply.attempts[-1].dropped, server.requests()[-1].body

    dropped, body = play(main, vendor="gemini")
    assert list(dropped) == ["novelty"]
    assert "novelty" not in str(body)


# -- known models ------------------------------------------------------------------------------------------------------

SAMPLING = {"temperature": 0.2, "top_p": 0.9}


@table(
    ("model", "asked", "dropped"),
    [
        ("claude-opus-4-7", {**SAMPLING, "top_k": 5}, {"temperature", "top_p", "top_k"}),
        ("claude-sonnet-5", SAMPLING, {"temperature", "top_p"}),
        ("claude-sonnet-4-5-20250929", SAMPLING, {"top_p"}),
        ("claude-opus-4-20250514", SAMPLING, set()),
        ("claude-3-7-sonnet-latest", SAMPLING, set()),
        ("claude-3-5-haiku-latest", {"reasoning_effort": "low"}, {"reasoning_effort"}),
        ("claude-sonnet-4-5", {**SAMPLING, "reasoning_effort": "low"}, {"temperature", "top_p"}),
        ("claude-sonnet-4-5", {"max_tokens": 500, "reasoning_effort": "low"}, {"reasoning_effort"}),
    ],
)
def test_claude_is_not_sent_what_it_refuses(model, asked, dropped):
    """From 4.7 on no sampling; before, one of its two parameters, and none while it thinks."""

    async def main(hub, server):
        reply = await hub.get("m")("hi", **asked)
        return reply.attempts[-1], server.requests()[-1].body

    attempt, body = play(main, {"model_name": model}, vendor="anthropic")
    assert set(attempt.dropped) == dropped
    assert not dropped & set(body)


@table(
    ("model", "effort", "sent", "rounded"),
    [
        ("claude-opus-4-8", "xhigh", ({"type": "adaptive"}, {"effort": "xhigh"}), None),
        ("claude-opus-4-8", "minimal", ({"type": "adaptive"}, {"effort": "low"}), "minimal -> low"),
        ("claude-opus-4-8", "none", (None, None), None),
        ("claude-sonnet-5", "none", ({"type": "disabled"}, None), None),
        ("claude-fable-5", "none", ({"type": "adaptive"}, {"effort": "low"}), "none -> low"),
        ("claude-opus-4-6", "xhigh", ({"type": "adaptive"}, {"effort": "max"}), "xhigh -> max"),
        ("claude-sonnet-4-5", "low", ({"type": "enabled", "budget_tokens": 2048}, None), None),
        ("claude-sonnet-4-5", "high", ({"type": "enabled", "budget_tokens": 2048}, None), "high -> 2048 tokens"),
    ],
)
def test_claude_thinks_as_its_generation_can(model, effort, sent, rounded):
    """By a level from 4.6 on, by a budget within `max_tokens` before."""

    async def main(hub, server):
        reply = await hub.get("m")("hi", reasoning_effort=effort)
        return reply.attempts[-1], server.requests()[-1].body

    attempt, body = play(main, {"model_name": model}, vendor="anthropic")
    assert (body.get("thinking"), body.get("output_config")) == sent
    assert attempt.rounded.get("reasoning_effort", "").startswith(rounded or "")
    assert bool(attempt.rounded) == bool(rounded)


@table(
    ("model", "effort", "config"),
    [
        ("gemini-3-pro-preview", "medium", {"thinking_level": "HIGH"}),
        ("gemini-3-flash", "none", {"thinking_level": "MINIMAL"}),
        ("gemini-3.1-pro", "xhigh", {"thinking_level": "HIGH"}),
        ("gemini-2.5-pro", "none", {"thinking_budget": 128}),
        ("gemini-2.5-flash", "max", {"thinking_budget": 24_576}),
        ("gemini-2.0-flash", "low", None),
    ],
)
def test_gemini_thinks_as_its_generation_can(model, effort, config):
    """By a level from 3 on, by a budget in 2.5, not at all before."""
    body = body_of({"model_name": model}, vendor="gemini", ask={"reasoning_effort": effort})
    assert body.get("generationConfig", {}).get("thinkingConfig") == config


@table(
    ("model", "asked", "sent"),
    [
        ("gpt-5-mini", {**SAMPLING, "stop": ["x"], "reasoning_effort": "none"}, {"reasoning_effort": "minimal"}),
        ("gpt-5.1", {"temperature": 0.2}, {"temperature": 0.2}),
        ("gpt-5.1", {"temperature": 0.2, "reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ("gpt-5.6-luna", {"temperature": 0.2, "reasoning_effort": "max"}, {"reasoning_effort": "max"}),
        ("gpt-5.2-pro", {"reasoning_effort": "low"}, {"reasoning_effort": "medium"}),
        ("o3", {"temperature": 0.2, "reasoning_effort": "max"}, {"reasoning_effort": "high"}),
        ("gpt-4o", {"temperature": 0.2, "reasoning_effort": "max"}, {"temperature": 0.2}),
        ("gpt-5-chat-latest", {"temperature": 0.2, "reasoning_effort": "max"}, {"temperature": 0.2}),
        ("anthropic/claude-opus-4.7", {"temperature": 0.2}, {}),
    ],
)
def test_openais_models_are_sent_what_they_take(model, asked, sent):
    """Sampling goes to models that do not reason, an effort to those that do, at a level they know."""
    body = body_of({"model_name": model}, ask=asked)
    assert {name: body[name] for name in body if name in asked} == sent


# -- learned from a refusal --------------------------------------------------------------------------------------------


@table("stream", [False, True], ids=["plain", "streamed"])
@table("vendor", MODELS)
def test_a_refused_parameter_is_left_out_from_then_on(vendor, stream):
    """The attempt is made once more at once, without it, also where only one attempt is allowed; others keep it out."""

    async def main(hub, server):
        attempts = []
        for _ in range(2):
            reply = await hub.get("m")("hi", temperature=0.5, top_p=0.5, stream=stream)
            reply = await reply.final() if stream else reply
            attempts.append([(attempt.outcome, list(attempt.dropped)) for attempt in reply.attempts])
        return attempts, [request.elapsed for request in server.requests()]

    entry = {"model_name": "claude-opus-4"} if vendor == "anthropic" else None
    attempts, times = play(main, entry, vendor=vendor, script=faults.refuse_fields("temperature"))
    assert attempts[0][0][1] == []
    assert attempts[0][0][0] in ("RequestRefused", "UnsupportedFeature")
    assert attempts[0][1:] == attempts[1] == [("ok", ["temperature"])]
    assert times == [0.0] * 3


@table("vendor", MODELS)
def test_a_refused_effort_is_left_out(vendor):
    """By whatever name the vendor refuses it."""

    async def main(hub, server):
        reply = await hub.get("m")("hi", reasoning_effort="low")
        return [list(attempt.dropped) for attempt in reply.attempts]

    script = faults.refuse_fields(EFFORT_FIELDS[vendor])
    assert play(main, vendor=vendor, script=script) == [[], ["reasoning_effort"]]


def test_a_refusal_beside_tools_holds_beside_tools():
    """The same effort is sent again where there are none; a refusal that only has the word in it is as any other."""
    words = "Function tools with reasoning_effort are not supported. To use function tools, leave it out."

    def refuse(request):
        return faults.status(400, message=words) if "reasoning_effort" in request.body else None

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    async def main(hub, server):
        await hub.get("m")("hi", tools=[tool], reasoning_effort="low")
        await hub.get("m")("hi", tools=[tool], reasoning_effort="low")
        beside = ["reasoning_effort" in request.body for request in server.requests()]
        await hub.get("m")("hi", reasoning_effort="low")
        await hub.get("m")("hi", reasoning_effort="low")
        return beside, ["reasoning_effort" in request.body for request in server.requests()[3:]]

    assert play(main, script=refuse) == ([True, False, False], [True, False, False])


def test_a_server_that_refuses_what_is_not_sent_is_not_asked_for_ever():
    """A refusal that goes on naming what was left out ends the attempts."""

    async def main(hub, server):
        with pytest.raises((RequestRefused, UnsupportedFeature)):
            await hub.get("m")("hi", temperature=0.5, seed=1)
        return len(server.requests())

    words = "Unsupported parameter: 'temperature' is not supported with this model."
    assert play(main, script=faults.status(400, message=words)) == 2


def test_each_refusal_names_another_parameter():
    """Several are left out one after the other, within one call."""

    async def main(hub, server):
        reply = await hub.get("m")("hi", temperature=0.5, top_p=0.5, seed=1, user="u")
        return [set(attempt.dropped) for attempt in reply.attempts]

    script = faults.refuse_fields("temperature", "top_p", "seed")
    assert play(main, script=script) == [
        set(),
        {"temperature"},
        {"temperature", "top_p"},
        {"temperature", "top_p", "seed"},
    ]


def test_a_refused_level_is_rounded_to_those_that_the_refusal_lists():
    """The effort stays, at the nearest level; the levels are remembered."""
    words = (
        "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. "
        "Supported values are: 'none', 'low', 'medium', and 'high'."
    )

    def refuse(request):
        effort = request.body["reasoning_effort"]
        return faults.status(400, message=words) if effort not in ("none", "low", "medium", "high") else None

    async def main(hub, server):
        for effort in ("minimal", "max"):
            reply = await hub.get("m")("hi", reasoning_effort=effort)
        return [request.body["reasoning_effort"] for request in server.requests()], reply.attempts[-1].rounded

    sent, rounded = play(main, script=refuse)
    assert sent == ["minimal", "low", "high"]
    assert rounded == {"reasoning_effort": "max -> high"}


def test_a_limit_of_tokens_is_called_as_the_refusal_says():
    """The limit is kept, by its other name."""
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def refuse(request):
        return faults.status(400, message=words) if "max_tokens" in request.body else None

    async def main(hub, server):
        reply = await hub.get("m")("hi", max_tokens=50)
        return server.requests()[-1].body["max_completion_tokens"], reply.attempts[-1].dropped

    entry = {"compat": "generic", "base_url": "http://127.0.0.1:1/v1"}  # it has no usual address
    assert play(main, entry, script=refuse) == (50, {})


REFUSALS = [
    ("openai", "Unsupported parameter: 'stop' is not supported with this model.", "stop"),
    ("openai", "Argument not supported on this model: stop", "stop"),
    ("openai", "Argument not supported on this model: presencePenalty", "presence_penalty"),
    ("openai", "Unrecognized request argument supplied: reasoning_effort", "reasoning_effort"),
    ("openai", "property 'seed' is unsupported", "seed"),
    ("openai", "invalid temperature: only 1 is allowed for this model", "temperature"),
    ("openai", "Extra inputs are not permitted, field: 'user', value: 'u'", "user"),
    ("openai", "`reasoning_effort` must be one of `none` or `default`", "reasoning_effort"),
    ("anthropic", "`temperature` and `top_p` cannot both be specified for this model.", "temperature"),
    ("anthropic", "This model does not support the effort parameter.", "reasoning_effort"),
    ("anthropic", "adaptive thinking is not supported on this model", "reasoning_effort"),
    ("gemini", "Penalty is not enabled for this model", "presence_penalty"),
    ("gemini", "Multiple candidates is not enabled for this model", "n"),
    ("gemini", "Only one candidate can be specified in the current model", "n"),
    ("gemini", "Unable to submit request because candidateCount must be 1 but the entered value was 3.", "n"),
    ("gemini", "Unable to submit request because thinking is not supported by this model.", "reasoning_effort"),
    ("gemini", "* GenerateContentRequest.generation_config.seed: unsupported", "seed"),
    (
        "gemini",
        "Invalid JSON payload received. Unknown name \"seed\" at 'generation_config': Cannot find field.",
        "seed",
    ),
    ("dashscope", "'n' must be 1 when 'tools' is set", "n"),
    ("dashscope", "The value of the enable_thinking parameter is restricted to True.", "reasoning_effort"),
    ("ollama", '"llama3.2" does not support thinking', "reasoning_effort"),
    ("ollama", 'think value "low" is not supported for this model', "reasoning_effort"),
]
ASKED = {
    "temperature": 0.5,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "seed": 1,
    "user": "u",
    "n": 3,
    "reasoning_effort": "low",
}


@table(("vendor", "words", "name"), REFUSALS)
def test_vendors_refuse_in_words_of_their_own(vendor, words, name):
    """What servers were seen to write; all other parameters are sent again."""

    async def main(hub, server):
        alone = ("temperature", "presence_penalty", "reasoning_effort")
        asked = {key: ASKED[key] for key in ASKED if key == name or key not in alone}
        reply = await hub.get("m")("hi", **asked)
        first, second = reply.attempts
        return set(second.dropped) - set(first.dropped)

    assert play(main, vendor=vendor, script=[faults.status(400, message=words), faults.healthy()]) == {name}


@table(
    "words",
    [
        "Invalid schema for function 'f': In context=('properties', 'temperature'), 'maximum' is not permitted.",
        "tools.0.custom.input_schema: temperature: Extra inputs are not permitted",
        "Invalid JSON payload: Unknown name \"temperature\" at 'tools[0].function_declarations[0].parameters'",
        "temperature: Input should be less than or equal to 2",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2.",
        "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens",
        "Invalid schema for response_format 'x': In context=(), 'required' is required.",
        "the temperature of the conversation is too high",
    ],
)
def test_a_refused_value_is_the_callers_alone(words):
    """A parameter that is taken, though not at this value, is not taken away from other calls."""

    async def main(hub, server):
        with pytest.raises((RequestRefused, UnsupportedFeature)):
            await hub.get("m")("hi", temperature=3, max_tokens=9000)
        return len(server.requests())

    assert play(main, script=faults.status(400, message=words)) == 1


def test_what_changes_the_meaning_is_never_left_out():
    """A model that refuses the format is not asked without it: the next one is."""

    async def main(hub, server):
        with pytest.raises((RequestRefused, UnsupportedFeature)):
            await hub.get("m")("hi", response_format={"type": "json_object"})
        return len(server.requests())

    assert play(main, script=faults.refuse_fields("response_format")) == 1
    with pytest.raises(UnsupportedFeature, match="does not take `response_format`"):
        body_of({"takes": {"response_format": False}}, ask={"response_format": {"type": "json_object"}})


@table(
    ("vendor", "entry", "asked"),
    [
        ("anthropic", {}, {"previous_response_id": "resp_1"}),
        ("ollama", {}, {"instructions": "Be brief."}),
        ("openai", {"api": "chat"}, {"instructions": "Be brief."}),
        ("openai", {"api": "responses"}, {"functions": [{"name": "f", "parameters": {}}]}),
        ("gemini", {}, {"system": "Be brief."}),
        ("dashscope", {}, {"system_instruction": "Be brief."}),
        ("openai", {}, {"cached_content": "cachedContents/1"}),
    ],
)
def test_another_vendors_way_of_telling_the_model_something_is_never_left_out(vendor, entry, asked):
    """The answer would be to another prompt: the model is not asked, and the next one is."""

    async def main(hub, server):
        with pytest.raises(UnsupportedFeature, match=f"`{next(iter(asked))}`"):
            await hub.get("m")("hi", **asked)
        return server.requests()

    assert play(main, entry, vendor=vendor) == []


def test_a_strict_hub_learns_nothing():
    """With `unsupported: refuse` a refusal ends the model's turn."""

    async def main(hub, server):
        with pytest.raises((RequestRefused, UnsupportedFeature)):
            await hub.get("m")("hi", temperature=0.5)
        return len(server.requests())

    script = faults.refuse_fields("temperature")
    assert play(main, script=script, parameters={"unsupported": "refuse"}) == 1


@table(
    ("body", "asked"),
    [
        ({"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]}, {"top_k": 1}),
        (
            {
                "error": {
                    "status": "INVALID_ARGUMENT",
                    "message": "Invalid value, which is not supported.",
                    "details": [{"fieldViolations": [{"field": "generation_config.seed"}]}],
                }
            },
            {"seed": 1},
        ),
        ({"error": {"message": "only 1 is allowed for this model", "param": "temperature"}}, {"temperature": 0.5}),
        ({"message": "parallel_tool_calls: this field is not permitted here"}, {"seed": 1, "user": "x", "top_p": 0.5}),
    ],
)
async def test_the_field_that_is_at_fault_is_read_in_every_form(loopback, body, asked):
    """FastAPI's places, Google's violations, OpenAI's `param`; a name that was not sent is nobody's."""
    loopback.answers(body, status=400)
    async with OpenAIChatModel("m", "k", False, base_url=f"{loopback.url}/v1") as model:
        with pytest.raises((RequestRefused, UnsupportedFeature)) as caught:
            await model("hi", **asked)
    assert caught.value.retry_without == (next(iter(asked)) if len(asked) == 1 else None)


# -- told --------------------------------------------------------------------------------------------------------------


def test_a_change_is_told_once(caplog):
    """One event and one warning for a model and a parameter, however many calls there are."""
    events = []

    async def main(hub, server):
        for _ in range(3):
            await hub.get("m")("hi", seed=1, reasoning_effort="high")

    with caplog.at_level(logging.WARNING, "modelhub"):
        play(main, vendor="anthropic", events=events, observers=[LogObserver()])
    changes = [(e.model, e.parameter, e.is_dropped) for e in events if isinstance(e, ParameterChanged)]
    assert changes == [("m", "seed", True), ("m", "reasoning_effort", False)]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "parameter: `seed` is left out for m: Anthropic has no such parameter"
    assert lines[1].startswith("parameter: `reasoning_effort` is rounded for m: high -> 2048 tokens")
    assert len(lines) == 2


async def test_models_made_by_hand_speak_the_same_language(loopback):
    """Without a hub too; nothing is asked twice there."""
    loopback.answers({"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "type": "message"})
    async with AnthropicChatModel("claude-opus-4-7", "k", stream=False, base_url=loopback.url) as model:
        reply = await model("hi", temperature=0.5, max_completion_tokens=9, stop="END", seed=1)
    body = loopback.asked[0].json
    assert (body["max_tokens"], body["stop_sequences"]) == (9, ["END"])
    assert set(reply.attempts[0].dropped) == {"temperature", "seed"}


def test_a_value_that_asks_for_nothing_is_no_loss():
    """Nobody needs to know that one answer, no penalty and no probabilities were not asked for."""

    async def main(hub, server):
        reply = await hub.get("m")("hi", n=1, presence_penalty=0, logprobs=False, stop=[], parallel_tool_calls=True)
        return reply.attempts[-1].dropped

    assert play(main, vendor="anthropic") == {}


async def test_geminis_own_names_are_read_in_every_spelling(loopback):
    """Camel case, its REST object, and the number that others call otherwise."""
    answer = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    loopback.answers(answer)
    own = {"generation_config": {"topP": 0.5, "maxOutputTokens": 9}, "responseLogprobs": True, "logprobs": 3}
    async with GeminiChatModel("gemini-2.5-flash", "k", stream=False, base_url=loopback.url) as model:
        await model("hi", **own)
        await model("hi", top_p=0.5, max_tokens=9, logprobs=True, top_logprobs=3)
    bodies = [asked.json["generationConfig"] for asked in loopback.asked]
    assert bodies[0] == bodies[1] == {"topP": 0.5, "maxOutputTokens": 9, "responseLogprobs": True, "logprobs": 3}
