"""One question, one answer."""

import asyncio
from pathlib import Path

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")


async def main() -> None:
    async with Hub.from_yaml(CONFIG) as hub:
        reply = await hub.get("greeter")(
            [
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "Good morning!"},
            ]
        )
        print(reply.text)
        print(f"answered by {reply.model}")
        if reply.usage is not None:  # not every server says what was used
            print(f"{reply.usage.input_tokens} tokens in, {reply.usage.output_tokens} out")


asyncio.run(main())
