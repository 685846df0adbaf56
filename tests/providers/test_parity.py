"""The request that leaves is the one that the bare SDK sends: address, query, headers, body, for many parameters.

A release of an SDK that writes something else fails here, before any user meets it.
"""

import contextlib
import copy
import json
from functools import partial

import httpx2
import pytest

from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.http.request_templates import is_tracing_header
from modelhub.providers.ollama import OllamaChatModel
from modelhub.providers.openai import OpenAIChatModel
from tests.tables import table

KEY = "key-of-test"
MESSAGES = [{"role": "user", "content": "hi"}]
BLOCKS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
OF_THE_CONNECTION = {"host", "connection", "content-length", "accept-encoding", "transfer-encoding"}
OF_ONE_REQUEST = {"x-dashscope-sdk-session-id"}


def comparable(asked):
    """Method, address, headers and body of the request *asked*, without what belongs to one connection or request."""
    skipped = OF_THE_CONNECTION | OF_ONE_REQUEST
    headers = {
        name: value for name, value in asked.headers.items() if name not in skipped and not is_tracing_header(name)
    }
    body = {name: value for name, value in json.loads(asked.body).items() if value != []}  # no tools are no tools
    return asked.method, asked.target, headers, body


async def find_differences(loopback, cases, bare, ours, *, stream=False):
    """The cases for which *bare*, a call of the SDK, and *ours*, a call of a model, send different requests."""
    loopback.answers({})
    differences = {}
    for case in cases:
        loopback.asked.clear()
        for call in (bare, ours):
            with contextlib.suppress(Exception):  # nobody can make anything of the answer
                answer = await call(case)
                if stream:
                    [_ async for _ in answer]
        requests = [comparable(asked) for asked in loopback.asked]
        if len(requests) != 2 or requests[0] != requests[1]:
            differences[json.dumps(case)] = requests
    return differences


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


# -- OpenAI ------------------------------------------------------------------------------------------------------------

OPENAI_CLIENT = (
    {"organization": "org-1"},
    {"client_args": {"project": "proj-1"}},
    {"client_args": {"default_headers": {"X-Team": "search"}}},
    {"client_args": {"default_query": {"zone": "eu west"}}},
    {"client_args": {"default_headers": {"User-Agent": "app/1.0"}}},
    {"client_args": {"timeout": 30}},
)
OPENAI = (
    {},
    {"temperature": 0.2},
    {"top_p": 0.9},
    {"max_completion_tokens": 77},
    {"stop": ["END", "\n\n"]},
    {"seed": 7},
    {"presence_penalty": 0.5, "frequency_penalty": -0.5},
    {"logit_bias": {"50256": -100}},
    {"logprobs": True, "top_logprobs": 3},
    {"user": "user-1"},
    {"store": True, "metadata": {"run": "7"}},
    {"service_tier": "flex"},
    {"reasoning_effort": "low"},
    {"verbosity": "low"},
    {"prompt_cache_key": "k", "safety_identifier": "s"},
    {"response_format": {"type": "json_object"}},
    {"modalities": ["text"]},
    {"prediction": {"type": "content", "content": "x"}},
    {"web_search_options": {"search_context_size": "low"}},
    {"extra_headers": {"X-Trace-Name": "job"}},
    {"extra_query": {"debug": "1"}},
    {"extra_body": {"future_parameter": {"a": [1]}}},
    {"extra_headers": {"Authorization": "Bearer another"}},
)


@STREAMED
async def test_openai_by_call(loopback, stream):
    """What a call says."""
    import openai

    url = f"{loopback.url}/v1"
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as sdk, make_openai(url) as model:
        create = sdk.chat.completions.create
        differences = await find_differences(
            loopback,
            OPENAI,
            lambda case: create(model="m", messages=MESSAGES, stream=stream, **usage, **case),
            lambda case: model(MESSAGES, stream=stream, **case),
            stream=stream,
        )
    assert differences == {}


async def test_openai_by_client(loopback):
    """What is said of the client, once."""
    import openai

    url = f"{loopback.url}/v1"

    async def bare(case):
        arguments = {"api_key": KEY, "base_url": url, "max_retries": 0, **case.get("client_args", {})}
        arguments |= {"organization": case["organization"]} if "organization" in case else {}
        async with openai.AsyncOpenAI(**arguments) as sdk:
            await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=False)

    async def ours(case):
        async with make_openai(url, **case) as model:
            await model(MESSAGES, stream=False)

    assert await find_differences(loopback, OPENAI_CLIENT, bare, ours) == {}


def make_openai(url, **arguments):
    return OpenAIChatModel("m", KEY, base_url=url, compat="openai", **arguments)


async def test_azure(loopback):
    """The deployment stands in the path, the version in the query, the key in a header of its own."""
    import openai

    arguments = {"api_version": "2025-01-01-preview"}
    model = OpenAIChatModel("dep", KEY, base_url=loopback.url, client_type="azure", client_args=arguments)
    sdk = openai.AsyncAzureOpenAI(api_key=KEY, azure_endpoint=loopback.url, max_retries=0, **arguments)
    async with sdk, model:
        create = sdk.chat.completions.create
        differences = await find_differences(
            loopback,
            [{}, {"temperature": 0.2}],
            lambda case: create(model="dep", messages=MESSAGES, stream=False, **case),
            lambda case: model(MESSAGES, stream=False, **case),
        )
    assert differences == {}


@table("stream", [False, True])
@table("api", ["chat", "responses", "anthropic"])
async def test_what_a_request_of_an_sdk_may_take_in_time_is_said_in_generate_kwargs(loopback, api, stream):
    """A call has a deadline; an SDK's own `timeout=` of a request is the model's."""
    import openai

    time, more = {"timeout": 11.0}, {"stream": True} if stream else {}
    async with contextlib.AsyncExitStack() as stack:
        if api == "anthropic":
            sdk = await stack.enter_async_context(anthropic_sdk(loopback))
            model = AnthropicChatModel("claude-m", KEY, base_url=loopback.url, generate_kwargs=time)
            bare = partial(sdk.messages.create, model="claude-m", messages=BLOCKS, max_tokens=2048, **more)
        else:
            url = f"{loopback.url}/v1"
            sdk = await stack.enter_async_context(openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0))
            model = make_openai(url, api=api, generate_kwargs=time)
            usage = {"stream_options": {"include_usage": True}} if stream else {}
            bare = (
                partial(sdk.chat.completions.create, model="m", messages=MESSAGES, stream=stream, **usage)
                if api == "chat"
                else partial(sdk.responses.create, model="m", input=MESSAGES, stream=stream, **responded({}))
            )
        await stack.enter_async_context(model)
        ours = partial(model, MESSAGES, stream=stream)
        differences = await find_differences(
            loopback, [time], lambda case: bare(**case), lambda _: ours(), stream=stream
        )
    assert differences == {}


# -- OpenAI's Responses ------------------------------------------------------------------------------------------------

RESPONSES = (
    {},
    {"temperature": 0.2, "top_p": 0.9},
    {"max_output_tokens": 77},
    {"instructions": "Be brief."},
    {"reasoning": {"effort": "low", "summary": "auto"}},
    {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    {"tools": [{"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": False, "max_tool_calls": 2},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
    {"store": True, "metadata": {"run": "7"}, "previous_response_id": "resp_1"},
    {"service_tier": "flex", "truncation": "auto", "user": "user-1"},
    {"prompt_cache_key": "k", "safety_identifier": "s"},
    {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
    {"extra_headers": {"X-Trace-Name": "job"}},
    {"extra_query": {"debug": "1"}},
    {"extra_body": {"future_parameter": {"a": [1]}}},
)


def responded(case):
    """The parameters that we send beside those of *case*."""
    encrypted = ["reasoning.encrypted_content"] if "reasoning" in case else []
    include = [*case.get("include", ()), *encrypted]
    return {"store": False, **case, **({"include": include} if include else {})}


@STREAMED
async def test_openai_responses_by_call(loopback, stream):
    """What a call says to the other API."""
    import openai

    url = f"{loopback.url}/v1"
    sdk = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)
    async with sdk, make_openai(url, api="responses") as model:
        differences = await find_differences(
            loopback,
            RESPONSES,
            lambda case: sdk.responses.create(model="m", input=MESSAGES, stream=stream, **responded(case)),
            lambda case: model(MESSAGES, stream=stream, **case),
            stream=stream,
        )
    assert differences == {}


@pytest.mark.parametrize("v1", [False, True], ids=["with a version", "v1"])
async def test_azure_responses(loopback, v1):
    """At Azure the model stands in the body, whatever the address; an address of version 1 needs no API version."""
    import openai

    if v1:
        url = f"{loopback.url}/openai/v1/"
        model = OpenAIChatModel("dep", KEY, api="auto", base_url=url, compat="azure")
        sdk = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)
    else:
        args = {"api_version": "2025-04-01-preview"}
        model = OpenAIChatModel(
            "dep", KEY, api="responses", base_url=loopback.url, client_type="azure", client_args=args
        )
        sdk = openai.AsyncAzureOpenAI(api_key=KEY, azure_endpoint=loopback.url, max_retries=0, **args)
    async with sdk, model:
        differences = await find_differences(
            loopback,
            [{}, {"temperature": 0.2}],
            lambda case: sdk.responses.create(model="dep", input=MESSAGES, stream=False, store=False, **case),
            lambda case: model(MESSAGES, stream=False, **case),
        )
    assert differences == {}


# -- Anthropic ---------------------------------------------------------------------------------------------------------

ANTHROPIC = (
    {},
    {"extra_body": {"temperature": 0.2, "top_p": 0.9, "top_k": 40}},
    {"max_tokens": 77},
    {"stop_sequences": ["END"]},
    {"metadata": {"user_id": "u"}},
    {"service_tier": "standard_only"},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"thinking": {"type": "disabled"}},
    {"output_config": {"effort": "low"}},
    {"container": "c"},
    {"inference_geo": "eu"},
    {"user_profile_id": "u"},
    {"workspace_id": "w"},
    {"cache_control": {"type": "ephemeral"}},
    {"extra_headers": {"anthropic-beta": "interleaved-thinking-2025-05-14"}},
    {"extra_query": {"beta": "true"}},
    {"extra_body": {"future_parameter": {"a": [1]}}},
)
ANTHROPIC_CLIENT = (
    {"default_headers": {"X-Team": "search"}},
    {"default_query": {"zone": "eu west"}},
    {"timeout": 30.0},
    {"auth_token": "token-of-test"},
)


def anthropic_sdk(loopback, **arguments):
    import anthropic

    # Other hosts than Anthropic's get the key in both headers: gateways look for it in either.
    both = {"api_key": KEY, "default_headers": {"x-api-key": KEY, **arguments.pop("default_headers", {})}}
    credentials = {} if "auth_token" in arguments else both
    return anthropic.AsyncAnthropic(**{"base_url": loopback.url, "max_retries": 0, **credentials, **arguments})


def anthropic_model(loopback, **client_args):
    key = None if "auth_token" in client_args else KEY
    return AnthropicChatModel("claude-m", key, base_url=loopback.url, client_args=client_args)


@STREAMED
async def test_anthropic_by_call(loopback, stream):
    """What a call says."""
    more = {"stream": True} if stream else {}
    async with anthropic_sdk(loopback) as sdk, anthropic_model(loopback) as model:
        create = sdk.messages.create
        differences = await find_differences(
            loopback,
            ANTHROPIC,
            lambda case: create(model="claude-m", messages=BLOCKS, **{"max_tokens": 2048, **case}, **more),
            lambda case: model(MESSAGES, stream=stream, **case),
            stream=stream,
        )
    assert differences == {}


async def test_anthropic_by_client(loopback):
    """What is said of the client, once."""

    async def bare(case):
        async with anthropic_sdk(loopback, **case) as sdk:
            await sdk.messages.create(model="claude-m", max_tokens=2048, messages=BLOCKS)

    async def ours(case):
        async with anthropic_model(loopback, **case) as model:
            await model(MESSAGES, stream=False)

    assert await find_differences(loopback, ANTHROPIC_CLIENT, bare, ours) == {}


# -- Gemini ------------------------------------------------------------------------------------------------------------

GEMINI = (
    {},
    {"temperature": 0.2},
    {"top_p": 0.9, "top_k": 40},
    {"max_output_tokens": 77},
    {"stop_sequences": ["END"]},
    {"seed": 7},
    {"candidate_count": 1},
    {"presence_penalty": 0.5, "frequency_penalty": -0.5},
    {"response_logprobs": True, "logprobs": 3},
    {"response_mime_type": "application/json"},
    {"response_modalities": ["TEXT"]},
    {"media_resolution": "MEDIA_RESOLUTION_LOW"},
    {"thinking_config": {"thinking_budget": 0}},
    {"thinking_config": {"include_thoughts": True, "thinking_level": "low"}},
    {"safety_settings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}]},
    {"cached_content": "cachedContents/1"},
    {"http_options": {"headers": {"X-Team": "search"}}},
    {"http_options": {"extra_body": {"futureParameter": {"a": [1]}}}},
    {"http_options": {"api_version": "v1alpha"}},
)


@STREAMED
async def test_gemini_by_call(loopback, stream):
    """What a call says, in the SDK's names."""
    from google import genai
    from google.genai import types

    retries = types.HttpRetryOptions(attempts=1)
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    async with httpx2.AsyncClient() as client:
        options = {"base_url": loopback.url, "httpx_async_client": client, "retry_options": retries, "timeout": 600_000}
        sdk = genai.Client(api_key=KEY, vertexai=False, http_options=types.HttpOptions(**options))
        create = sdk.aio.models.generate_content_stream if stream else sdk.aio.models.generate_content
        async with GeminiChatModel("gemini-m", KEY, base_url=loopback.url) as model:
            differences = await find_differences(
                loopback,
                GEMINI,
                lambda case: create(
                    model="gemini-m",
                    contents=contents,
                    config={**copy.deepcopy(case), "automatic_function_calling": {"disable": True}},
                ),
                lambda case: model(MESSAGES, stream=stream, **case),
                stream=stream,
            )
        sdk.close()
    assert differences == {}


# -- DashScope ---------------------------------------------------------------------------------------------------------

DASHSCOPE = (
    {},
    {"temperature": 0.2},
    {"top_p": 0.9, "top_k": 40},
    {"max_tokens": 77},
    {"stop": ["END"]},
    {"seed": 7},
    {"presence_penalty": 0.5, "repetition_penalty": 1.1},
    {"enable_thinking": False},
    {"enable_thinking": True, "thinking_budget": 50},
    {"enable_search": True, "search_options": {"forced_search": True}},
    {"logprobs": True, "top_logprobs": 3},
    {"response_format": {"type": "json_object"}},
    {"n": 1},
    {"vl_high_resolution_images": True},
    {"future_parameter": {"a": [1]}},
)


@STREAMED
async def test_dashscope_by_call(loopback, stream):
    """What a call says, as parameters of the native protocol."""
    import dashscope

    client = {"workspace": "ws-1"}
    sdk = dashscope.AsyncClient(
        api_key=KEY, base_url=loopback.url, region="cn-beijing", protocol="native", max_retries=0, **client
    )

    async def bare(case):
        must_stream = stream or case.get("enable_thinking") is True  # these answers come in streams only
        parameters = {"result_format": "message", **({"incremental_output": True} if must_stream else {}), **case}
        request = sdk.protocol.build_chat_request(
            model="qwen-m", messages=MESSAGES, stream=must_stream, extra_parameters=parameters
        )
        response = await sdk.transport.open_stream(
            "POST", request.path, json=request.body, headers=request.headers, sdk_module="aigc"
        )
        await response.aclose()

    async with DashScopeChatModel("qwen-m", KEY, base_url=loopback.url, client_args=client) as model:
        differences = await find_differences(
            loopback, DASHSCOPE, bare, lambda case: model(MESSAGES, stream=stream, **case), stream=stream
        )
    await sdk.aclose()
    assert differences == {}


# -- Ollama ------------------------------------------------------------------------------------------------------------

OLLAMA = (
    {},
    {"options": {"temperature": 0.2}},
    {"options": {"num_ctx": 4096, "num_predict": 77}},
    {"options": {"stop": ["END"], "seed": 7}},
    {"options": {"top_k": 40, "top_p": 0.9, "min_p": 0.1}},
    {"options": {"repeat_penalty": 1.1}},
    {"options": {"num_thread": 4, "num_gpu": 0}},
    {"keep_alive": 0},
    {"keep_alive": "1h"},
    {"keep_alive": -1},
    {"think": True},
    {"think": "high"},
    {"format": "json"},
    {"format": {"type": "object", "properties": {"a": {"type": "string"}}}},
    {"logprobs": True, "top_logprobs": 3},
)


@STREAMED
async def test_ollama_by_call(loopback, stream):
    """What a call says, in the server's names."""
    import ollama

    sdk = ollama.AsyncClient(host=loopback.url)
    async with OllamaChatModel("m", host=loopback.url) as model:
        differences = await find_differences(
            loopback,
            OLLAMA,
            lambda case: sdk.chat(model="m", messages=MESSAGES, stream=stream, **{"keep_alive": "5m", **case}),
            lambda case: model(MESSAGES, stream=stream, **case),
            stream=stream,
        )
    await sdk.close()
    assert differences == {}
