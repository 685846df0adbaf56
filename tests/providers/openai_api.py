"""What OpenAI's APIs answer, and a server at every address that answers so."""

import json

import httpx2

USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "c2VhbGVk",
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def message(text, **fields):
    """An item with a text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content, **fields}


def response(*output, **fields):
    """A whole response."""
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m-1", "output": list(output)} | {
        "error": None,
        "usage": USAGE,
        **fields,
    }


def event(kind, **fields):
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def ended(*output, **fields):
    """The last event of a stream."""
    return event("response.completed", response=response(*output, **fields))


def chunks(*deltas, finish="stop", **last):
    """Events for a stream with these deltas."""
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    events = [
        {"id": "c1", "choices": choice} for choice in (*choices, [{"index": 0, "delta": None, "finish_reason": finish}])
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in [*events, last] if event) + "data: [DONE]\n\n"


class Anywhere(httpx2.AsyncBaseTransport):
    """A server at every address, which speaks both APIs; `asked` has the requests."""

    def __init__(self):
        self.asked = []

    def client(self):
        return httpx2.AsyncClient(transport=self)

    async def handle_async_request(self, request):
        self.asked.append(request)
        streams = json.loads(await request.aread())["stream"]
        if request.url.path.endswith("/responses"):
            body = ended(message("ok")) if streams else json.dumps(response(message("ok")))
        else:
            choice = {"index": 0, "delta" if streams else "message": {"content": "ok"}, "finish_reason": "stop"}
            body = json.dumps({"id": "c1", "model": "m1", "choices": [choice]})
            body = f"data: {body}\n\ndata: [DONE]\n\n" if streams else body
        kind = "text/event-stream" if streams else "application/json"
        return httpx2.Response(200, content=body.encode(), headers={"content-type": kind})
