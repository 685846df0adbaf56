"""One folder a vendor, pure on both sides of one exchange; and what a provider in a package of your own is made from.

`HttpProvider` is what the vendors are made from, `Provider` what answers without HTTP. `examples/plugin/` adds one.
"""

from modelhub._deprecated import forward_names
from modelhub.core.request import ChatRequest
from modelhub.options import ProviderOptions, Secret
from modelhub.providers.base import Payload, Provider
from modelhub.providers.endpoint import Endpoint, Site, resolve_endpoint
from modelhub.providers.error_mapping import error_from_report, read_error_body
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.request_templates import RequestTemplate
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import HttpProvider, VendorRequest
from modelhub.providers.json_text import json_body as read_json
from modelhub.providers.parameters import Spelling, Vocabulary
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.structured_output import Structured
from modelhub.providers.token_counts import Counts, read_count

__all__ = [
    "ChatRequest",
    "ProviderOptions",
    "Secret",
    "ResponseBuilder",
    "Counts",
    "Endpoint",
    "HttpProvider",
    "Payload",
    "Provider",
    "RequestTemplate",
    "ServerSentEvent",
    "Site",
    "Spelling",
    "Structured",
    "VendorRequest",
    "Vocabulary",
    "error_from_report",
    "read_count",
    "read_error_body",
    "read_finish_reason",
    "read_json",
    "resolve_endpoint",
]

__getattr__ = forward_names(__name__, __name__, {"Answer": "ResponseBuilder"})
