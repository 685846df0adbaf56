"""Arms: several deployments, or several keys of one model, that share a place in a chain.

They are drawn by weights: at random, or by a hash that is the same in every process. Each arm gets an arrival time,
exponentially distributed with its weight as the rate. Whoever arrives first is picked, with a probability that is its
share of the weights, and the others follow in the same way. If the times come from a hash of a key instead of chance,
this is weighted rendezvous hashing: a key's order among the arms that stay does not change when others come or go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from random import Random
from typing import Literal, Protocol, runtime_checkable

from modelhub.core.call_options import Tags
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.process import register_at_fork

__all__ = ["Arm", "ArmState", "Arms", "Pick", "find_gates"]

Pick = Literal["weighted", "least_busy"]

_HASH_BYTES = 8
_HASH_RANGE = float(1 << (8 * _HASH_BYTES))


@runtime_checkable
class Gate(Protocol):
    """A layer, or a chain, that may refuse a call or make it wait."""

    def is_ready(self) -> bool:
        """Return whether a call would be let through now."""


def find_gates(target: ChatModelBase | Arms) -> list[Gate]:
    """Return the layers of *target*, or *target* itself, that may refuse a call or make it wait."""
    stack = target.stack() if isinstance(target, Layer) else (target,)
    return [part for part in stack if isinstance(part, Gate)]


class ArmState:
    """What is known of an arm, in all chains in which it stands: its calls in flight, and whether it was ejected."""

    def __init__(self) -> None:
        self.is_ejected = False
        self._calls: set[object] = set()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Forget the parent's calls in a forked child."""
        self._calls = set()

    @property
    def in_flight(self) -> int:
        """The number of calls that are under way."""
        return len(self._calls)

    def begin_call(self) -> Callable[[], None]:
        """Count a call as in flight; calling the result ends it."""
        call, calls = object(), self._calls
        calls.add(call)  # a set, whose changes are atomic: threads and the garbage collector end calls too
        return lambda: calls.discard(call)


class Arm:
    """One of the deployments or keys at a place: a model, or again several keys (`Arms`), with its share of the calls.

    *label* is its name in records. *identity* stands for it in the hash that finds the arm of a tag: as long as it
    stays, the arm keeps its tags, wherever it stands among the others.
    """

    def __init__(
        self,
        label: str,
        target: ChatModelBase | Arms,
        weight: float = 1.0,
        *,
        identity: str | None = None,
        state: ArmState | None = None,
    ) -> None:
        self.label = label
        self.target = target
        self.weight = weight
        self.identity = identity or label
        self.state = state or ArmState()
        self._gates = find_gates(target)

    @property
    def in_flight(self) -> int:
        """The number of calls that are under way at this arm."""
        if isinstance(self.target, Arms):
            return sum(arm.in_flight for arm in self.target.arms)
        return self.state.in_flight

    def is_ready(self) -> bool:
        """Whether a call can be sent now: configured, its breaker closed, and its limit with room."""
        is_configured = isinstance(self.target, Arms) or self.target.configured
        return is_configured and all(gate.is_ready() for gate in self._gates)


class Arms:
    """Several arms at one place.

    With *by*, the name of a tag, calls with the same value of it get the same arm, as long as that is ready; the shares
    of the values are those of the weights, and a value moves only when its own arm leaves, or to an arm that is new.
    Other calls pick by *pick*: at random by the weights, or of two that are picked so, the one with fewer calls in
    flight for its weight. *is_keys* tells that all arms are keys of the same model.
    """

    def __init__(
        self, arms: Sequence[Arm], *, by: str | None = None, pick: Pick = "weighted", is_keys: bool = False
    ) -> None:
        self.arms = tuple(arms)
        self.by = by
        self.pick = pick
        self.is_keys = is_keys
        targets = [arm.target for arm in self.arms]
        self.models: tuple[ChatModelBase, ...] = tuple(
            model for target in targets for model in (target.models if isinstance(target, Arms) else (target,))
        )

    def is_ready(self) -> bool:
        """Return whether a call can be sent to one of the arms now."""
        return any(arm.is_ready() for arm in self.arms)

    def order(self, tags: Tags, random: Random) -> list[ChatModelBase]:
        """Return every model of the place in the order in which a call with *tags* asks them; ready ones come first."""
        key = tags.get(self.by) if self.by is not None else None
        return list(self._order(key, self.pick, random))

    def _order(self, key: str | None, pick: Pick, random: Random) -> Iterator[ChatModelBase]:
        ready = [arm for arm in self.arms if arm.is_ready()]
        others = [arm for arm in self.arms if arm not in ready] if len(ready) < len(self.arms) else []
        by_load = key is None and pick == "least_busy"
        for arms in (ready, others):
            for arm in _rank_by_load(arms, random) if by_load else _rank_by_weight(arms, key, random):
                if isinstance(arm.target, Arms):
                    yield from arm.target._order(key, pick, random)
                else:
                    yield arm.target

    def __repr__(self) -> str:
        return f"Arms({', '.join(arm.label for arm in self.arms)})"


def _rank_by_weight(arms: Sequence[Arm], key: str | None, random: Random) -> list[Arm]:
    """Return *arms* in an order of chance by their weights, or, with *key*, in the order that belongs to it."""

    def compute_arrival(arm: Arm) -> float:
        uniform = random.random() if key is None else _hash_to_uniform(arm.identity, key)
        return -math.log1p(-uniform) / arm.weight

    return sorted(arms, key=compute_arrival) if len(arms) > 1 else list(arms)


def _rank_by_load(arms: Sequence[Arm], random: Random) -> list[Arm]:
    """Return *arms*: the less busy of two that are drawn by their weights, then the others, the least busy first."""

    def measure_load(arm: Arm) -> float:
        return (arm.in_flight + 1) / arm.weight

    first = min(_rank_by_weight(arms, None, random)[:2], key=measure_load, default=None)
    return sorted(arms, key=lambda arm: (arm is not first, measure_load(arm)))


def _hash_to_uniform(identity: str, key: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends on *identity* and *key* alone."""
    # The length keeps ("a", "bc") apart from ("ab", "c").
    text = f"{len(identity)}:{identity}{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=_HASH_BYTES).digest(), "big")
    return min(max((number + 0.5) / _HASH_RANGE, math.ulp(0.0)), math.nextafter(1.0, 0.0))
