"""The file changes while the app runs: as a whole or not at all, and a chain that the app holds follows it."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from modelhub import ConfigError, Hub

FILE = """\
version: 1
models:
  a: {provider: scripted, reply: "from a"}
  b: {provider: scripted, reply: "from b"}
chains:
  primary: {models: [a, b]}
"""


async def main() -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "models.yaml"
        file.write_text(FILE, encoding="utf-8")
        async with Hub.from_yaml(file) as hub:
            primary = hub.get("primary")
            print((await primary("Hello")).text)
            file.write_text(FILE.replace("[a, b]", "[b, a]"), encoding="utf-8")
            print(await hub.areload())
            print((await primary("Hello")).text)
            file.write_text(FILE.replace("[a, b]", "[b, c]"), encoding="utf-8")
            try:
                await hub.areload()
            except ConfigError as error:
                print(error.problems[0].message)
            print((await primary("Hello")).text)


asyncio.run(main())
