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

__all__ = ["ERROR_CODES", "ERROR_TYPES", "GENERIC_TYPES", "class_of_status", "map_codes"]

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


def map_codes(*rows: tuple[type[CallError], str]) -> dict[str, type[CallError]]:
    """Return the class of each code in *rows*, each of which has a class and its codes with blanks between them."""
    return {code: cls for cls, codes in rows for code in codes.split()}


ERROR_CODES: Final = map_codes(
    # OpenAI, Azure OpenAI, and who speaks like them
    (AuthenticationFailed, "account_deactivated invalid_api_key invalid_authentication"),
    (AuthenticationFailed, "unsupported_country_region_territory"),
    (QuotaExhausted, "billing_hard_limit_reached billing_not_active insufficient_quota"),
    (ContentBlocked, "content_filter content_policy_violation moderation_blocked ResponsibleAIPolicyViolation"),
    (ContentBlocked, "invalid_prompt"),  # "flagged as potentially violating our usage policy"
    (ContextTooLong, "context_length_exceeded string_above_max_length"),
    (ModelNotFound, "DeploymentNotFound model_not_found"),
    (Overloaded, "NoCapacity overloaded"),
    (UnsupportedFeature, "OperationNotSupported unsupported_parameter unsupported_value"),
    # Anthropic, also where a gateway passes on what it said
    (QuotaExhausted, "billing_error contract_spend_limit_reached enforced_spend_limit_reached"),
    (AuthenticationFailed, "organization_on_hold"),
    # llama.cpp's server
    (ContextTooLong, "exceed_context_size_error"),
    (UnsupportedFeature, "not_supported_error"),
    # Groq: the account is closed; the model's own answer was no call, or no JSON
    (AuthenticationFailed, "organization_restricted"),
    (BadReply, "json_validate_failed output_parse_failed tool_use_failed"),
    # DeepSeek, Moonshot, DashScope's compatible mode, gateways
    (QuotaExhausted, "Arrearage exceeded_current_quota_error insufficient_balance insufficient_user_quota"),
    (QuotaExhausted, "pre_consume_token_quota_failed"),
    (ContentBlocked, "data_inspection_failed"),
    (Overloaded, "engine_overloaded_error"),
    # LiteLLM
    (QuotaExhausted, "budget_exceeded"),
    (ContentBlocked, "ContentPolicyViolationError"),
    (ContextTooLong, "ContextWindowExceededError"),
    # Mistral, GitHub Models, Baidu Qianfan
    (ContextTooLong, "3051 tokens_limit_reached tokens_too_long"),
    (ModelNotFound, "invalid_model"),
    (ContentBlocked, "unsafe_request"),
    # Z.ai, Zhipu (docs.z.ai/api-reference/api-code)
    (AuthenticationFailed, "1000 1001 1002 1003 1004 1110 1111 1112 1121 1220"),
    (QuotaExhausted, "1113 1304 1308 1309 1310"),
    (ModelNotFound, "1211 1221 1222 1311"),
    (UnsupportedFeature, "1212"),
    (ContextTooLong, "1261"),
    (ContentBlocked, "1301"),
    (RateLimited, "1302 1303"),
    (Overloaded, "1305 1312"),
    # AWS, in front of Claude and others (Bedrock's error types)
    (AuthenticationFailed, "AccessDeniedException ExpiredTokenException UnrecognizedClientException"),
    (Overloaded, "ModelNotReadyException ServiceUnavailableException"),
    (ServerError, "ModelTimeoutException"),
    (ModelNotFound, "ResourceNotFoundException"),
    (QuotaExhausted, "ServiceQuotaExceededException"),
    (RateLimited, "ThrottlingException"),
)
"""Codes that name one failure, whatever status they come with. A vendor's own go on top."""

ERROR_TYPES: Final = map_codes(
    (AuthenticationFailed, "authentication_error permission_denied permission_error"),
    (ModelNotFound, "model_not_supported not_found_error NotFoundError"),
    (Overloaded, "overloaded_error service_unavailable"),
    (RateLimited, "rate_limit_error rate_limit_exceeded rate_limit_reached_error rate_limited RateLimitReached"),
    (RateLimited, "requests tokens"),
    (ServerError, "timeout_error"),
)
"""Types and codes that name a kind of failure: they are read where the status is 400, 500 or none at all."""

GENERIC_TYPES: Final = map_codes(
    (ServerError, "api_error internal_error internal_server_error InternalServerError server_error"),
    (RequestRefused, "BadRequestError invalid_request_error request_too_large"),
)
"""Types that servers write whatever has happened: they are read only where there is no status."""
