"""What this process knows of a pool in the store: its options, as the script wants them, and what it has admitted."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.rates import Rate, What
from modelhub.middleware.limit.store import PoolRefusals
from modelhub.middleware.limit.window import Slot, Window

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.permit import WaitLimits
    from modelhub.middleware.limit.store import PoolScope
    from modelhub.shared.link import StoreLinks

__all__ = ["PATIENCE", "PRESENCE", "Admissions", "PoolState", "RecordedAdmission"]

PATIENCE = 3.0
"""After how many seconds without a call of its process a ticket in the queue is dropped."""
PRESENCE = 60.0
"""For how many seconds after its last call a process is counted as a replica."""
_MAX_GRACE = 1.0  # seconds that processes have to say what they admitted, after the store has lost its data

RecordedAdmission = Sequence[tuple[str, Window, Slot, int]]
"""Where an attempt was recorded: the rate's key, its window, the part of that, and the amount."""


class Admissions:
    """The admissions of the last period of each rate, by the rate's key. Safe to use from several threads."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all, as in a forked child: what was admitted is the parent's to report."""
        self._lock = threading.Lock()
        self._windows = {key: Window(window.limit, window.period) for key, window in self._windows.items()}
        self._unreported: list[tuple[float, Mapping[str, int]]] = []

    def set_rates(self, rates: Mapping[str, Rate]) -> None:
        """Record *rates* from now on; what is known of those that go on is kept."""
        with self._lock:
            known = self._windows
            self._windows = {key: known.get(key) or Window(rate.amount, rate.period) for key, rate in rates.items()}

    def add(self, needs: Mapping[str, int], now: float) -> RecordedAdmission:
        """Record an attempt that was admitted at *now* with *needs*."""
        with self._lock:
            recorded = []
            for key, window in self._windows.items():
                window.forget(now)
                amount = needs.get(key, 0)
                recorded.append((key, window, window.add(amount, now), amount))
            return recorded

    def settle(self, recorded: RecordedAdmission, used: Mapping[str, int]) -> None:
        """Correct *recorded* where less was *used*, by the rate's key."""
        with self._lock:
            for key, window, slot, amount in recorded:
                if (unused := amount - used.get(key, amount)) > 0:
                    window.give_back(slot, unused)

    def recent(self, now: float) -> dict[str, list[tuple[float, int]]]:
        """Return how long ago, in seconds, and how much was admitted, by the rate's key."""
        with self._lock:
            return {
                key: [(now - ended, amount) for ended, amount in window.recent(now)]
                for key, window in self._windows.items()
            }

    def add_unreported(self, needs: Mapping[str, int], now: float) -> None:
        """Keep, until the store is back, that an attempt with *needs* was admitted at *now* without it."""
        with self._lock:
            self._unreported.append((now, needs))

    def take_unreported(self, now: float) -> dict[str, list[tuple[float, int]]]:
        """Return, once, what was admitted without the store, like `recent`."""
        with self._lock:
            unreported, self._unreported = self._unreported, []
            return {key: [(now - at, needs.get(key, 0)) for at, needs in unreported] for key in self._windows}


class PoolState(PoolRefusals):
    """A named limit in the store, as this process knows it."""

    def __init__(self, store: StoreLinks, name: str, options: LimitOptions, scope: PoolScope) -> None:
        self.store = store
        self.name = name
        self.key = f"{scope}:{name}"
        self.version = 0
        """How often options were applied."""
        self.epoch = ""
        """By which the store tells this pool from an earlier one, whose data it has lost."""
        self.known_outages = 0
        """How many outages there had been when the store was last found to have lost the pool's data."""
        self.lost_at = -math.inf
        self.shown: Sequence[float] = ()
        self.shown_at = 0.0
        self.admissions = Admissions()
        self.apply_options(options)

    def apply_options(self, options: LimitOptions) -> None:
        """Hold to *options* from now on."""
        lowest: dict[str, tuple[What, Rate]] = {}
        for what, rate in options.rates():
            key = f"{what}/{rate.period:g}"
            if key not in lowest or rate.amount < lowest[key][1].amount:
                lowest[key] = what, rate
        self.options, self.rates = options, lowest
        """`rates` is what is counted, and the rate, by a key that is the same in every process."""
        # The braces: a cluster keeps all of it in one place. The number: another version's script keeps it otherwise.
        base = f"{{{self.store.options.prefix}:{self.key}}}:2"
        self.keys = [f"{base}:{part}" for part in ("state", "queue", "leases", "members", *self.rates)]
        self.admissions.set_rates({key: rate for key, (_, rate) in self.rates.items()})
        rates = [rate for _, rate in self.rates.values()]
        self.max_delay = max(0.005, min((_find_span(rate) - rate.period for rate in rates), default=1.0) / 4)
        """How many seconds after its admission a request may be written that counts from its admission on.

        A window remembers a little longer than its period: part of that is for delays that nobody sees.
        """
        shortest = min((rate.period for rate in rates), default=math.inf)
        self.grant_lifetime = min(self.store.options.lease, max(1.0, shortest))
        """How many seconds after its admission an attempt may begin that does not ask again."""
        self.version += 1

    def settings(self, member: str) -> tuple[str | bytes, ...]:
        """Return what the script must know of the pool, for calls of *member*; times in microseconds."""
        options, longest = self.options, max((rate.period for _, rate in self.rates.values()), default=0.0)
        slots = -1 if options.concurrency is None else -2 if options.concurrency == "auto" else options.concurrency
        lease = self.store.options.lease
        seconds = (lease, PATIENCE, PRESENCE, min(_MAX_GRACE, longest), max(2 * longest, 4 * lease, 600.0))
        numbers: list[float] = [slots, *(round(length * 1e6) for length in seconds)]
        for what, rate in self.rates.values():
            burst = options.burst_of(what, rate)
            numbers += [
                int(what == "requests"),
                rate.amount,
                round(rate.period * 1e6),
                round(_find_span(rate) * 1e6),
                max(1, round(rate.period * 1e3)),
                -1 if burst >= rate.amount else max(1.0, burst),
            ]
        return (member, self.key, self.store.options.prefix, struct.pack(f"<{len(numbers)}d", *numbers), *self.rates)

    def last_left(self) -> Sequence[int]:
        """Return what of each rate was left for all processes when the store last said it."""
        if len(left := self.shown[5:]) != len(self.rates):
            return [rate.amount for _, rate in self.rates.values()]
        return [int(amount) for amount in left]

    def show(self, shown: Sequence[float]) -> None:
        """Record what the store says of the pool."""
        self.shown, self.shown_at = shown, self.store.clock.now()

    def explain(self, waits: WaitLimits, code: str, number: int, value: int) -> LimitRejected:
        """Return the refusal of an attempt with *waits* that the script gave as *code* for the *number*th rate."""
        if code == "full":
            return self.explain_full(value)
        wait = value / 1e6
        if code == "late":
            return self.explain_lateness(waits, wait, self.store.clock.now())
        if code == "paused":
            return self.explain_pause(wait)
        what, rate = list(self.rates.values())[number - 1]
        if code == "told":
            return self.explain_remote_limit(what, self.last_left()[number - 1], wait)
        return self.explain_quota(what, rate, wait)


def _find_span(rate: Rate) -> float:
    """Return for how many seconds a window remembers: a little longer than one in this process.

    What is admitted a period apart comes closer together at the vendor's if the store's first answer was under way
    longer than the second.
    """
    return max(Window(rate.amount, rate.period).span, rate.period + min(0.065, 0.1 * rate.period))
