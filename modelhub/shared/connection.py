"""The connections of one event loop to the store; and the scripts that run there, each of them atomically."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from modelhub.shared.options import SharedOptions

__all__ = ["Script", "StoreConnection", "StoreUnavailableError", "describe_address", "load_script"]

_MAX_CONNECTIONS = 16
_LISTEN_SECONDS = 300.0  # after such a silence the connection is made anew
_RELISTEN_SECONDS = 0.2


class StoreUnavailableError(Exception):
    """The store did not answer in time, or refuses what is asked of it."""


def describe_address(url: str) -> str:
    """Return *url* without user, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the name by which a server knows it once it has run it."""

    source: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Return the script *name* of this package, such as "limit"."""
    source = files("modelhub.shared").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class StoreConnection:
    """Runs scripts and receives messages, on the loop that it was made on. Connects when it is first used."""

    def __init__(self, options: SharedOptions) -> None:
        from redis import exceptions
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._errors: Any = exceptions
        self._timeout = options.timeout
        self._pool: Any = BlockingConnectionPool.from_url(
            options.url.get_secret_value(),
            max_connections=_MAX_CONNECTIONS,
            timeout=options.timeout,
            socket_timeout=None,  # `run` bounds all of a call at once
            socket_connect_timeout=options.timeout,
            decode_responses=False,  # the answer of a pool's script is not all text
            protocol=2,  # messages of a subscription are plain answers
            retry=Retry(NoBackoff(), 0),
        )
        self._idle: list[Any] = []  # connections that are ready: the pool itself takes as long as a call does
        self._has_evalsha = True
        self._is_closed = False
        self._listener: asyncio.Task[None] | None = None

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes], settings: Sequence[str | bytes] = ()
    ) -> Any:
        """Return the result of *script*, texts as bytes. Raises StoreUnavailableError, at the latest after `timeout`.

        *settings* are arguments that come before *args* and are the same in most calls.
        """
        loop = asyncio.get_running_loop()
        for attempt in range(2):
            began = loop.time()
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._run(script, tuple(keys), tuple(settings), args)
            except Exception as error:
                # Where this loop itself stood still for longer, the answer may be there already.
                if attempt == 0 and isinstance(error, TimeoutError) and loop.time() - began > 2 * self._timeout:
                    continue
                raise StoreUnavailableError(_describe_error(error, self._timeout)) from None
        raise AssertionError

    async def _run(
        self, script: Script, keys: tuple[str, ...], settings: tuple[str | bytes, ...], args: Sequence[str | bytes]
    ) -> Any:
        # Written here: redis-py takes as long for this as for all the remainder of a call.
        packed_args = _pack(args)
        if self._has_evalsha:
            start = _pack_start("EVALSHA", script.sha, keys, settings, len(args))
            try:
                return await self._call(start + packed_args)
            except self._errors.NoScriptError:
                pass  # new to this server, or forgotten with a restart: EVAL makes it known again
            except self._errors.ResponseError as error:
                is_forbidden = isinstance(error, self._errors.NoPermissionError)
                if not is_forbidden and "unknown command" not in str(error).lower():
                    raise
                self._has_evalsha = False
        return await self._call(_pack_start("EVAL", script.source, keys, settings, len(args)) + packed_args)

    async def _call(self, command: bytes) -> Any:
        """Return the answer to *command*. A connection that the server closes is replaced, once.

        A script may have been run then: run again, it changes nothing.
        """
        try:
            return await self._call_once(command)
        except self._errors.ConnectionError:
            await self._disconnect_idle()
        return await self._call_once(command)

    async def _call_once(self, command: bytes) -> Any:
        connection = self._idle.pop() if self._idle else await self._pool.get_connection()
        is_usable = False
        try:
            await connection.send_packed_command(command, check_health=False)
            answer = await connection.read_response()
            is_usable = True
        except self._errors.ResponseError:
            is_usable = True
            raise
        finally:
            if is_usable and not self._is_closed:
                self._idle.append(connection)
            else:
                await self._discard(connection)
        return answer

    async def _discard(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    async def _disconnect_idle(self) -> None:
        while self._idle:
            await self._discard(self._idle.pop())
        await self._pool.disconnect(inuse_connections=False)  # the server will have closed those, too

    def listen(
        self, channels: Sequence[str], on_message: Callable[[str], None], on_connect: Callable[[], None]
    ) -> None:
        """Call *on_message* with every message of *channels* from now on, and *on_connect* after each connection."""
        read_messages = partial(self._read_messages, channels, on_message, on_connect)
        self._listener = asyncio.get_running_loop().create_task(self._listen_forever(read_messages))
        # A loop may be closed without cancelling its tasks: that is nothing to report.
        self._listener._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _listen_forever(self, read_messages: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(self._errors.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(self._timeout):
                    connection = await self._pool.get_connection()
                try:
                    await read_messages(connection)
                finally:
                    await self._discard(connection)
            await asyncio.sleep(_RELISTEN_SECONDS)

    @staticmethod
    async def _read_messages(
        channels: Sequence[str], on_message: Callable[[str], None], on_connect: Callable[[], None], connection: Any
    ) -> None:
        await connection.send_command("SUBSCRIBE", *channels)
        for _ in channels:
            await connection.read_response()
        on_connect()
        while True:
            kind, *values = await connection.read_response(timeout=_LISTEN_SECONDS, disconnect_on_error=True)
            if kind == b"message":
                on_message(values[1].decode())

    async def aclose(self) -> None:
        """Stop listening, and close all connections."""
        self._is_closed = True
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener}, timeout=self._timeout)
        await self._disconnect_idle()
        await self._pool.disconnect()


@lru_cache(maxsize=256)
def _pack_start(
    name: str, script: str, keys: tuple[str, ...], settings: tuple[str | bytes, ...], arg_count: int
) -> bytes:
    """Return what comes before the *arg_count* arguments of a call that are not the same each time."""
    texts = (name, script, str(len(keys)), *keys, *settings)
    return b"*%d\r\n" % (len(texts) + arg_count) + _pack(texts)


def _pack(texts: Iterable[str | bytes]) -> bytes:
    """Return *texts* as a command of Redis has them."""
    packed = []
    for text in texts:
        data = text if isinstance(text, bytes) else text.encode()
        packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(packed)


def _describe_error(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    name = type(error).__name__
    if name == "ResponseError":
        return str(error).split("\n", 1)[0][:200]
    return f"{name}: {error}"[:200]
