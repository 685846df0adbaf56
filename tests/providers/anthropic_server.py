"""What Anthropic's API answers, and a model at a scripted server that answers so."""

import json

from modelhub.providers.anthropic import AnthropicChatModel

KEY = "sk-ant-test-0123456789abcdef"
USAGE = {"input_tokens": 10, "output_tokens": 5}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def message(*content, stop="end_turn", **more):
    """A whole answer of the API."""
    content = content or ({"type": "text", "text": "Hello."},)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def sse(*events):
    """Events as a stream writes them."""
    return ["event: {}\ndata: {}\n\n".format(event["type"], json.dumps(event)) for event in events]


def stream(*events, stop="end_turn"):
    """A whole stream around *events*."""
    start = {"type": "message_start", "message": message(content=[], stop=None) | {"content": []}}
    delta = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}}
    return sse(start, {"type": "ping"}, *events, delta, {"type": "message_stop"})


def text_block(*pieces, index=0):
    """The events of one text block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        *(delta(index, type="text_delta", text=piece) for piece in pieces),
        {"type": "content_block_stop", "index": index},
    ]


def delta(index, **fields):
    """One piece of a block."""
    return {"type": "content_block_delta", "index": index, "delta": fields}


def make(server, *args, **more):
    """A model at *server* that does not stream."""
    model_name = args[0] if args else more.pop("model_name", "claude-haiku-4-5")
    return AnthropicChatModel(model_name, KEY, **{"stream": False, "base_url": server.url, **more})


async def sent(server, messages="Hi", *args, model_name="claude-haiku-4-5", reply=None, more=None, **call):
    """The body that a call really sends."""
    server.answers(reply or message())
    async with make(server, model_name, **(more or {})) as model:
        await model(messages, *args, **call)
    assert len(server.asked) == 1
    return server.asked.pop().json
