"""An app that was written for one model and runs on any other: only the file changes.

    python examples/07_swap.py                        # scripted, needs no key
    python examples/07_swap.py examples/swap/claude.yaml

The call has all that apps say beside messages: tools, an image, an effort, a length, stops, JSON. Each vendor is asked
in its own words. What a model does not take is left out for it or rounded, and the attempt says so.
"""

import asyncio
import json
import sys
from pathlib import Path

from modelhub import Chain, Hub

CONFIG = Path(__file__).with_name("models.yaml")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_price",
            "description": "The price of an article, in euros.",
            "parameters": {"type": "object", "properties": {"article": {"type": "string"}}, "required": ["article"]},
        },
    }
]


def find_price(article: str) -> str:
    return f"{article}: 12.50"


async def describe(assistant: Chain) -> dict:
    """Return what is in the picture and what it costs, as the model says it in JSON."""
    question = "Which article is this, and what does it cost? Answer in JSON with the keys article and euros."
    picture = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    messages: list[dict] = [{"role": "user", "content": picture}]
    while True:
        reply = await assistant(
            messages,
            tools=TOOLS,
            max_tokens=5000,
            reasoning_effort="low",
            stop=["---"],
            parallel_tool_calls=False,
            response_format={"type": "json_object"},
        )
        attempt = reply.attempts[-1]
        print(f"{reply.model}: left out {sorted(attempt.dropped)}, rounded {attempt.rounded}")
        if not reply.tool_calls:
            return dict(json.loads(reply.text))
        messages.append({"role": "assistant", "content": reply.content})
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": find_price(**call["input"])}
            for call in reply.tool_calls
        ]


async def main(config: Path) -> None:
    async with Hub.from_yaml(config) as hub:
        print(await describe(hub.get("assistant")))


named = sys.argv[1:2] if __name__ == "__main__" else []
asyncio.run(main(Path(*named) if named else CONFIG))
