"""Caches for keys that a guest chooses: bounded by the weight of what they hold, and cleared when they are full.

A cache that counts entries is no bound, for one entry can hold thousands of type parts. What a cache forgets lives on
with the artifact that uses it, and is freed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from aegis.support.lean import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

__all__ = ["Memo", "lazily", "memoised"]

_Key = ParamSpec("_Key")
_Value = TypeVar("_Value")


class Memo(Generic[_Value]):
    """Values by key, together of a weight of ``most`` at most. One that takes an eighth of that is not kept.

    Two threads may both make a value; the first that is kept serves both. ``weight`` may then be too large until the
    memo is cleared, never too small.
    """

    __slots__ = ("entries", "most", "weight")

    def __init__(self, most: int) -> None:
        self.entries: dict[Hashable, _Value] = {}
        self.most, self.weight = most, 0

    def keep(self, key: Hashable, value: _Value, weight: int) -> _Value:
        """Return the value of ``key`` from now on: ``value``, or the one that another thread kept meanwhile."""
        if weight > self.most // 8:
            return value
        if self.weight + weight > self.most:
            self.entries.clear()
            self.weight = 0
        self.weight += weight
        return self.entries.setdefault(key, value)


if TYPE_CHECKING:
    from functools import cached_property as lazily
else:

    class lazily:
        """A property whose value is made when it is first asked for, and kept in the object's ``__dict__``.

        As :class:`functools.cached_property` from Python 3.12 on; that of 3.11 takes a lock each time.
        """

        def __init__(self, make):
            self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

        def __get__(self, owner, cls):
            if owner is None:
                return self
            made = owner.__dict__[self._name] = self._make(owner)
            return made


def memoised(most: int, weigh: Callable[..., int]) -> Callable[[Callable[_Key, _Value]], Callable[_Key, _Value]]:
    """Return a decorator that memoises a function of positional arguments; ``weigh`` gives the weight of a result."""

    def decorate(function: Callable[_Key, _Value]) -> Callable[_Key, _Value]:
        memo: Memo[_Value] = Memo(most)
        entries = memo.entries

        def remembered(*key: Any) -> _Value:
            try:
                return entries[key]
            except KeyError:
                made = function(*key)  # type: ignore[call-arg]
            return memo.keep(key, made, weigh(*key))

        remembered.__name__, remembered.__doc__ = function.__name__, function.__doc__
        remembered.memo = memo  # type: ignore[attr-defined]
        return remembered  # type: ignore[return-value]

    return decorate
