"""One folder a vendor, pure on both sides of one exchange; and what a provider in a package of your own is made from.

`HttpProvider` is what the vendors are made from, `Provider` what answers without HTTP. `examples/plugin/` adds one.
"""

from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider
from modelhub.providers._counts import Counts, read_count
from modelhub.providers._error_mapping import error_from_report, read_error_body
from modelhub.providers._finish import read_finish_reason
from modelhub.providers._json import json_body as read_json
from modelhub.providers._structured import Structured
from modelhub.providers.endpoint import Endpoint, Site, resolve_endpoint
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http.templates import RequestTemplate
from modelhub.providers.http_provider import HttpProvider, VendorRequest

__all__ = [
    "Answer",
    "Counts",
    "Endpoint",
    "HttpProvider",
    "Payload",
    "Provider",
    "RequestTemplate",
    "ServerSentEvent",
    "Site",
    "Structured",
    "VendorRequest",
    "error_from_report",
    "read_count",
    "read_error_body",
    "read_finish_reason",
    "read_json",
    "resolve_endpoint",
]
