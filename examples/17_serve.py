"""The chains of a file behind OpenAI's API, asked by OpenAI's own client. It needs the extra `openai`.

`modelhub serve` listens on a port with the same application; here, the client speaks to it in this process.
"""

import asyncio
from pathlib import Path

import httpx2  # which the client of OpenAI's is made of
from openai import AsyncOpenAI

from modelhub import Hub
from modelhub.integrations.asgi import OpenAIApp

CONFIG = Path(__file__).with_name("models.yaml")


async def main() -> None:
    async with Hub.from_yaml(CONFIG) as hub:
        app = httpx2.AsyncClient(transport=httpx2.ASGITransport(OpenAIApp(hub)))
        async with AsyncOpenAI(base_url="http://modelhub/v1", api_key="any", http_client=app) as client:
            print("models:", ", ".join([model.id async for model in client.models.list()]))
            reply = await client.chat.completions.create(
                model="job", messages=[{"role": "user", "content": "Summarise: first report"}]
            )
            print(f"{reply.model}: {reply.choices[0].message.content}")
            stream = await client.chat.completions.create(
                model="greeter", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            print(f"{len(words)} chunks: {''.join(words)}")


asyncio.run(main())
