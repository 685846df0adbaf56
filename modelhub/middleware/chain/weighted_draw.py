"""Draw by weights: at random, or by a hash that is the same in every process.

Each candidate gets an arrival time, exponentially distributed with its weight as the rate. Whoever arrives first is
picked, with a probability that is its share of the weights, and the others follow in the same way. If the times come
from a hash of a key instead of chance, this is weighted rendezvous hashing: a key's order among the candidates that
stay does not change when others come or go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from random import Random

__all__ = ["compute_arrival", "draw_two", "hash_to_uniform"]

_HASH_BYTES = 8
_HASH_RANGE = float(1 << (8 * _HASH_BYTES))


def hash_to_uniform(identity: str, key: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends on *identity* and *key* alone."""
    # The length keeps ("a", "bc") apart from ("ab", "c").
    text = f"{len(identity)}:{identity}{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=_HASH_BYTES).digest(), "big")
    return min(max((number + 0.5) / _HASH_RANGE, math.ulp(0.0)), math.nextafter(1.0, 0.0))


def compute_arrival(uniform: float, weight: float) -> float:
    """Return the arrival time of a candidate with *weight* for a *uniform* number from 0 to 1 (excluded)."""
    return -math.log1p(-uniform) / weight


def draw_two(weights: Sequence[float], random: Random) -> tuple[int, int]:
    """Return the indexes of two different candidates, drawn by their *weights*. There must be two or more."""
    order = sorted(range(len(weights)), key=lambda index: compute_arrival(random.random(), weights[index]))
    return order[0], order[1]
