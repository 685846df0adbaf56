"""What servers write where no error code says what is wrong: the words of each, and the failure that they mean.

Words decide only where neither a code nor an exact status does, and only at statuses at which a server may mean this.
What shuts a model for everybody (`QuotaExhausted`, `ModelNotFound`, `AuthenticationFailed`) must stand at the very
beginning of the message unless the status itself speaks of the account: a validation error may quote the user's text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    UnsupportedFeature,
)

__all__ = ["find_class"]

_MAX_MESSAGE_LENGTH = 4000

# Words are regular expressions, in lower case. Behind each stand the servers that write them.

_OVERRIDING: Final = (
    # 429 or 413: more tokens in one request than the limit of a minute, so that waiting does not help.
    (r"request too large for .{1,300}\bper (min|day)", RequestRefused),  # OpenAI, Groq
    (r"requires more credits, or fewer max_tokens", RequestRefused),  # OpenRouter, 402: this request alone
    (r"^allocated quota exceeded, please increase", RateLimited),  # DashScope: tokens a minute, as a quota
    (r"^free allocated quota exceeded", QuotaExhausted),  # DashScope: as Throttling.AllocationQuota
    # 403: a firewall takes something in this request for an attack.
    (r"you have been blocked|attention required! \| cloudflare", RequestRefused),  # Cloudflare
    (r"^your request was blocked\.?$|^just a moment\.\.\.", RequestRefused),  # Cloudflare
    (r"^request blocked\b", RequestRefused),  # CloudFront
)
"""Words that say more than the code or status they come with."""

_CONTEXT_TOO_LONG: Final = (
    r"(maximum|max|model'?s?|configured) context[ _](length|window|size|limit)",  # OpenAI, Azure, vLLM, DeepSeek, ...
    r"(available|exceeds?|exceeded)( the| this| your)?( model'?s?)? context[ _](length|window|size|limit)",  # llama.cpp
    r"exceed(s|ed)? (the |your )?(model'?s? )?(max(imum)? )?context (length|window|limit)",  # OpenAI Responses, Ollama
    r"exceeded this model context window limit",  # Cloudflare Workers AI
    r"context (size|length) (has been |was )?exceeded",  # llama.cpp, LM Studio, Ollama
    r"exceeds n_ctx",  # llama-cpp-python
    r"context window exceeds limit",  # MiniMax
    r"contextwindowexceedederror",  # LiteLLM
    r"when context the overflows|loaded with context length of only",  # LM Studio
    r"greater than the context length",  # LM Studio
    r"input tokens exceed",  # OpenAI: `Input tokens exceed the configured limit`
    r"cannot be greater than max_model_len",  # vLLM 0.32
    r"longer than the (maximum )?model('s)? (context )?length",  # vLLM, SGLang
    r"too long to fit into the model|is too long and exceeds limit",  # vLLM
    r"should not exceed max_(seq_len|num_tokens)",  # TensorRT-LLM, NVIDIA
    r"input length .{0,40}exceeds? (the )?maximum",  # SGLang, Volcengine, NVIDIA
    r"requested token (count|length) exceeds",  # SGLang, NVIDIA
    r"requested tokens? \(?\d+\)? exceed",  # llama-cpp-python
    r"`inputs` tokens \+ `max_new_tokens` must be",  # TGI, Together, Hugging Face
    r"`inputs` must have less than \d+ `?tokens",  # TGI, Hugging Face
    r"^(the )?prompt is too long\b(?!\?)",  # Anthropic, Vertex, Fireworks, AI21
    r"^prompt too long\b",  # Ollama
    r"^(the )?input is too long\b",  # Bedrock, Databricks
    r"input token count.{0,60}(exceeds the maximum|model only supports)",  # Gemini, Vertex
    r"exceeds? the maximum (number of|allowed) (input )?tokens",  # Gemini, Vertex, Bedrock
    r"text fields that are too large",  # Vertex
    r"range of input length should be|input length exceeds",  # DashScope, native and compatible
    r"tokens? .{0,40}too large for model with",  # Mistral
    r"maximum prompt length is",  # xAI
    r"prompt token count of \d+ exceeds",  # GitHub Copilot
    r"exceeded model token limit",  # Moonshot
    r"prompt exceeds max(imum)? length|prompt ?超长",  # Z.ai, Zhipu
    r"输入(内容)?(长度|文本)?(过长|超过|超长)",  # Baidu, Tencent
    r"prompt tokens too long",  # Baidu
    r"too many tokens: |total number of tokens in the prompt",  # Cohere
    r"reduce the length of (the|your) (messages|prompt|input)",  # OpenAI, Groq, Cerebras, vLLM
    r"current length is \d+ while limit is",  # Cerebras
    r"maximum supported sequence length|maximum sequence length",  # SambaNova, Databricks
    r"body too large for .{1,80} model\. max size: \d+ tokens",  # GitHub Models, 413
    r"number of input tokens \d+ cannot exceed",  # watsonx
    r"total tokens of image and text exceed",  # Volcengine
    r"length of prompt_tokens \(\d+\) must be less than max_seq_len",  # DeepInfra, SiliconFlow
    r"cannot truncate to \d+, required \d+",  # Gemini
)

_CONTENT_BLOCKED: Final = (
    r"requires moderation|input was flagged",  # OpenRouter, 403
    r"flagged (by|as|for)\b",  # OpenAI, Azure
    # OpenAI, xAI
    r"violat(es?|ed|ing|ion of) (our |the )?(usage|content|safety|moderation|guardrail) ?(polic|guideline)",
    r"rejected (as a result of|by) (our|the) safety",  # OpenAI
    r"content exists risk",  # DeepSeek
    r"considered high risk",  # Moonshot
    r"content (management|filtering|moderation) policy",  # Azure, Anthropic
    r"(response|prompt) was filtered",  # Azure
    r"inappropriate content|data inspection failed",  # DashScope
    r"unsafe or sensitive content|不安全或敏感|敏感(内容|信息|词)",  # Z.ai, Zhipu, Baidu
    # Gemini, Vertex
    r"\b(request|prompt|input|output|content|response)s? (was|were|has been) (blocked|flagged|filtered)",
    r"\b(prompt|response|content) blocked (due to|by)",  # Cloudflare's AI Gateway
    r"guardrail",  # Bedrock, Portkey, LiteLLM
    r"safety_check_type",  # xAI, 403
    r"(input|output) new_sensitive",  # MiniMax
)

_UNSUPPORTED: Final = (
    r"\b(does|do|did) ?(not|n['\u2019]t) support",  # Ollama, DeepSeek, DashScope, Anthropic, Fireworks
    r"\bnot (currently |yet )?(supported|enabled|available) (for|with|by|in|on|when)\b",  # OpenAI, Groq, Gemini, vLLM
    r"(input|role|tools?|choice|use|calling|format|schema|streaming|thinking)s? (is|are) not supported",  # llama.cpp
    r"role not supported|roles must alternate|template error:",  # chat templates behind vLLM, TGI and llama.cpp
    r"must provide a chat template",  # vLLM
    r"missing `reasoning_content`",  # DeepSeek
    r"^function calling with .{1,60} is unsupported|^multiple tools are supported only when",  # Gemini
    r"with on-demand throughput isn['\u2019]t supported",  # Bedrock: the model wants an inference profile
    r"\bonly (supported|available) (by|with|for|in|on|when)\b|only support stream",  # OpenAI, DashScope
    r"only supports one image|missing data required for image",  # Ollama
    r"not a multimodal model|at most \d+ (image|audio|video)",  # vLLM
    r"no endpoints found that (support|can handle)",  # OpenRouter, 404
    r"requires? (the )?`?--(enable-auto-tool-choice|tool-call-parser|reasoning-parser)",  # vLLM
    r"requires? (the )?`?--(jinja|mmproj)",  # llama.cpp
    # llama.cpp, Gemini
    r"unsupported (param|mime|media|image|model feature|role|field|message|response_format|content)",
    r"extra (inputs|fields) (are )?not permitted",  # Fireworks, Azure, Mistral
    r"unrecognized request argument|unknown (parameter|field|name)\b",  # OpenAI, Gemini
    r"additional properties are not allowed",  # Cerebras, Cohere
    r"response_format type is unavailable",  # DeepSeek
    r"invalid schema for (function|response_format)",  # OpenAI
    r"schema is too complex|schemas contains too many",  # Anthropic
    r"failed to compile .{0,20}grammar",  # vLLM, SGLang, llama.cpp
    r"\bprefill\b|takes no assistant message",  # Anthropic
    r"\bend(s|ing)? with a user (turn|message)",  # Gemini, Mistral, Anthropic
    r"thinking may not be enabled when",  # Anthropic
    r"in thinking mode|enable_thinking|support stream mode|not support http call|url error",  # DashScope
    # SGLang, llama.cpp
    r"(image|audio|video|vision|multimodal|pdf)s? .{0,20}(is|are) (not |un)(supported|accepted|enabled)",
)

_QUOTA_EXHAUSTED: Final = (
    r"you(r organization)? (have )?exceeded your current quota",  # OpenAI, Azure, Gemini's compatible mode
    r"your credit balance is too low|you have reached your specified",  # Anthropic
    r"insufficient (account )?(balance|credits?|funds|quota)",  # DeepSeek, OpenRouter, gateways
    r"not enough (credits?|balance|funds)",  # gateways
    # Moonshot, Fireworks (412)
    r"your account .{0,120}(suspended|exceeded current quota)|account .{1,80} is suspended",
    r".{0,40}account .{0,20}(in arrears|overdue|in good standing)",  # DashScope
    r"your (newly created )?team .{0,80}(credits|spending limit)",  # xAI
    r"you have run out of credits",  # xAI
    r"you('ve| have| \(.{0,60}\) have) (reached|exceeded|hit) your .{0,20}usage limit",  # Ollama's cloud
    r"you have (exceeded your monthly included credits|used up your)",  # Hugging Face, Cloudflare Workers AI
    # Together, gateways
    r"(credit|spend(ing)?|billing( hard)?|budget|monthly usage) limit (has been )?(reached|exceeded)",
    r"rate limit exceeded: free-models-per-day",  # OpenRouter
    r"you are using a trial key, which is limited to .{1,40}month",  # Cohere
    r".{0,40}(free (tier|quota)|quota) .{0,40}(exhausted|used up)",  # DashScope
    r".{0,20}(余额不足|欠费|额度不足|额度已用)",  # Zhipu, one-api
    r"your prepayment credits are depleted|your project has exceeded its .{0,20}spending cap",  # Gemini
    r"budget has been exceeded!|exceededbudget:|exceeded.{0,20} budget\b",  # LiteLLM
)

_MODEL_NOT_FOUND: Final = (
    r"(the )?(requested )?model [`'\"]?[^`'\"\s]{0,120}[`'\"]? ?(does not exist|(was )?not found)",  # Ollama, OpenAI
    # GitHub Copilot
    r"(the )?(requested )?model [`'\"]?[^`'\"\s]{0,120}[`'\"]? ?is (not supported|no longer|not available)",
    r"(the )?model [`'\"]?[^`'\"\s]{0,120}[`'\"]? ?has been (deprecated|decommissioned|retired|removed)",  # Groq
    r"model not exist",  # DeepSeek, 400
    r"(\S{1,60}: )?(no such|unknown|invalid|unrecognized) model\b",  # Mistral, Cohere, LiteLLM
    r"no models? (is |are )?loaded|failed to load model",  # LM Studio
    r"unable to access (non-serverless )?model",  # Together
    r"\S{1,120} is not a valid model",  # OpenRouter, 400
    r"models/\S{1,120} is not found|publisher model .{0,200}(not found|does not have access)",  # Gemini, Vertex
    r"the provided model identifier is invalid",  # Bedrock
)

_AUTHENTICATION_FAILED: Final = (
    r"(incorrect|invalid|missing|no) api[ _-]?key",  # OpenAI, xAI, Cohere
    r"api[ _-]?key (not valid|is invalid|expired|is missing)",  # Gemini
    r"user location is not supported",  # Gemini, 400
    r"country, region, or territory not supported",  # OpenAI, 403
    r".{0,60}not (available|supported) in your (country|region)",  # Anthropic, xAI
    r"access to (the )?model .{0,120}(is restricted|gated|not allowed)",  # Hugging Face
    r"you don't have access to the model",  # Bedrock
    r"login fail|authentication fail",  # MiniMax
    r"unauthorized\W*$",  # Ollama, inside a stream
)

_OVERLOADED: Final = (
    r"(currently|temporarily) (overloaded|unavailable|at capacity)|is overloaded",  # OpenAI, Gemini
    r"server (is )?(busy|overloaded)",  # Ollama, DeepSeek
    r"no healthy upstream",  # Envoy
    r"no available (server|instance|replica|worker|channel)",  # SGLang's router, one-api
    # Hugging Face
    r"(model|deployment|endpoint) .{0,80}\bis (still |currently |being )?(loading|starting|warming|paused)",
    r"(model|deployment|endpoint) .{0,80}\bis not ready",  # Azure, Bedrock, NVIDIA
)

_RATE_LIMITED: Final = (
    r"too many requests|(api |request )?rate.?limit",  # gateways that write another status
    r"requests? rate (limit|increased)",  # DashScope
    r"service tier capacity exceeded",  # Mistral
)

_SERVER_ERROR: Final = (r"the model has crashed|model (was )?unloaded",)  # LM Studio, 400

_REQUEST_REFUSED: Final = (
    r"failed to parse tool call arguments as json",  # llama.cpp, 500: of a call in the messages
    r"[\s\S]{1,500}\bat row \d+, column \d+:",  # llama.cpp, 500: the chat template refuses the messages
)

_BAD_REPLY: Final = (
    r"error parsing tool call",  # Ollama, 500: what the model wrote
    r"failed to parse input at pos \d+",  # llama.cpp, 500: what the model wrote
    r"parsing failed\. the model generated output|failed to call a function\.|tool call validation failed",  # Groq
)

_Statuses = frozenset[int | None]
_NOWHERE: Final = _Statuses()

_TABLES: Final[tuple[tuple[type[CallError], tuple[str, ...], _Statuses, _Statuses], ...]] = (
    (ContextTooLong, _CONTEXT_TOO_LONG, frozenset({None, 400, 413, 422, 429, 500}), _NOWHERE),
    (AuthenticationFailed, _AUTHENTICATION_FAILED, frozenset({401, 403}), frozenset({None, 400})),
    (QuotaExhausted, _QUOTA_EXHAUSTED, frozenset({402, 403, 412, 429}), frozenset({None, 400, 401, 500, 503})),
    (ModelNotFound, _MODEL_NOT_FOUND, _NOWHERE, frozenset({None, 400, 404, 422, 500})),
    (ContentBlocked, _CONTENT_BLOCKED, frozenset({None, 400, 403, 406, 422, 446, 451, 500}), _NOWHERE),
    (UnsupportedFeature, _UNSUPPORTED, frozenset({None, 400, 403, 404, 405, 415, 422, 500, 501}), _NOWHERE),
    (Overloaded, _OVERLOADED, frozenset({None, 400, 404, 409, 424, 500}), _NOWHERE),
    (RateLimited, _RATE_LIMITED, _NOWHERE, frozenset({None, 400, 403, 500, 503})),
    (ServerError, _SERVER_ERROR, _NOWHERE, frozenset({None, 400})),
    (RequestRefused, _REQUEST_REFUSED, _NOWHERE, frozenset({None, 500})),
    (BadReply, _BAD_REPLY, _NOWHERE, frozenset({None, 400, 422, 500})),
)
"""Every server's words by the failure that they mean, in the order in which they are looked for.

Then the statuses at which a message may hold them anywhere, and those at which it must begin with them.
"""

_Test = Callable[[str], re.Match[str] | None]
_LEADING_TEXT: Final = re.compile(r"^\.\{0,\d+\}")

# Case is ignored by writing the message in lower case: `re.IGNORECASE` is several times as slow. So is a search for
# one of many words in one pattern, which cannot look for its first letters; a match of one pattern is quicker.
# Nothing is compiled before a server has refused something: all of it takes a tenth as long as to load the package.


@functools.lru_cache(maxsize=64)
def _tests_at(status: int | None, overriding: bool) -> list[tuple[_Test, type[CallError]]]:
    """What a message is tested by at *status*, in order, and the failure that each of the words means."""
    if overriding:
        return [(re.compile(words).search, cls) for words, cls in _OVERRIDING]
    tests: list[tuple[_Test, type[CallError]]] = []
    for cls, table, searched_at, begins_at in _TABLES:
        if status in searched_at:
            # Text that may stand before the words costs time and changes nothing.
            tests += [(re.compile(_LEADING_TEXT.sub("", words)).search, cls) for words in table]
        elif status in begins_at:
            tests.append((re.compile("|".join(f"(?:{words})" for words in table)).match, cls))
    return tests


def find_class(message: str, status: int | None, *, overriding: bool = False) -> type[CallError] | None:
    """The failure that the words of an error *message* mean at *status* (None inside an answer), or None.

    With *overriding*, only the words that say more than any code are looked for.
    """
    return _find_class_of_text(message[:_MAX_MESSAGE_LENGTH].strip().lower(), status, overriding)


@functools.lru_cache(maxsize=64)  # in an outage a server says the same again and again
def _find_class_of_text(text: str, status: int | None, overriding: bool) -> type[CallError] | None:
    return next((cls for test, cls in _tests_at(status, overriding) if test(text)), None)
