"""Servers that speak OpenAI's dialect, and how each departs from it: a table, no code.

A server is found by its host, or named with `compat`. What the table does not know is taken to speak like OpenAI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationError

from modelhub.core.errors import ConfigError
from modelhub.options import EFFORTS, Effort, Options
from modelhub.providers.endpoint import Site, matches_host
from modelhub.providers.openai.models import find_model

__all__ = ["SERVERS", "Quirks", "Server", "find_quirks", "find_server", "suggest_address"]

Choice = Literal["auto", "none", "required", "tool"]
Thinking = Literal[
    "reasoning_effort",
    "enable_thinking",
    "chat_template_kwargs",
    "chat_template_kwargs+reasoning_effort",
    "thinking",
    "thinking+reasoning_effort",
    "reasoning",
]


class Quirks(Options):
    """How a server departs from OpenAI's chat completions."""

    max_tokens: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The only name it knows for the limit of the answer's tokens; None sends the name that was given."""
    stream_options: bool = True
    """Whether a stream can be asked for its usage."""
    structured: Literal["json_schema", "json_object", "tool", "prompt"] = "json_schema"
    """How it is asked for structured output: by JSON schema, JSON mode with a prompt, a forced tool, or in words."""
    schema_form: Literal["strict", "whole", "whole_anchored"] = "strict"
    """Which schema it is sent: one of OpenAI's strict mode, or the whole one, if it holds answers to it by a grammar;
    `whole_anchored` leaves out patterns without `^` and `$`."""
    text_only: bool = False
    """Whether content must be a string; parts are then joined, and media refused."""
    reasoning: Literal["drop", "reasoning_content", "reasoning_details"] = "drop"
    """Under which key thinking goes back in messages with tool calls, or that it does not."""
    thinking: Thinking = "reasoning_effort"
    """The parameters that `reasoning_effort` is sent as."""
    tool_choices: tuple[Choice, ...] = ("auto", "none", "required", "tool")
    """The kinds of `tool_choice` it obeys; the others are emulated where that is possible, else refused."""
    tool_ids: Literal["any", "nine"] = "any"
    """Whether ids of tool calls must have nine letters or digits."""
    thought_signatures: bool = False
    """Whether the first call of a turn must bear a thought signature of Gemini's."""
    names: bool = True
    """Whether messages may bear a name."""
    cache_marks: Literal["cache_control", "breakpoint"] | None = None
    """How content is marked for the prompt cache; None leaves marks out."""
    video: bool = False
    """Whether it takes `video_url` parts."""
    audio: Literal["base64", "data_url"] = "base64"
    """How the data of `input_audio` is written."""
    responses_audio: bool = True
    """Whether its Responses API takes `input_audio`; if not, sounds go to chat completions, or are refused."""
    efforts: tuple[Effort, ...] = EFFORTS
    """The levels of `reasoning_effort` it knows; others are rounded to the nearest."""
    seed: Literal["seed", "random_seed"] = "seed"
    """What it calls the seed."""
    lacks: tuple[str, ...] = ()
    """Parameters of `ask` that it does not take."""


class Server(NamedTuple):
    """A server: its hosts, its usual address and the variables of its key; its quirks."""

    site: Site
    quirks: Quirks


SERVERS: dict[str, Server] = {
    "openai": Server(
        Site("https://api.openai.com/v1", ("api.openai.com",), ("OPENAI_API_KEY",), ("OPENAI_BASE_URL",)),
        Quirks(max_tokens="max_completion_tokens", responses_audio=False),
    ),
    "azure": Server(
        Site(
            "",
            ("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com"),
            ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
        ),
        Quirks(responses_audio=False),
    ),
    "deepseek": Server(
        Site("https://api.deepseek.com", ("api.deepseek.com",), ("DEEPSEEK_API_KEY",)),
        Quirks(
            max_tokens="max_tokens",
            structured="json_object",
            text_only=True,
            reasoning="reasoning_content",
            thinking="thinking+reasoning_effort",
            efforts=("none", "low", "high", "max"),  # api-docs.deepseek.com/guides/thinking_mode
        ),
    ),
    "dashscope": Server(
        Site(
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com", "maas.aliyuncs.com"),
            ("DASHSCOPE_API_KEY",),
        ),
        Quirks(
            max_tokens="max_tokens",
            structured="json_object",
            thinking="enable_thinking",
            tool_choices=("auto", "none", "tool"),
            video=True,
            audio="data_url",
        ),
    ),
    "openrouter": Server(
        Site("https://openrouter.ai/api/v1", ("openrouter.ai",), ("OPENROUTER_API_KEY",)),
        Quirks(
            reasoning="reasoning_details",
            thinking="reasoning",
            cache_marks="cache_control",
            efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
        ),
    ),
    "groq": Server(
        Site("https://api.groq.com/openai/v1", ("api.groq.com",), ("GROQ_API_KEY",)),
        Quirks(lacks=("top_k", "logprobs", "top_logprobs")),  # console.groq.com/docs/openai
    ),
    "xai": Server(
        Site("https://api.x.ai/v1", ("api.x.ai",), ("XAI_API_KEY",)),
        Quirks(efforts=("none", "low", "medium", "high")),
    ),
    "mistral": Server(
        Site("https://api.mistral.ai/v1", ("api.mistral.ai",), ("MISTRAL_API_KEY",)),
        Quirks(
            max_tokens="max_tokens",
            stream_options=False,
            tool_ids="nine",
            names=False,
            efforts=("none", "high"),
            seed="random_seed",
            lacks=("top_k", "user", "logprobs", "top_logprobs", "service_tier"),  # it forbids what it does not know
        ),
    ),
    "gemini": Server(
        Site(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            ("generativelanguage.googleapis.com",),
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ),
        Quirks(names=False, thought_signatures=True, efforts=("none", "minimal", "low", "medium", "high")),
    ),
    "moonshot": Server(
        Site("https://api.moonshot.ai/v1", ("api.moonshot.ai", "api.moonshot.cn"), ("MOONSHOT_API_KEY",)),
        Quirks(
            max_tokens="max_tokens",
            structured="json_object",
            reasoning="reasoning_content",
            thinking="thinking",
            tool_choices=("auto", "none"),
        ),
    ),
    "zai": Server(
        Site("https://api.z.ai/api/paas/v4", ("api.z.ai", "open.bigmodel.cn"), ("ZAI_API_KEY", "ZHIPUAI_API_KEY")),
        Quirks(
            max_tokens="max_tokens",
            structured="json_object",
            reasoning="reasoning_content",
            thinking="thinking",
            tool_choices=("auto",),
        ),
    ),
    "together": Server(
        Site("https://api.together.xyz/v1", ("api.together.xyz", "api.together.ai"), ("TOGETHER_API_KEY",)),
        Quirks(max_tokens="max_tokens"),
    ),
    "fireworks": Server(
        Site("https://api.fireworks.ai/inference/v1", ("api.fireworks.ai",), ("FIREWORKS_API_KEY",)),
        Quirks(max_tokens="max_tokens"),
    ),
    "cerebras": Server(
        Site("https://api.cerebras.ai/v1", ("api.cerebras.ai",), ("CEREBRAS_API_KEY",)),
        Quirks(max_tokens="max_completion_tokens", efforts=("none", "low", "medium", "high")),
    ),
    "perplexity": Server(
        Site("https://api.perplexity.ai", ("api.perplexity.ai",), ("PERPLEXITY_API_KEY",)),
        Quirks(max_tokens="max_tokens"),
    ),
    "ollama": Server(
        Site("http://localhost:11434/v1", (), ()),
        Quirks(
            max_tokens="max_tokens",
            schema_form="whole",
            tool_choices=("auto",),
            efforts=("none", "low", "medium", "high"),
        ),
    ),
    "vllm": Server(
        Site("http://localhost:8000/v1", (), ()),
        Quirks(thinking="chat_template_kwargs+reasoning_effort", schema_form="whole", video=True),
    ),
    "lmstudio": Server(
        Site("http://localhost:1234/v1", (), ()),
        Quirks(
            max_tokens="max_tokens",
            schema_form="whole",
            tool_choices=("auto", "none", "required"),
            efforts=("none", "low", "medium", "high"),
        ),
    ),
    "llamacpp": Server(
        Site("http://localhost:8080/v1", (), ()),
        Quirks(
            max_tokens="max_tokens",
            schema_form="whole_anchored",
            thinking="chat_template_kwargs",
            tool_choices=("auto", "none", "required"),
        ),
    ),
    "generic": Server(Site("", (), ()), Quirks()),
}
"""Every server with a name; `generic` is whoever else speaks the dialect."""
_EXAMPLE_ADDRESSES = {"azure": "https://NAME.openai.azure.com/openai/v1", "generic": "https://models.example.com/v1"}


def suggest_address(server: str) -> str:
    """Return what to do about the address of *server*, which has no usual one."""
    return f"give `base_url`, such as {_EXAMPLE_ADDRESSES[server]}"


def find_server(address: str) -> str:
    """Return the name of the server at *address*, by its host or a domain above it."""
    host = (urlsplit(address).hostname or "").lower()
    return next((name for name, server in SERVERS.items() if matches_host(host, server.site.hosts)), "generic")


def find_quirks(server: str, model: str, overrides: Quirks | Mapping[str, Any] | None) -> Quirks:
    """Return how *server* departs from OpenAI for *model*, with the user's *overrides*. Raises ConfigError for a key
    of theirs that is no quirk."""
    quirks = SERVERS[server].quirks
    if server in ("openai", "azure") and find_model(model).version >= (5, 6):  # as OpenAI says
        quirks = quirks.model_copy(update={"cache_marks": "breakpoint"})
    if not overrides:
        return quirks
    try:
        own = overrides if isinstance(overrides, Quirks) else Quirks.model_validate(dict(overrides))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        known = ", ".join(Quirks.model_fields)
        raise ConfigError(f"quirks: {problems} (known: {known})") from None
    return quirks.model_copy(update=own.model_dump(exclude_unset=True))
