"""`CountTable`: visit counts of unbounded integer keys, many at a time, and the keys that the wrappers count."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explore_gym.wrappers.lanes import GAMMA, mix

Key = str | Callable[[Any, dict[str, Any]], NDArray]


class CountTable:
    """Counts of pairs (owner, key) of int64; the cost of counting one doesn't, on average, grow with their number.

    It is a hash table with linear probing. An owner is whoever counts: all, a lane, an episode. Owners that are gone are
    dropped when the table is rebuilt.
    """

    def __init__(self) -> None:
        self._allocate(64)

    def __len__(self) -> int:
        return self.size

    def add(self, owners: NDArray, keys: NDArray, alive: NDArray | None = None) -> NDArray:
        """Count one visit of each pair, int64 (n,) each, and return their counts, visits of the same pair all included.

        Args:
            alive: owners whose pairs must be kept, None for all.
        """
        if 2 * (self.size + len(keys)) > len(self.counts):
            self._rebuild(len(keys), alive)
        slots = self._slots(owners, keys)
        np.add.at(self.counts, slots, 1)
        return self.counts[slots]

    def entries(self) -> tuple[NDArray, NDArray, NDArray]:
        """Owners, keys and counts of all pairs, in no order."""
        used = self.counts > 0
        return self.owners[used], self.keys[used], self.counts[used]

    def _slots(self, owners, keys):
        """The slot of each pair, (n,); a new pair gets an empty one."""
        last = len(self.counts) - 1
        slots = (mix(mix(keys.view(np.uint64)) + owners.view(np.uint64) * np.uint64(GAMMA)) & np.uint64(last)).astype(np.int64)
        todo = np.arange(len(keys))
        while len(todo):
            at = slots[todo]
            free = todo[~self.used[at]]
            if len(free):  # of several new pairs that want one slot, one gets it
                self.claims[slots[free]] = free
                winners = free[self.claims[slots[free]] == free]
                taken = slots[winners]
                self.used[taken], self.owners[taken], self.keys[taken] = True, owners[winners], keys[winners]
                self.size += len(winners)
            todo = todo[(self.owners[at] != owners[todo]) | (self.keys[at] != keys[todo])]
            slots[todo] = (slots[todo] + 1) & last
        return slots

    def _rebuild(self, room, alive):
        owners, keys, counts = self.entries()
        if alive is not None:
            kept = np.isin(owners, alive)
            owners, keys, counts = owners[kept], keys[kept], counts[kept]
        self._allocate(1 << (4 * (len(keys) + room)).bit_length())
        self.counts[self._slots(owners, keys)] = counts

    def _allocate(self, capacity):
        self.owners, self.keys, self.counts, self.claims = (np.zeros(capacity, np.int64) for _ in range(4))
        self.used, self.size = np.zeros(capacity, bool), 0


def check_key(key: Key) -> None:
    if not (isinstance(key, str) or callable(key)):
        raise ValueError(f"key must name an entry of the info or be a function of (obs, info), got {key!r}")


def read_keys(key: Key, obs: Any, info: dict[str, Any], lanes: NDArray) -> NDArray:
    """The keys of the given lanes, int64 (lanes.sum(),), from `info[key]` or `key(obs, info)`.

    Raises:
        ValueError: the info has no such entry for one of the lanes, or keys aren't integers of shape (num_envs,).
    """
    if callable(key):
        values = np.asarray(key(obs, info))
    elif key in info and np.asarray(info.get("_" + key, lanes))[lanes].all():
        values = np.asarray(info[key])
    else:
        names = sorted(name for name in info if "_" + name in info)
        raise ValueError(f"info must have {key!r} for every lane, it has {names}: give a key or a function of (obs, info)")
    if values.shape != lanes.shape or values.dtype.kind not in "iu":
        raise ValueError(f"keys must be integers of shape {lanes.shape}, got {values.dtype} {values.shape} from {key!r}")
    return values[lanes].astype(np.int64)
