"""A vendor on loopback that answers each key as it is told, and counts what each key asked."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from aiohttp import web

ERRORS = {
    401: {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}},
    402: {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
    429: {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}},
    400: {"error": {"message": "Unsupported value", "code": "invalid_value", "type": "invalid_request_error"}},
    503: {"error": {"message": "overloaded"}},
}


class KeyedServer:
    """Speaks OpenAI's chat completions. `refused` has the status for each key that is not answered."""

    def __init__(self):
        self.url = ""
        self.refused = {}
        self.retry_after = None
        self.asked = Counter()
        self.under_way = Counter()
        self.release = None
        self.runner = None

    def connections(self):
        """Every connection that stands."""
        return self.runner.server.connections

    async def answer(self, request):
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.asked[key] += 1
        status = self.refused.get(key)
        if status is not None:
            headers = {"retry-after": str(self.retry_after)} if self.retry_after is not None else {}
            return web.json_response(ERRORS[status], status=429 if status == 402 else status, headers=headers)
        if self.release is not None:
            self.under_way[key] += 1
            await self.release.wait()
        message = {"role": "assistant", "content": f"for {key}"}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m-1",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }
        )

    def hold(self):
        """Let no answer out until `release` is set."""
        self.release = asyncio.Event()


@asynccontextmanager
async def serving():
    """A running server."""
    server = KeyedServer()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.runner = runner
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
