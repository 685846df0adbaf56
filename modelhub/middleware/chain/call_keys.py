"""Models whose key comes with each call: `api_key: ${call:openai}`, and `hub.get(name).with_keys(openai=...)`.

Each key has models of its own, with limits, breakers, request templates and connections of their own, as if it had a
hub to itself; the application's own key is never used in its place. They are kept for the keys that were used last.
"""

from __future__ import annotations

import difflib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from pydantic import SecretStr

from modelhub.core.errors import InvalidRequest, NotConfigured
from modelhub.core.model import ChatModelBase
from modelhub.core.process import register_at_fork
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply, add_done_callback
from modelhub.middleware.build_context import SharedState
from modelhub.middleware.limit.store import LimitPool, LimitStore

__all__ = ["MAX_CALL_KEYS", "BuiltModel", "CallKeyModel", "CallKeyStates", "UnusedPart", "KeyState", "check_call_keys"]

MAX_CALL_KEYS = 1000
"""For how many keys of calls a hub keeps models; of more, those of the least recently used one are closed."""


class UnusedPart(Protocol):
    """A model or a limit that no call uses any more."""

    @property
    def name(self) -> str:
        """How a log entry names it."""

    async def aclose(self) -> None:
        """Close its connections."""


class BuiltModel(NamedTuple):
    """A model: the *outermost* of its layers, and the *provider*, which is to be closed."""

    outermost: ChatModelBase
    provider: ChatModelBase


class UnusedPool(NamedTuple):
    """A limit of a key that is not kept any more, to be closed."""

    store: LimitStore
    pool: LimitPool[Any]

    @property
    def name(self) -> str:
        """The name of the limit."""
        return self.pool.name

    async def aclose(self) -> None:
        """Give back what this process holds of it in a shared store."""
        await self.store.forget_pool(self.pool)


@dataclass(slots=True, eq=False)
class KeyState:
    """What belongs to one key of calls: its limits and breakers, and its models by the names of their entries.

    *label* tells it from others in the names of limits, and does not reveal the key.
    """

    label: str
    shared: SharedState
    models: dict[str, BuiltModel] = field(default_factory=dict)
    in_flight: int = 0
    is_evicted: bool = False

    def list_closables(self) -> list[UnusedPart]:
        """Return what is to be closed when the key is not kept any more."""
        pools = (*self.shared.limits.values(), *self.shared.own_limits.values())
        store = self.shared.limit_store
        unused = [UnusedPool(store, pool) for pool in pools] if store is not None else []
        return [*(model.provider for model in self.models.values()), *unused]


class CallKeyStates:
    """The states of the keys that were used last, at most *capacity* (by default `MAX_CALL_KEYS`).

    *close* is called with what no call uses any more. Safe to use from several threads and event loops.
    """

    def __init__(self, close: Callable[[Sequence[UnusedPart]], None], capacity: int | None = None) -> None:
        self._close = close
        self._capacity = capacity or MAX_CALL_KEYS
        self._states: OrderedDict[bytes, KeyState] = OrderedDict()
        self._lock = threading.Lock()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child, in which none of the parent's calls is under way."""
        self._lock = threading.Lock()
        for state in self._states.values():
            state.in_flight = 0

    def acquire(self, key: SecretStr, make_shared: Callable[[str], SharedState]) -> KeyState:
        """Return the state of *key* for one call, which `release` ends; a new one gets what *make_shared* returns."""
        digest = blake2b(key.get_secret_value().encode(), digest_size=16, person=b"modelhub").digest()
        idle: list[UnusedPart] = []
        with self._lock:
            state = self._states.get(digest)
            if state is None:
                label = digest[:4].hex()
                state = self._states[digest] = KeyState(label, make_shared(label))
            self._states.move_to_end(digest)
            state.in_flight += 1
            while len(self._states) > self._capacity:
                _, oldest = self._states.popitem(last=False)
                oldest.is_evicted = True
                idle += oldest.list_closables() if not oldest.in_flight else ()
        if idle:
            self._close(idle)
        return state

    def release(self, state: KeyState) -> None:
        """End the use of *state* by one call."""
        with self._lock:
            state.in_flight -= 1
            idle = state.list_closables() if state.is_evicted and state.in_flight <= 0 else []
        if idle:
            self._close(idle)

    def find_model(self, state: KeyState, name: str, build: Callable[[], BuiltModel]) -> ChatModelBase:
        """Return the model *name* of *state*, which *build* makes if there is none."""
        with self._lock:
            model = state.models.get(name)
            if model is None:
                model = state.models[name] = build()
        return model.outermost

    def list_models(self) -> list[ChatModelBase]:
        """Return all providers, without their layers."""
        with self._lock:
            return _list_providers(self._states.values())

    def find_provider(self, name: str) -> ChatModelBase | None:
        """Return a provider of the entry *name*, whatever its key, if there is one."""
        with self._lock:
            states = reversed(self._states.values())
            return next((state.models[name].provider for state in states if name in state.models), None)

    def drop(self) -> list[ChatModelBase]:
        """Forget every key, and return the providers, which calls that are under way may still use."""
        with self._lock:
            states, self._states = list(self._states.values()), OrderedDict()
        return _list_providers(states)


def _list_providers(states: Iterable[KeyState]) -> list[ChatModelBase]:
    return [model.provider for state in states for model in state.models.values()]


class CallKeyModel(ChatModelBase):
    """The model of an entry whose key comes with each call, under the name *call_key*.

    *template* is the same model without a key: nothing is ever sent with it. *build* makes the model for a key, and
    *make_shared* the limits and breakers of a key that is new to *states*.
    """

    def __init__(
        self,
        template: ChatModelBase,
        call_key: str,
        states: CallKeyStates,
        make_shared: Callable[[str], SharedState],
        build: Callable[[SecretStr, KeyState], BuiltModel],
        max_attempts: int | None = None,
    ) -> None:
        super().__init__(template.model_name, template.streams)
        self.kind = template.kind
        self.entry = template.entry
        self.services = template.services
        self.context_window = template.context_window
        self.max_attempts = max_attempts
        self.call_key = call_key
        self._template = template
        self._states = states
        self._make_shared = make_shared
        self._build = build

    async def prepare(self) -> None:
        """Load the SDK."""
        await self._template.prepare()
        self.is_prepared = self._template.is_prepared

    async def send(self, request: ChatRequest) -> Reply:
        """Return the reply of the model with the call's key. Raises NotConfigured for a call without it."""
        key = request.context.keys.get(self.call_key) if self.call_key is not None else None
        if key is None:
            message = (
                f"`{self.name}` takes its key from the call, which has none: use `.with_keys({self.call_key}=...)`"
            )
            raise NotConfigured(message, model=self.name, provider=self.kind)
        state = self._states.acquire(key, self._make_shared)
        reply: Reply | None = None
        try:
            model = self._states.find_model(state, self.name, lambda: self._build(key, state))
            reply = await model.send(request)
        finally:
            if reply is None:
                self._states.release(state)
        add_done_callback(reply, lambda _: self._states.release(state))
        return reply

    def __repr__(self) -> str:
        return f"CallKeyModel({self.name!r}, {self.call_key!r})"


def check_call_keys(keys: Mapping[str, Any], known: Iterable[str], chain: str) -> dict[str, SecretStr]:
    """Return *keys*, which a caller passed by their names, as secrets; those that are None or empty are left out.

    Raises InvalidRequest for a name that is none of *known*, those that *chain* asks for, and for what is no key.
    """
    names = sorted(known)
    checked: dict[str, SecretStr] = {}
    for name, key in keys.items():
        if name not in names:
            if not names:
                hint = f"write `api_key: ${{call:{name}}}` there"
                raise InvalidRequest(f"with_keys: no model of `{chain}` takes its key from the call; {hint}")
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            known_names = ", ".join(names)
            raise InvalidRequest(f"with_keys: `{chain}` has no `${{call:{name}}}`{hint} (there are: {known_names})")
        text = key.get_secret_value() if isinstance(key, SecretStr) else key
        if text is None or text == "":
            continue
        if not isinstance(text, str):
            raise InvalidRequest(f"with_keys: `{name}` must be text, not {type(text).__name__}")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise InvalidRequest(f"with_keys: `{name}` has a space, a line break or another character that no key has")
        checked[name] = SecretStr(text)
    return checked
