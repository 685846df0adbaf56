"""Django: one hub for all threads, made before workers are forked. The whole site is in this file.

pip install django gunicorn uvicorn
python django_site.py runserver              # WSGI: `ask` and `stream`
gunicorn --threads 8 django_site:wsgi        # WSGI
uvicorn django_site:asgi                     # ASGI: `ask_async` and `stream_async`
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from modelhub import CallError, ChatResponse, Hub

hub = Hub.from_yaml(Path(__file__).with_name("models.yaml"))
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would collect the events otherwise


# -- views.py, under WSGI ----------------------------------------------------------------------------------------------


def ask(request: HttpRequest) -> HttpResponse:
    try:
        reply = hub.get("primary").sync(request.GET["text"], stream=False, deadline="20s")
    except CallError as error:
        return explain(error)
    return JsonResponse({"text": reply.text, "model": reply.model})


def stream(request: HttpRequest) -> HttpResponseBase:
    try:
        reply = hub.get("primary").sync(request.GET["text"], stream=True, deadline="60s")
    except CallError as error:
        return explain(error)

    def events() -> Iterator[str]:
        with reply:
            try:
                for snapshot in reply:
                    yield write_event(snapshot)
            except CallError as error:  # the status has been sent long ago
                yield write_failure(error)

    return StreamingHttpResponse(events(), content_type="text/event-stream", headers=HEADERS)


# -- views.py, under ASGI ----------------------------------------------------------------------------------------------


async def ask_async(request: HttpRequest) -> HttpResponse:
    try:
        reply = await hub.get("primary")(request.GET["text"], stream=False, deadline="20s")
    except CallError as error:
        return explain(error)
    return JsonResponse({"text": reply.text, "model": reply.model})


async def stream_async(request: HttpRequest) -> HttpResponseBase:
    try:
        reply = await hub.get("primary")(request.GET["text"], stream=True, deadline="60s")
    except CallError as error:
        return explain(error)

    async def events() -> AsyncIterator[str]:
        async with reply:
            try:
                async for snapshot in reply:
                    yield write_event(snapshot)
            except CallError as error:
                yield write_failure(error)

    return StreamingHttpResponse(events(), content_type="text/event-stream", headers=HEADERS)


# -- both --------------------------------------------------------------------------------------------------------------


def explain(error: CallError) -> HttpResponse:
    return JsonResponse({"error": error.kind}, status=502)


def write_event(snapshot: ChatResponse) -> str:
    """The whole text so far, so that a page shows the last event's: another model may have begun anew."""
    return f"data: {json.dumps({'text': snapshot.text, 'done': snapshot.is_last})}\n\n"


def write_failure(error: CallError) -> str:
    return f"event: failed\ndata: {json.dumps({'error': error.kind})}\n\n"


# -- urls.py, settings.py, wsgi.py, asgi.py ----------------------------------------------------------------------------

urlpatterns = [
    path("ask", ask),
    path("stream", stream),
    path("async/ask", ask_async),
    path("async/stream", stream_async),
]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])
wsgi, django = get_wsgi_application(), get_asgi_application()


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """Close the hub when the server stops, which ends the process by a signal; Django itself has no place for that."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await hub.aclose()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await django(scope, receive, send)


if __name__ == "__main__":
    execute_from_command_line(sys.argv)
