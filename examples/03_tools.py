"""A tool round trip: the model asks, the app runs, the model answers.

The reply's content goes back as it is, for any vendor, also if another model of the chain takes over.
"""

import asyncio
from pathlib import Path

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")


def get_weather(city: str) -> str:
    return f"3 degrees and rain in {city}"


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


async def main() -> None:
    messages: list[dict] = [{"role": "user", "content": "Do I need an umbrella in Oslo?"}]
    async with Hub.from_yaml(CONFIG) as hub:
        ask = hub.get("forecaster")
        while (reply := await ask(messages, tools=TOOLS)).tool_calls:
            messages.append({"role": "assistant", "content": reply.content})
            for call in reply.tool_calls:
                # Arguments that are no JSON object are never passed off as empty: the call says so.
                result = call["error"] if "error" in call else get_weather(**call["input"])
                print(f"{call['name']}({call['raw_input']}) -> {result}")
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        print(reply.text)


asyncio.run(main())
