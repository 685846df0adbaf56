"""An OpenAI-compatible endpoint for the chains and models of a hub: an ASGI application without a framework.

    # app.py; run it with `uvicorn app:app`, or without a file by `modelhub serve`
    from modelhub import Hub
    from modelhub.integrations.asgi import OpenAIApp

    app = OpenAIApp(Hub.from_yaml("models.yaml"))

Any client of OpenAI's API can call it; the names of the file are the names of its models:

    from openai import OpenAI

    client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any, or one of serve: keys:")
    reply = client.chat.completions.create(model="primary", messages=[{"role": "user", "content": "Hi"}])

It can also be mounted in another application: `fastapi_app.mount("/llm", OpenAIApp(hub))`.

**Routes.** `POST /v1/chat/completions`, `GET /v1/models`, `GET /v1/models/{name}` and, without a key, `GET /healthz`.

**Requests.** Text, images, audio and files as OpenAI's API takes them (addresses must be `http:`, `https:` or `data:`;
no request can make the server read a file), tools, `tool_choice`, `parallel_tool_calls`, `response_format`,
`stream_options: {include_usage: true}` and OpenAI's sampling parameters, spelled for whichever vendor answers.
`metadata` becomes the call's tags. What would be lost without a word, such as `n: 2` or `logprobs`, is refused, and so
is a parameter that OpenAI does not know, unless `serve: {parameters: [...]}` names it.

**Answers.** `model` is the vendor's name of the model that answered; the header `x-modelhub-model` has its name in the
file. Thinking is `reasoning_content`, as DeepSeek and vLLM send it. An answer to a `json_schema` has been checked
against the schema (a call with tools excepted), so that a streamed one is sent in one piece.

**Errors** have OpenAI's form and statuses, with `Retry-After` where the wait is known, and `x-should-retry: false`
where another try is useless, which OpenAI's SDKs obey. A vendor that refuses the server's key is a 502: the client's
own is fine.

**A stream that another model begins again.** Clients append what they get, so text that was sent cannot be taken
back. `stream_options: {restarts: ...}` chooses what happens when a stream breaks after its first words:

- `error` (the default): the stream ends with an error event, so that the client can ask again;
- `buffer`: nothing is sent before the answer is complete, which then is the whole answer of one model;
- `announce`: a chunk with `"modelhub": {"restart": 1}` and no text says that the text so far is void; for clients that
  know of it.

If only thinking was sent so far, the answer goes on with the next model's in every mode.

**Keys.** `serve: {keys: {alice: {key: "${ALICE_KEY}", tags: {team: search}}}}` in the file, or `OpenAIApp(hub,
keys={"alice": "..."})`, lets in only requests with `Authorization: Bearer ...`. Each call is tagged with `key: alice`
and the key's tags, so that `budgets: {per_key: {tag: key, usd: 10, per: day}}` limits every key by itself.

A client that disconnects cancels its call. When the server stops, the hub is closed.
"""

from __future__ import annotations

from modelhub.config.schema import KeyOptions, ServeOptions
from modelhub.integrations.asgi.application import OpenAIApp

__all__ = ["KeyOptions", "OpenAIApp", "ServeOptions"]
