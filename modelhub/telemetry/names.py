"""All names of attributes and metrics: those of OpenTelemetry's GenAI conventions, version 1.41.0, and our own.

The conventions are in development and their names still change, which is why they are all here. 1.41.0 is the last
version before they moved to a separate repository. To follow a later one, change this file and `VERSION`, and say so in
the changelog: dashboards depend on these names.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "1.41.0"
"""The version of the conventions."""
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"
SCOPE: Final = "modelhub"
"""The name of the tracer and of the meter."""

# -- the conventions' attributes ---------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no password but a name
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# -- the conventions' values -------------------------------------------------------------------------------------------

CHAT: Final = "chat"
INPUT: Final = "input"
OUTPUT: Final = "output"
JSON: Final = "json"
FINISH_REASONS: Final = {"tool_calls": "tool_call"}
"""Our finish reasons that have another name in the conventions' messages."""
PARAMETERS: Final = {
    "temperature": REQUEST_TEMPERATURE,
    "top_p": REQUEST_TOP_P,
    "top_k": REQUEST_TOP_K,
    "max_tokens": REQUEST_MAX_TOKENS,
    "max_completion_tokens": REQUEST_MAX_TOKENS,
    "max_output_tokens": REQUEST_MAX_TOKENS,
    "num_predict": REQUEST_MAX_TOKENS,
    "seed": REQUEST_SEED,
    "frequency_penalty": REQUEST_FREQUENCY_PENALTY,
    "presence_penalty": REQUEST_PRESENCE_PENALTY,
    "n": REQUEST_CHOICES,
    "candidate_count": REQUEST_CHOICES,
}
"""The attributes of request parameters, by the vendors' names of the parameters."""

# -- our own attributes ------------------------------------------------------------------------------------------------

CALL_ID: Final = "modelhub.call_id"
REQUESTED: Final = "modelhub.requested"
"""The chain or model that was called."""
MODEL: Final = "modelhub.model"
"""The entry of an attempt; for a call, that of its last attempt, which answered if the call was answered."""
ARM: Final = "modelhub.arm"
"""The deployment or key of an attempt, where several share a place of the chain."""
HOW: Final = "modelhub.how"
"""How the call ended: complete, failed, closed, cancelled or abandoned."""
ATTEMPTS: Final = "modelhub.attempts"
RESTARTS: Final = "modelhub.restarts"
STREAM: Final = "modelhub.stream"
FIRST_TOKEN: Final = "modelhub.first_token"  # noqa: S105 - no password but a name
"""Seconds from the start of the call to the first content; not known of an answer that came in one piece."""
FINISH_REASON: Final = "modelhub.finish_reason"
INPUT_TOKENS: Final = "modelhub.usage.input_tokens"
"""The sum over all attempts; only attempts have `gen_ai.usage`, so that nothing is counted twice."""
OUTPUT_TOKENS: Final = "modelhub.usage.output_tokens"
ESTIMATED: Final = "modelhub.usage.estimated"
"""Whether the usage is an estimate, because the vendor did not report it."""
TAG: Final = "modelhub.tag."
"""The prefix of a tag's name."""
ATTEMPT_NUMBER: Final = "modelhub.attempt.number"
ATTEMPT_OUTCOME: Final = "modelhub.attempt.outcome"
ATTEMPT_WAIT: Final = "modelhub.attempt.wait"
"""Seconds spent waiting before the attempt: back-off, and the queue of a limit."""
ATTEMPT_REQUEST_ID: Final = "modelhub.attempt.request_id"
ATTEMPT_CODE: Final = "modelhub.attempt.code"
"""The vendor's error code."""
ATTEMPT_DROPPED: Final = "modelhub.attempt.dropped"
"""The names of the parameters that were left out for the model."""
ATTEMPT_ROUNDED: Final = "modelhub.attempt.rounded"
"""The parameters that were changed for the model, each with the change: `reasoning_effort: minimal -> low`."""
SKIPPED: Final = "modelhub.skipped"
"""The event of a model that was skipped without a request."""

# -- metrics -----------------------------------------------------------------------------------------------------------

TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - no password but a name
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
CALL_DURATION: Final = "modelhub.call.duration"
SHARED_DOWN: Final = "modelhub.shared.down"
"""1 while the store of shared limits and budgets cannot be reached, else 0."""

TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
SECOND_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
CALL_BUCKETS: Final = (*SECOND_BUCKETS, 163.84, 327.68)
"""Buckets for whole calls, with all attempts and waits."""
