"""A picture and a document in a message, in the form of any vendor.

A path in a message is only read because the app itself names it; text from outside never reads a file.
"""

import asyncio
from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryDirectory

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")
DOT = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


async def main() -> None:
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "dot.gif"
        picture.write_bytes(DOT)
        message = {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is on these?"},
                {"type": "image", "source": {"type": "path", "path": str(picture)}},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ],
        }
        async with Hub.from_yaml(CONFIG) as hub:
            reply = await hub.get("greeter")([message])
            print(f"{reply.model} got {len(message['content'])} parts and says: {reply.text}")


asyncio.run(main())
