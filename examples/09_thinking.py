"""How much a model thinks, and what it thought: one scale and one form for every vendor."""

import asyncio

from modelhub import Chain, ScriptedChatModel


async def main() -> None:
    model = ScriptedChatModel("thinker", steps=[{"think": "17 has no divisor up to 4.", "say": "Yes, 17 is prime."}])
    reply = await Chain("sums", [model])("Is 17 prime?", reasoning_effort="low")
    print(f"thought: {reply.thinking}")
    print(f"said: {reply.text}")
    # The reply's content goes back as it is; signed thinking returns to the vendor that signed it, and to no other.
    messages = [{"role": "user", "content": "Is 17 prime?"}, {"role": "assistant", "content": reply.content}]
    print(f"{len(messages)} messages so far; the last has blocks of {[block['type'] for block in reply.content]}")


asyncio.run(main())
