"""Statuses and error codes of all vendors, as failure classes.

An exact code says more than the status that it comes with. A type that several failures share (`api_error`,
`server_error`) says less than a status, and is read only where there is none: inside a 200 and inside a stream.
"""

from __future__ import annotations

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
    UnknownFailure,
    UnsupportedFeature,
)

__all__ = ["ERROR_CODES", "ERROR_TYPES", "GENERIC_TYPES", "class_of_status"]

_STATUS_CLASSES: Final[dict[int, type[CallError]]] = {
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    404: ModelNotFound,
    407: AuthenticationFailed,  # the proxy wants a password
    408: ServerError,
    409: ServerError,  # a lock at the vendor; its SDKs retry it
    410: ModelNotFound,  # retired
    420: RateLimited,
    421: Overloaded,  # this connection leads to a server that does not answer for the host
    423: Overloaded,  # locked while a model loads
    424: ServerError,  # something behind the vendor failed (TGI, Azure)
    425: Overloaded,
    429: RateLimited,
    446: ContentBlocked,  # Portkey: a guardrail
    449: Overloaded,  # retry with (Microsoft)
    460: ServerError,  # AWS load balancer: the connection was closed too early
    495: AuthenticationFailed,  # nginx: client certificate
    496: AuthenticationFailed,
    498: Overloaded,  # Groq: no capacity in the flex tier
    499: ServerError,  # cancelled on the way (nginx, Google)
    503: Overloaded,
    511: AuthenticationFailed,  # a captive portal
    521: Overloaded,  # Cloudflare: the server behind it is down
    529: Overloaded,
    561: AuthenticationFailed,  # AWS load balancer
}
"""Statuses with a meaning of their own. Any other 4xx is `RequestRefused`, any other 5xx `ServerError`."""


def class_of_status(status: int | None) -> type[CallError]:
    """The class of a failure of which only the HTTP *status* is known."""
    if status is None or not 400 <= status <= 599:
        return UnknownFailure
    return _STATUS_CLASSES.get(status) or (ServerError if status >= 500 else RequestRefused)


ERROR_CODES: Final[dict[str, type[CallError]]] = {
    # OpenAI, Azure OpenAI, and who speaks like them
    "account_deactivated": AuthenticationFailed,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "content_filter": ContentBlocked,
    "content_policy_violation": ContentBlocked,
    "context_length_exceeded": ContextTooLong,
    "DeploymentNotFound": ModelNotFound,
    "insufficient_quota": QuotaExhausted,
    "invalid_api_key": AuthenticationFailed,
    "invalid_authentication": AuthenticationFailed,
    "invalid_prompt": ContentBlocked,  # "flagged as potentially violating our usage policy"
    "model_not_found": ModelNotFound,
    "moderation_blocked": ContentBlocked,
    "NoCapacity": Overloaded,
    "OperationNotSupported": UnsupportedFeature,
    "overloaded": Overloaded,
    "ResponsibleAIPolicyViolation": ContentBlocked,
    "string_above_max_length": ContextTooLong,
    "unsupported_country_region_territory": AuthenticationFailed,
    "unsupported_parameter": UnsupportedFeature,
    "unsupported_value": UnsupportedFeature,
    # Anthropic, also where a gateway passes on what it said
    "billing_error": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "organization_on_hold": AuthenticationFailed,
    # llama.cpp's server
    "exceed_context_size_error": ContextTooLong,
    "not_supported_error": UnsupportedFeature,
    # Groq: the account is closed; the model's own answer was no call, or no JSON
    "organization_restricted": AuthenticationFailed,
    "json_validate_failed": BadReply,
    "output_parse_failed": BadReply,
    "tool_use_failed": BadReply,
    # DeepSeek, Moonshot, DashScope's compatible mode, gateways
    "Arrearage": QuotaExhausted,
    "data_inspection_failed": ContentBlocked,
    "engine_overloaded_error": Overloaded,
    "exceeded_current_quota_error": QuotaExhausted,
    "insufficient_balance": QuotaExhausted,
    "insufficient_user_quota": QuotaExhausted,
    "pre_consume_token_quota_failed": QuotaExhausted,
    # LiteLLM
    "budget_exceeded": QuotaExhausted,
    "ContentPolicyViolationError": ContentBlocked,
    "ContextWindowExceededError": ContextTooLong,
    # Mistral, GitHub Models, Baidu Qianfan
    "3051": ContextTooLong,
    "invalid_model": ModelNotFound,
    "tokens_limit_reached": ContextTooLong,
    "tokens_too_long": ContextTooLong,
    "unsafe_request": ContentBlocked,
    # Z.ai, Zhipu (docs.z.ai/api-reference/api-code)
    **dict.fromkeys(
        ("1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112", "1121", "1220"), AuthenticationFailed
    ),
    **dict.fromkeys(("1113", "1304", "1308", "1309", "1310"), QuotaExhausted),
    **dict.fromkeys(("1211", "1221", "1222", "1311"), ModelNotFound),
    "1212": UnsupportedFeature,
    "1261": ContextTooLong,
    "1301": ContentBlocked,
    "1302": RateLimited,
    "1303": RateLimited,
    "1305": Overloaded,
    "1312": Overloaded,
    # AWS, in front of Claude and others (Bedrock's error types)
    "AccessDeniedException": AuthenticationFailed,
    "ExpiredTokenException": AuthenticationFailed,
    "ModelNotReadyException": Overloaded,
    "ModelTimeoutException": ServerError,
    "ResourceNotFoundException": ModelNotFound,
    "ServiceQuotaExceededException": QuotaExhausted,
    "ServiceUnavailableException": Overloaded,
    "ThrottlingException": RateLimited,
    "UnrecognizedClientException": AuthenticationFailed,
}
"""Codes that name one failure, whatever status they come with. A vendor's own go on top."""

ERROR_TYPES: Final[dict[str, type[CallError]]] = {
    "authentication_error": AuthenticationFailed,
    "model_not_supported": ModelNotFound,
    "not_found_error": ModelNotFound,
    "NotFoundError": ModelNotFound,
    "overloaded_error": Overloaded,
    "permission_denied": AuthenticationFailed,
    "permission_error": AuthenticationFailed,
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "rate_limit_reached_error": RateLimited,
    "rate_limited": RateLimited,
    "RateLimitReached": RateLimited,
    "requests": RateLimited,
    "service_unavailable": Overloaded,
    "timeout_error": ServerError,
    "tokens": RateLimited,
}
"""Types and codes that name a kind of failure: they are read where the status is 400, 500 or none at all."""

GENERIC_TYPES: Final[dict[str, type[CallError]]] = {
    "api_error": ServerError,
    "BadRequestError": RequestRefused,
    "internal_error": ServerError,
    "internal_server_error": ServerError,
    "InternalServerError": ServerError,
    "invalid_request_error": RequestRefused,
    "request_too_large": RequestRefused,
    "server_error": ServerError,
}
"""Types that servers write whatever has happened: they are read only where there is no status."""
