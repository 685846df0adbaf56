"""The same answer as each of the five vendors writes it, whole and as a stream, for tests of how answers are read."""

import json
from contextlib import asynccontextmanager

from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.ollama import OllamaChatModel
from modelhub.providers.openai import OpenAIChatModel

SSE = "text/event-stream"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}


def sse(*payloads, done=b""):
    """JSON payloads as server-sent events; bytes as they are."""
    events = [payload if isinstance(payload, bytes) else f"data: {json.dumps(payload)}\n\n" for payload in payloads]
    return [*events, done]


FINISH = {
    "OpenAI": {"stop": "stop", "tool_calls": "tool_calls", "length": "length"},
    "Anthropic": {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"},
    "Gemini": {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"},
    "Ollama": {"stop": "stop", "tool_calls": "stop", "length": "length"},
    "DashScope": {"stop": "stop", "tool_calls": "tool_calls", "length": "length"},
}
"""Each vendor's words for why an answer ended."""


class OpenAI:
    finish = FINISH["OpenAI"]

    def make(self, url):
        return OpenAIChatModel("asked", "k", base_url=f"{url}/v1")

    def calls(self, calls, streamed=False):
        made = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
        return [{"index": at, **call} for at, call in enumerate(made)] if streamed else made

    def usage(self, given, answered):
        return {"prompt_tokens": given, "completion_tokens": answered}

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        message = {"role": "assistant", "content": text, "tool_calls": self.calls(calls)}
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        return {"id": "c", "model": model, "choices": choices, "usage": usage and self.usage(*usage)}

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        deltas = [{"content": piece} for piece in pieces]
        deltas += [{"tool_calls": [call]} for call in self.calls(calls, True)]
        chunks = [{"id": "c", "model": model, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"id": "c", "model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        chunks.append({"id": "c", "choices": [], "usage": usage and self.usage(*usage)})
        return sse(*chunks, done=b"data: [DONE]\n\n")


class OpenAIResponses:
    finish = FINISH["OpenAI"]

    def make(self, url):
        return OpenAIChatModel("asked", "k", api="responses", base_url=f"{url}/v1")

    def items(self, text, calls):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "content": content}
        made = [{"type": "function_call", "id": f"fc{n}", "call_id": i, "name": name, "arguments": a}
                for n, (i, name, a) in enumerate(calls)]  # fmt: skip
        return [*([message] if text is not None else []), *made]

    def usage(self, given, answered):
        return {"input_tokens": given, "output_tokens": answered}

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        completed = finish in ("stop", "tool_calls")
        reason = {"length": "max_output_tokens"}.get(finish, finish)
        status, details = ("completed", None) if completed else ("incomplete", {"reason": reason})
        return {
            "id": "r",
            "object": "response",
            "status": status,
            "incomplete_details": details,
            "model": model,
            "output": self.items(text, calls),
            "usage": usage and self.usage(*usage),
        }

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        events = [
            {
                "type": "response.output_text.delta",
                "output_index": 0,
                "content_index": 0,
                "item_id": "m",
                "delta": piece,
            }
            for piece in pieces
        ]
        for number, item in enumerate(self.items(None, calls)):
            at = {"output_index": number + bool(pieces)}
            events.append({"type": "response.output_item.added", **at, "item": {**item, "arguments": ""}})
            events.append({"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]})
            events.append({"type": "response.output_item.done", **at, "item": item})
        whole = self.whole("".join(pieces) if pieces else None, calls, finish, usage, model)
        return sse(*events, {"type": f"response.{whole['status']}", "response": whole})


class Anthropic:
    finish = FINISH["Anthropic"]

    def make(self, url):
        return AnthropicChatModel("asked", "k", base_url=url)

    def blocks(self, text, calls):
        texts = [{"type": "text", "text": text}] if text else []
        return texts + [
            {"type": "tool_use", "id": i, "name": n, "input": json.loads(a or "{}") if _is_json(a) else a}
            for i, n, a in calls
        ]

    def usage(self, given, answered):
        return {"input_tokens": given, "output_tokens": answered}

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        head = {"id": "m", "type": "message", "role": "assistant", "model": model}
        usage = usage and self.usage(*usage)
        return {
            **head,
            "content": self.blocks(text, calls),
            "stop_reason": self.finish.get(finish, finish),
            "usage": usage,
        }

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        head = {"id": "m", "type": "message", "role": "assistant", "model": model, "content": []}
        events = [{"type": "message_start", "message": head}]
        if pieces:
            events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            events += [
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
                for piece in pieces
            ]
            events.append({"type": "content_block_stop", "index": 0})
        for at, (call_id, name, arguments) in enumerate(calls, 1):
            block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": arguments}
            events.append({"type": "content_block_start", "index": at, "content_block": block})
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
            events.append({"type": "content_block_stop", "index": at})
        delta = {"type": "message_delta", "delta": {"stop_reason": self.finish.get(finish, finish)}}
        if usage:
            delta["usage"] = self.usage(*usage)
        return sse(*events, delta, {"type": "message_stop"})


class Gemini:
    finish = FINISH["Gemini"]

    def make(self, url):
        return GeminiChatModel("asked", "k", base_url=url)

    def usage(self, given, answered):
        return {"promptTokenCount": given, "candidatesTokenCount": answered}

    def event(self, parts, finish=None, usage=None, model="dated"):
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": self.finish.get(finish, finish)}
        usage = usage and self.usage(*usage)
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r"}

    def parts(self, calls):
        return [
            {"functionCall": {"id": i, "name": n, "args": json.loads(a or "{}") if _is_json(a) else a}}
            for i, n, a in calls
        ]

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        return self.event([*([{"text": text}] if text else []), *self.parts(calls)], finish, usage, model)

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        parts = [*({"text": piece} for piece in pieces), *self.parts(calls)]
        return sse(*(self.event([part], model=model) for part in parts), self.event([], finish, usage, model))


class Ollama:
    finish = FINISH["Ollama"]

    def make(self, url):
        return OllamaChatModel("asked", host=url)

    def line(self, text="", calls=(), finish=None, usage=None, model="dated"):
        made = [{"id": i, "function": {"name": n, "arguments": a}} for i, n, a in calls]
        message = {"role": "assistant", "content": text or "", "tool_calls": made}
        end = {"done": True, "done_reason": self.finish.get(finish, finish)} if finish else {"done": False}
        counts = {"prompt_eval_count": usage[0], "eval_count": usage[1]} if usage else {}
        return {"model": model, "message": message, **end, **counts}

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        return self.line(text, calls, finish, usage, model)

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        lines = [self.line(piece, model=model) for piece in pieces]
        lines += [self.line(calls=[call], model=model) for call in calls]
        return [json.dumps(line) + "\n" for line in (*lines, self.line("", (), finish, usage, model))]


class DashScope:
    finish = FINISH["DashScope"]

    def make(self, url):
        return DashScopeChatModel("asked", "k", base_url=f"{url}/api/v1")

    def event(self, text="", calls=(), finish="null", usage=None, model="dated"):
        made = OpenAI().calls(calls, True)
        message = {"role": "assistant", "content": text or "", "tool_calls": made}
        output = {"choices": [{"finish_reason": finish, "message": message}]}
        counts = usage and {"input_tokens": usage[0], "output_tokens": usage[1]}
        return {"request_id": "r", "output": output, "usage": counts, "model": model}

    def whole(self, text=None, calls=(), finish="stop", usage=None, model="dated"):
        return self.event(text, calls, finish, usage, model)

    def stream(self, pieces=(), calls=(), finish="stop", usage=None, model="dated"):
        events = [self.event(piece, model=model) for piece in pieces]
        for at, call in enumerate(calls):
            event = self.event(calls=[call], model=model)
            event["output"]["choices"][0]["message"]["tool_calls"][0]["index"] = at
            events.append(event)
        return sse(*events, self.event("", (), finish, usage, model))


VENDORS = {
    "openai": OpenAI(),
    "openai_responses": OpenAIResponses(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "ollama": Ollama(),
    "dashscope": DashScope(),
}


def _is_json(text):
    try:
        json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return True


@asynccontextmanager
async def asking(loopback, vendor):
    """A function that asks one model of *vendor*: each *body*, whole or in pieces, answers one question."""
    async with vendor.make(loopback.url) as model:

        async def ask(body, stream, **more):
            if stream:
                loopback.streams(*body, content_type="application/x-ndjson" if isinstance(vendor, Ollama) else SSE)
            else:
                loopback.answers(body)
            reply = await model("hi", stream=stream, **more)
            return await reply.final() if stream else reply

        yield ask


async def ask_once(loopback, vendor, body, stream, **more):
    """The final reply to one question."""
    async with asking(loopback, vendor) as ask:
        return await ask(body, stream, **more)
