"""Each transport in turn."""

import pytest

from tests.providers.http.loopback import open_transport


@pytest.fixture(params=["aiohttp", "httpx", "httpx2"])
async def transport(request):
    """A transport: aiohttp's, or one around a client of httpx or httpx2."""
    async with open_transport(request.param) as opened:
        yield opened
