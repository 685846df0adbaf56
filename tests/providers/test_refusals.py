"""What a vendor's refusal means: by status, code and words, the same on every wire, plain and inside a stream."""

import json

import pytest
import pytest_asyncio

from modelhub import Hub
from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    BreakerEffect,
    ContentBlocked,
    ContextTooLong,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    UnsupportedFeature,
)
from tests.providers.conftest import Loopback
from tests.providers.wires import ENTRIES, MAKERS, WIRES, error_body, error_in_stream, failure_of, models_at
from tests.tables import table

BOTH = table("stream", [False, True], ids=["whole", "stream"])
EVERY_WIRE = table("wire", WIRES)


@pytest_asyncio.fixture(name="shared_loopback", scope="module", loop_scope="module")
async def _shared_loopback():
    """A scripted server for all tests that ask `models`."""
    async with Loopback().running() as server:
        yield server


@pytest_asyncio.fixture(name="models", scope="module", loop_scope="module")
async def _models(shared_loopback):
    """A model of every provider at that server: to make them takes longer than all else that a test does."""
    async with models_at(shared_loopback.url) as models:
        yield models


SHARED = pytest.mark.asyncio(loop_scope="module")

# -- statuses ----------------------------------------------------------------------------------------------------------

WITH_A_MEANING = {
    AuthenticationFailed: (401, 403, 407, 495, 496, 511, 561),
    QuotaExhausted: (402,),
    ModelNotFound: (404, 410),
    ContentBlocked: (446,),
    RateLimited: (420, 429),
    Overloaded: (421, 423, 425, 449, 498, 503, 521, 529),
    ServerError: (408, 409, 424, 460, 499),
}
REFUSED = (400, 405, 406, *range(411, 420), 422, 426, 428, 431, 434, 435, 444, 451, 463, 464, 494, 497)
FAILED = (*range(500, 503), *range(504, 511), 520, *range(522, 529), 530, 540, 598, 599)
CLASS_OF_STATUS = dict.fromkeys(REFUSED, RequestRefused) | dict.fromkeys(FAILED, ServerError)
CLASS_OF_STATUS |= {status: cls for cls, statuses in WITH_A_MEANING.items() for status in statuses}


@EVERY_WIRE
async def test_every_status_has_its_class_whatever_generic_type_comes_with_it(loopback, wire):
    """A status says what it is, on every wire, also where a server calls every failure the same."""
    classes = {}
    async with MAKERS[wire](loopback.url) as model:
        for status in CLASS_OF_STATUS:
            loopback.answers({"type": "error", "error": {"type": "api_error", "message": "no"}}, status=status)
            failure = await failure_of(model)
            classes[status] = type(failure)
            assert failure.status == status
    assert classes == CLASS_OF_STATUS


# -- words -------------------------------------------------------------------------------------------------------------

TOO_LONG = {
    "OpenAI": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "OpenAI Responses": "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "OpenAI limit": "Input tokens exceed the configured limit of 272000 tokens. It has 300000 tokens.",
    "vLLM": "max_tokens=5000 cannot be greater than max_model_len=512. Please request fewer output tokens.",
    "vLLM prompt": "The decoder prompt (length 9000) is longer than the maximum model length of 4096.",
    "SGLang": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "SGLang sum": "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 and 200",
    "TGI chat": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "TGI inputs": "Input validation error: `inputs` must have less than 4095 `tokens`. Given: 5000",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "llama.cpp shift": "Context size has been exceeded.",
    "llama-cpp-python": "Requested tokens (5000) exceed context window of 4096",
    "LM Studio": "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
    "context length of only 4096 tokens, which is not enough.",
    "Ollama": "the input length exceeds the context length",
    "Groq": "Please reduce the length of the messages or completion.",
    "Cerebras": "Please reduce the length of the messages or completion. Current length is 9 while limit is 8",
    "Fireworks": "The prompt is too long: 200000, model maximum context length: 131071",
    "Anthropic": "prompt is too long: 209353 tokens > 199999 maximum",
    "Anthropic sum": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "Bedrock": "Input is too long for requested model.",
    "Gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Vertex": "Unable to submit request because the input token count is 9 but model only supports up to 8.",
    "DashScope": "Range of input length should be [1, 98304]",
    "DashScope compatible": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
    "Mistral": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
    "Cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4600.",
    "Moonshot": "Invalid request: Your request exceeded model token limit: 131072",
    "Z.ai": "Prompt exceeds max length",
    "SambaNova": "The prompt is 9000 tokens long, but the maximum supported sequence length is just 8192!",
    "NVIDIA": "Input length of 9000 exceeds maximum input length of 8192",
    "MiniMax": "invalid params, context window exceeds limit",
    "Cloudflare": "The estimated number of tokens (9) exceeded this model context window limit (8).",
    "GitHub Models": "Request body too large for gpt-4o model. Max size: 8000 tokens.",
    "LiteLLM": "litellm.ContextWindowExceededError: litellm.BadRequestError: it does not fit",
    "DeepInfra": "length of prompt_tokens (163280) must be less than max_seq_len (32768).",
    "Gemini's last resort": "[original: x::INVALID_ARGUMENT] Cannot truncate to 89998, required 355220: text:355351",
}


@SHARED
async def test_a_context_that_is_too_long_is_known_in_the_words_of_every_server(shared_loopback, models):
    """Whichever server stands behind whichever wire, at a 400 and inside a stream that began with 200."""
    classes = {}
    for server, words in TOO_LONG.items():
        for wire, model in models.items():
            shared_loopback.answers(error_body(wire, words), status=400)
            classes[server, wire, "400"] = type(await failure_of(model, stream=True))
            content_type, data = error_in_stream(wire, words)
            shared_loopback.streams(data, content_type=content_type)
            classes[server, wire, "stream"] = type(await failure_of(model, stream=True))
    assert classes == dict.fromkeys(classes, ContextTooLong)


LACKING = {
    "Ollama": (400, "registry.ollama.ai/library/gemma3:4b does not support tools"),
    "vLLM": (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    "vLLM parser": (400, 'tool_choice="required" requires --tool-call-parser to be set'),
    "vLLM images": (400, "m is not a multimodal model"),
    "Groq": (400, "`tool calling` is not supported with this model"),
    "DeepSeek": (400, "deepseek-reasoner does not support Function Calling"),
    "DeepSeek schema": (400, "This response_format type is unavailable now"),
    "OpenAI images": (400, "Invalid content type. image_url is only supported by certain models."),
    "OpenAI schema": (
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    ),
    "OpenAI tool schema": (400, "Invalid schema for function 'f': schema must have type 'object' and not have 'anyOf'"),
    "Anthropic tool schema": (400, "tools.0.custom.input_schema: input_schema does not support oneOf at the top level"),
    "Anthropic prefill": (400, "This model does not support assistant message prefill."),
    "Fireworks": (400, "Extra inputs are not permitted, field: 'stream_options'"),
    "Gemini": (400, "Function calling is not enabled for models/gemma-3-27b-it"),
    "Gemini system role": (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    "Gemini's JSON mode": (400, "Function calling with a response mime type: 'application/json' is unsupported"),
    "templates": (500, "System role not supported"),
    "templates' order": (500, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "Bedrock": (400, "Invocation of model ID x with on-demand throughput isn\u2019t supported."),
    "llama.cpp": (500, "image input is not supported - hint: you may need to provide the mmproj"),
    "llama.cpp tools": (500, "tools param requires --jinja flag"),
    "OpenRouter": (404, "No endpoints found that support tool use. To learn more, visit the documentation"),
    "vLLM without a template": (400, "As of transformers v4.44 you must provide a chat template if there is none."),
    "TGI's template": (422, "Template error: template not found"),
    "DeepSeek's thoughts": (400, "Missing `reasoning_content` field in the assistant message at message index 2."),
    "OpenRouter images": (404, "No endpoints found that support image input"),
}
BLOCKED = {
    "OpenRouter": (403, "x/y requires moderation. Your input was flagged."),
    "xAI": (403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
    "Azure": (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."),
    "OpenAI": (400, "Your request was rejected as a result of our safety system."),
    "DeepSeek": (400, "Content Exists Risk"),
    "Moonshot": (400, "The request was rejected because it was considered high risk"),
    "DashScope": (400, "Input data may contain inappropriate content."),
    "Z.ai": (400, "系统检测到输入或生成内容可能包含不安全或敏感内容"),
    "Gemini": (400, "The prompt was blocked."),
    "Cloudflare": (400, "Prompt blocked due to security configurations"),
}
USED_UP = {
    "OpenAI": (429, "You exceeded your current quota, please check your plan and billing details."),
    "Anthropic": (400, "Your credit balance is too low to access the Anthropic API."),
    "DeepSeek": (402, "Insufficient Balance"),
    "OpenRouter": (403, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"),
    "OpenRouter a day": (429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more"),
    "Moonshot": (429, "Your account org-1 is suspended due to insufficient balance, please recharge your account"),
    "xAI": (403, "Your team 1 has either used all available credits or reached its monthly spending limit."),
    "xAI a new team": (403, "Your newly created team doesn't have any credits or licenses yet."),
    "Ollama's cloud": (429, "you've reached your weekly usage limit, please wait or upgrade to continue"),
    "Ollama's cloud by name": (429, "you (somebody) have reached your session usage limit, upgrade for higher limits"),
    "Hugging Face": (402, "You have exceeded your monthly included credits for Inference Providers."),
    "Fireworks": (412, "Account acme is suspended, possibly due to reaching the monthly spending limit"),
    "Cohere": (429, "You are using a Trial key, which is limited to 1000 API calls / month."),
    "Gemini's prepayment": (429, "Your prepayment credits are depleted. Please go to AI Studio."),
    "Gemini's cap": (429, "Your project has exceeded its monthly spending cap."),
    "LiteLLM": (400, "Budget has been exceeded! Current cost: 12.3, Max budget: 10.0"),
    "LiteLLM's user": (429, "ExceededBudget: User=u over budget. Spend=10.1, Budget=10.0"),
}
OTHERS = {
    "a model that is not there": (400, "The model `m` does not exist.", ModelNotFound),
    "a model that is no more": (
        400,
        "The model `m` has been decommissioned and is no longer supported.",
        ModelNotFound,
    ),
    "LiteLLM's model": (400, "/chat/completions: Invalid model name passed in model=m.", ModelNotFound),
    "LM Studio without a model": (400, "No models loaded. Please load a model.", ModelNotFound),
    "LM Studio's model": (400, 'Failed to load model "m". Error: Model does not exist.', ModelNotFound),
    "LM Studio's end": (400, "The model has crashed without additional information.", ServerError),
    "Together's model": (400, "Unable to access non-serverless model m. Please visit the site.", ModelNotFound),
    "DeepSeek's model": (400, "Model Not Exist", ModelNotFound),
    "a key": (400, "API key not valid. Please pass a valid API key.", AuthenticationFailed),
    "a country": (400, "User location is not supported for the API use.", AuthenticationFailed),
    "a region": (403, "Claude is not available in your region.", AuthenticationFailed),
    "a model that loads": (400, "Model m is currently loading", Overloaded),
    "a deployment that starts": (404, "The deployment is not ready", Overloaded),
    "more than a minute's tokens": (
        429,
        "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000.",
        RequestRefused,
    ),
    "more than the credit left": (402, "This request requires more credits, or fewer max_tokens.", RequestRefused),
    "a firewall": (403, "Your request was blocked.", RequestRefused),
    "llama.cpp's template": (500, "Value is not callable: null at row 1, column 72: {%- for", RequestRefused),
    "a call that Ollama cannot read": (500, "error parsing tool call: raw='{}]', err=invalid character", BadReply),
    "a call that llama.cpp cannot read": (500, "Failed to parse input at pos 12: <tool_call>{", BadReply),
    "an answer that Groq cannot read": (400, "Parsing failed. The model generated output that could not be", BadReply),
}
WORDS = {
    **{f"lacking: {server}": (*row, UnsupportedFeature) for server, row in LACKING.items()},
    **{f"blocked: {server}": (*row, ContentBlocked) for server, row in BLOCKED.items()},
    **{f"used up: {server}": (*row, QuotaExhausted) for server, row in USED_UP.items()},
    **OTHERS,
}


@SHARED
async def test_words_say_what_no_code_says(shared_loopback, models):
    """The class is the same behind every wire, and the status stays on the error."""
    for name, (status, message, wanted) in WORDS.items():
        answers = {}
        for wire, model in models.items():
            shared_loopback.answers(error_body(wire, message, status), status=status)
            failure = await failure_of(model)
            answers[wire] = type(failure), failure.status
        assert answers == dict.fromkeys(WIRES, (wanted, status)), name


QUOTED = ["Your credit balance is too low", "The model `m` does not exist", "Incorrect API key provided", "rate limit"]


@SHARED
@pytest.mark.parametrize("capitals", [str.upper, str.lower, str.title])
async def test_words_mean_the_same_in_any_case(shared_loopback, models, capitals):
    """A server's words are known however it writes them, also those behind other words."""
    words = capitals("the account is in arrears: your free quota is used up")
    shared_loopback.answers(error_body("openai", words, 403), status=403)
    assert type(await failure_of(models["openai"])) is QuotaExhausted


@EVERY_WIRE
@table("status", [400, 422, 500])
async def test_a_users_words_that_a_server_quotes_shut_no_model(loopback, wire, status):
    """A validation error repeats the input: what stands there says nothing about the account or the model."""
    async with MAKERS[wire](loopback.url) as model:
        for text in QUOTED:
            loopback.answers(error_body(wire, f"Invalid value for messages[0]: '{text}'", status), status=status)
            failure = await failure_of(model)
            assert failure.breaker_effect in (BreakerEffect.IGNORES, BreakerEffect.COUNTS)
            assert failure.breaker_effect is BreakerEffect.IGNORES or status == 500


@EVERY_WIRE
async def test_a_number_of_another_vendor_does_not_make_a_broken_server_a_wrong_key(loopback, wire):
    """Mistral gives the number of Z.ai's wrong keys to every failure: with a 5xx, the status says what happened."""
    async with MAKERS[wire](loopback.url) as model:
        for status, wanted in {500: ServerError, 503: Overloaded, 401: AuthenticationFailed}.items():
            loopback.answers({"error": {"code": "1000", "message": "no"}}, status=status)
            assert type(await failure_of(model)) is wanted


PASSED_ON = {
    "OpenRouter": {
        "error": {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {
                "raw": '{"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}',
                "provider_name": "Y",
            },
        }
    },
    "OpenRouter, read": {
        "error": {
            "message": "Provider returned error",
            "metadata": {"raw": {"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}},
        }
    },
    "LiteLLM": {
        "error": {
            "message": 'litellm.BadRequestError: AnthropicException - b\'{"type":"error","error":{"type":'
            '"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}\'',
            "type": None,
            "code": "400",
        }
    },
    "Databricks": {
        "error_code": "BAD_REQUEST",
        "message": '{"external_model_provider": "amazon-bedrock", "external_model_error": '
        '{"message": "prompt is too long: 9 tokens > 8 maximum"}}',
    },
}


@table("gateway", PASSED_ON)
async def test_a_gateway_passes_on_what_the_server_behind_it_said(loopback, gateway):
    """The refusal in a gateway's wrapping is read like the refusal itself."""
    loopback.answers(PASSED_ON[gateway], status=400)
    async with MAKERS["openai"](loopback.url) as model:
        failure = await failure_of(model)
    assert type(failure) is ContextTooLong
    assert "prompt is too long" in str(failure)


@table("code", ["tool_use_failed", "json_validate_failed", "output_parse_failed"])
async def test_a_models_own_slip_counts_for_no_breaker(loopback, code):
    """Groq refuses what its model wrote: another try may do, and the model is as healthy as before."""
    loopback.answers({"error": {"message": "Failed to call a function", "code": code}}, status=400)
    async with MAKERS["openai"](loopback.url) as model:
        failure = await failure_of(model)
    assert (type(failure), failure.breaker_effect) == (BadReply, BreakerEffect.IGNORES)


IN_A_200 = {
    "MiniMax, no money": (
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        QuotaExhausted,
    ),
    "MiniMax, a limit": (
        {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        RateLimited,
    ),
    "a gateway": ({"code": 500, "msg": "the channel broke", "data": None}, ServerError),
}


@BOTH
@table("server", IN_A_200)
async def test_an_error_in_a_200_is_read_in_the_form_of_every_gateway(loopback, server, stream):
    """Whatever stands in the place of an answer says what is wrong."""
    body, wanted = IN_A_200[server]
    loopback.answers(body)
    async with MAKERS["openai"](loopback.url) as model:
        assert type(await failure_of(model, stream)) is wanted


FLAT = {
    "vLLM": {"object": "error", "message": TOO_LONG["SGLang sum"], "type": "BadRequestError", "code": 400},
    "Mistral": {"object": "error", "message": TOO_LONG["Mistral"], "type": "invalid_request_error", "code": "3051"},
    "Cerebras": {"message": TOO_LONG["Cerebras"], "type": "invalid_request_error", "param": "messages"},
    "Bedrock": {"message": TOO_LONG["Bedrock"]},
    "FastAPI": {"detail": TOO_LONG["vLLM"]},
}


@BOTH
@EVERY_WIRE
async def test_an_error_without_a_frame_in_a_200_is_known_on_every_wire(loopback, wire, stream):
    """Servers that write their message beside everything else do so behind every vendor's API."""
    classes = {}
    async with MAKERS[wire](loopback.url) as model:
        for server, body in FLAT.items():
            if stream:
                line = json.dumps(body)
                content_type = "application/x-ndjson" if wire == "ollama" else "text/event-stream"
                loopback.streams(f"{line}\n" if wire == "ollama" else f"data: {line}\n\n", content_type=content_type)
            else:
                loopback.answers(body)
            classes[server] = type(await failure_of(model, stream))
    assert classes == dict.fromkeys(FLAT, ContextTooLong)


# -- what a chain makes of it ------------------------------------------------------------------------------------------

ABOUT_ONE_REQUEST = [(405, "no"), (422, "no"), (404, LACKING["OpenRouter"][1]), (500, LACKING["llama.cpp"][1])]


def chain_before_a_backup(wire, url):
    """A hub whose chain asks a model of *wire* at *url*, then a scripted one."""
    models = {"first": ENTRIES[wire](url), "backup": {"provider": "scripted", "reply": "backup"}}
    return Hub.from_dict({"version": 1, "models": models, "chains": {"c": {"models": ["first", "backup"]}}}, environ={})


@EVERY_WIRE
async def test_a_refusal_of_one_request_is_answered_by_the_next_model_and_opens_no_breaker(loopback, wire):
    """Whatever its status, and however often: the twentieth call is still sent."""
    async with chain_before_a_backup(wire, loopback.url) as hub:
        for status, message in ABOUT_ONE_REQUEST * 5:
            loopback.answers(error_body(wire, message), status=status)
            assert (await hub.get("c")("hi")).text == "backup"
    assert len(loopback.asked) == 20


@EVERY_WIRE
async def test_flagged_input_is_not_handed_to_the_next_vendor(loopback, wire):
    """Content that one vendor refuses is refused, and the model answers everybody else."""
    loopback.answers(error_body(wire, BLOCKED["OpenRouter"][1]), status=403)
    async with chain_before_a_backup(wire, loopback.url) as hub:
        for _ in range(6):
            with pytest.raises(ContentBlocked):
                await hub.get("c")("hi")
    assert len(loopback.asked) == 6


def test_a_refused_request_is_an_invalid_request():
    """`except InvalidRequest` goes on working."""
    assert issubclass(RequestRefused, InvalidRequest)


# -- Gemini's quotas ---------------------------------------------------------------------------------------------------


def quota(name):
    """Google's 429 for a quota, with the wait that it always names."""
    violations = [{"quotaId": name, "quotaValue": "10"}]
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36.4s"}
    message = "You exceeded your current quota, please check your plan and billing details. Please retry in 36.4s."
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": [failure, retry]}}


@BOTH
@table("wire", ["gemini", "openai"])
@table(
    ("name", "wanted"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", RateLimited),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", QuotaExhausted),
    ],
)
async def test_googles_quota_of_a_minute_is_a_rate_and_of_a_day_is_spent(loopback, wire, name, wanted, stream):
    """By its own API and by its API in OpenAI's form, which writes the error into a list."""
    loopback.answers([quota(name)] if wire == "openai" else quota(name), status=429)
    async with MAKERS[wire](loopback.url) as model:
        failure = await failure_of(model, stream)
    assert type(failure) is wanted
    assert failure.retry_after == (36.4 if wanted is RateLimited else None)


@BOTH
@table(
    "candidates",
    [{}, {"candidates": []}, {"candidates": [{}]}, {"candidates": [{"index": 0, "finishReason": "OTHER"}]}],
)
async def test_a_prompt_that_google_blocks_is_blocked_content(loopback, stream, candidates):
    """A 200 without candidates, or with one that has nothing, is no empty answer; what the prompt cost is known."""
    body = candidates | {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 7},
    }
    if stream:
        loopback.streams(f"data: {json.dumps(body)}\r\n\r\n", content_type="text/event-stream")
    else:
        loopback.answers(body)
    async with MAKERS["gemini"](loopback.url) as model:
        failure = await failure_of(model, stream)
    assert (type(failure), failure.code) == (ContentBlocked, "PROHIBITED_CONTENT")
    assert failure.attempts[-1].usage.input_tokens == 7
