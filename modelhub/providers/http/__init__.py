"""The only HTTP path: requests go out through a `Transport` and come back as an `HttpResponse`, for every vendor.

Importing this package loads no HTTP library; aiohttp is loaded when the first request is sent.
"""

from modelhub.providers.http.client_adapter import HttpxTransport, OwnHttpxTransport
from modelhub.providers.http.message import HttpRequest, HttpResponse, Timeouts, Transport

__all__ = ["HttpRequest", "HttpResponse", "HttpxTransport", "OwnHttpxTransport", "Timeouts", "Transport"]
