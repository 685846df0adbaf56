"""Ollama: models on your own machine, and its cloud, by `/api/chat`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from modelhub.errors import (
    BadReply,
    CallError,
    ConnectFailed,
    ConnectTimeout,
    ModelNotFound,
)
from modelhub.model import ChatRequest
from modelhub.providers._address import server_name, split_userinfo
from modelhub.providers._answer import Answer
from modelhub.providers._arguments import dump_arguments
from modelhub.providers._base import Payload, Provider
from modelhub.providers._client import ClientSettings, guard_client
from modelhub.providers._counts import read_count
from modelhub.providers._error_mapping import error_from_report, is_flat_error, read_error_body
from modelhub.providers._errors import misfit, network_failure
from modelhub.providers._finish import read_finish_reason
from modelhub.providers._http import PerLoop
from modelhub.providers._structured import Structured
from modelhub.providers._wire import drain, json_body, json_lines
from modelhub.providers.ollama.client import OllamaClient, connect
from modelhub.providers.ollama.request import KIND, encode_messages, encode_tools, set_parameters, wanted_tool

__all__ = ["OllamaChatModel"]


class _Part(NamedTuple):
    """A line or a whole body of an answer, and the tool that must be called in it (see `wanted_tool`)."""

    value: Any
    wanted: str | None


_NO_ANSWER = {"load": "the model was only loaded", "unload": "the model was unloaded"}


class OllamaChatModel(Provider):
    """Chats with a model of Ollama.

    *host* (or *base_url*) is the server's address, OLLAMA_HOST if not given. *options* are Ollama's model options;
    the same names in *generate_kwargs* or in a call join them. *enable_thinking* is sent as `think`. Further keywords,
    *client_args* and *client_kwargs* go to the HTTP client. An *api_key* is sent as a bearer token; OLLAMA_API_KEY only
    to https://ollama.com.

    Ollama cannot be told which tool to choose. "none" shows the model no tool; for "required" and a tool's name it
    sees those tools only and is asked to call one, and an answer without such a call is a `BadReply`.
    """

    kind = KIND
    sdk = "ollama"
    end_mark = "`done`"

    def __init__(
        self,
        model_name: str,
        stream: bool = False,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = "5m",
        enable_thinking: bool | str | None = None,
        host: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        client_args: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name, stream)
        self.host = host or base_url or os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434"
        self.options = dict(options or {})
        self.keep_alive = keep_alive
        self.enable_thinking = enable_thinking
        self.generate_kwargs = dict(generate_kwargs or {})
        key = api_key or (os.environ.get("OLLAMA_API_KEY") if _is_the_cloud(self.host) else None)
        self._key = SecretStr(key or "")
        self._client_args = {**(client_args or {}), **(client_kwargs or {}), **kwargs}
        self._clients: PerLoop[OllamaClient] = PerLoop(
            guard_client(self._open_client, self.client_problems, "Ollama"), lambda client: client.http.aclose()
        )

    def missing(self) -> str | None:
        """The SDK, if it is not installed."""
        return None if find_spec("ollama") else "the ollama SDK is missing: pip install 'modelhub[ollama]'"

    def address(self) -> str | None:
        """Where the server is."""
        return self.host

    def secrets(self) -> Iterable[str]:
        """The key, and whatever else authorizes."""
        yield self._key.get_secret_value()
        for name, value in (self._client_args.get("headers") or {}).items():
            if any(word in name.lower() for word in ("auth", "key", "token", "cookie")):
                yield from (value, value.removeprefix("Bearer "))

    # -- what goes out ---------------------------------------------------------------------------------------------

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:
        """The request's JSON, and the tool that must be called."""
        wanted = wanted_tool(request.tool_choice)
        body: Payload = {
            "model": self.model_name,
            "messages": encode_messages(request.messages, wanted),
            "stream": stream,
            "keep_alive": self.keep_alive,
            "think": self.enable_thinking,
        }
        if tools := encode_tools(request.tools, request.tool_choice):
            body["tools"] = tools
        if structured is not None:
            body["format"] = structured.schema
        set_parameters(body, {"options": self.options}, self.generate_kwargs, request.options)
        return {"body": body, "wanted": wanted}

    # -- the line of SDK -------------------------------------------------------------------------------------------

    def client_settings(self) -> ClientSettings:
        """The server's address, which may have no scheme, and the client's arguments."""
        host = self.host if "://" in self.host else f"http://{self.host}"
        return ClientSettings({"host": host}, self._client_args, _client_class)

    def _open_client(self) -> OllamaClient:
        args = dict(self._client_args)
        if key := self._key.get_secret_value():
            args["headers"] = {"authorization": f"Bearer {key}", **(args.get("headers") or {})}
        if (userinfo := split_userinfo(self.host)[1]) is not None:
            args.setdefault("auth", userinfo)
        return connect(args, self.connect_timeout)

    async def _open(self, payload: Payload) -> Any:
        response = await self._clients.get().open_answer(split_userinfo(self.host)[0], self.model_name, payload["body"])
        if response.status_code < 300:
            return response
        try:
            data = await response.aread()
        finally:
            await response.aclose()
        raise self._error_from_response(response.status_code, response.headers, data)

    async def call(self, payload: Payload) -> _Part:
        """The whole answer's JSON object."""
        response = await self._open(payload)
        try:
            return _Part(json_body(await response.aread()), payload["wanted"])
        finally:
            await response.aclose()

    async def events(self, payload: Payload) -> AsyncGenerator[_Part, None]:
        """The answer's lines, each a JSON object."""
        response = await self._open(payload)
        try:
            lines = json_lines(response.aiter_bytes())
            async for line in lines:
                yield _Part(line, payload["wanted"])
                if isinstance(line, dict) and line.get("done"):
                    await _read_out(lines, response)
                    return
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Give back connections."""
        await self._clients.aclose()

    # -- what comes in ---------------------------------------------------------------------------------------------

    def decode(self, body: _Part, answer: Answer) -> None:
        """Read a whole answer, which is one line that says all."""
        self.decode_event(body, answer)
        if not answer.complete:
            raise BadReply(f"the answer came without {self.end_mark}")

    def decode_event(self, event: _Part, answer: Answer) -> None:
        """Read a line: a piece of the message, an error, or the end with its counts."""
        line, wanted = event
        if not isinstance(line, dict):
            raise BadReply(f"a line of the answer is no JSON object but {type(line).__name__}")
        message = line.get("message")
        if line.get("error") or (not line.get("done") and is_flat_error(line)):
            raise self._error_from_response(_status(line), {}, line)
        if message is not None and not isinstance(message, dict):
            raise BadReply(f"the answer's message is no object but {type(message).__name__}")
        answer.model_name = answer.model_name or line.get("model")
        if message is not None:
            _read_message(message, bool(line.get("done")), wanted, answer)
        if line.get("done"):
            _finish(line, wanted, answer)

    # -- what its failures mean ------------------------------------------------------------------------------------

    def failure(self, error: Exception) -> CallError | None:
        """A refused connection names the host: the usual reason is that no server runs there."""
        found = network_failure(error)
        if isinstance(found, ConnectFailed | ConnectTimeout):
            return type(found)(
                f"{found} to Ollama at {server_name(self.host)}: is the server running (`ollama serve`)?"
            )
        return found

    def _error_from_response(self, status: int, headers: Mapping[str, str], body: object) -> CallError:
        report = read_error_body(body)
        failure = error_from_report(status, headers, report, f"ollama said {status}: {report.message or 'nothing'}")
        if isinstance(failure, ModelNotFound) and report.message.startswith("model"):
            hint = f"; `ollama pull {self.model_name}` on {server_name(self.host)} fetches it"
            failure.args = (f"{failure}{hint}", *failure.args[1:])
        return failure


def _client_class() -> Any:
    import httpx

    return httpx.AsyncClient


def _is_the_cloud(host: str) -> bool:
    parts = urlsplit(host)
    name = parts.hostname or ""
    return parts.scheme == "https" and (name == "ollama.com" or name.endswith(".ollama.com"))


async def _read_out(lines: AsyncIterator[Any], response: Any) -> None:
    # What follows the end is nothing but the end of the HTTP body; a connection read to there can be used again.
    await drain(lines, 0.5, response)


def _status(line: Mapping[str, Any]) -> int:
    # In the midst of a stream there is no status of HTTP left; what breaks there is the server.
    found = line.get("status_code", line.get("status"))
    return found if isinstance(found, int) and found >= 400 else 500


def _read_message(message: Mapping[str, Any], is_last: bool, wanted: str | None, answer: Answer) -> None:
    if thinking := _content_text(message.get("thinking")):
        answer.thinking(thinking, provider=KIND)
    content = _content_text(message.get("content"))
    if not (is_last and answer.is_repeated_by(content)):
        answer.text(content)
    calls = message.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else [calls]:
        _read_call(call, wanted, answer)


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_content_text(part) for part in content)
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return dump_arguments(content)


def _read_call(raw: Any, wanted: str | None, answer: Answer) -> None:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadReply("a tool call in the answer has no name")
    if wanted and function["name"] != wanted:
        raise misfit(f"the model called `{function['name']}`, not `{wanted}`")
    key = answer.notes["calls"] = answer.notes.get("calls", 0) + 1
    answer.tool(key, id=str(raw.get("id") or ""), name=function["name"])
    answer.arguments(key, dump_arguments(function.get("arguments") or {}))


def _finish(line: Mapping[str, Any], wanted: str | None, answer: Answer) -> None:
    answer.model_name = line.get("model") or answer.model_name
    answer.count({"input": read_count(line, "prompt_eval_count"), "output": read_count(line, "eval_count")})
    reason = line.get("done_reason")
    if not answer.has_content and reason in _NO_ANSWER:
        raise BadReply(_NO_ANSWER[reason])
    finish = read_finish_reason(reason or "stop", answer.has_tools) or "stop"
    if finish in ("stop", "tool_calls") and wanted is not None and not answer.has_tools:
        raise misfit(f"the model answered without calling {f'`{wanted}`' if wanted else 'a tool'}")
    answer.finish_reason = finish
    answer.complete = True
