"""Caches whose keys a guest chooses: bounded by the weight of their entries, and cleared when full.

A limit on the number of entries would not bound memory, because one entry can hold thousands of type parts. An
artifact keeps its own reference to each value it uses, so clearing a cache never invalidates one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from aegis.support.lean import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

__all__ = ["WeightedCache", "lazily", "memoised"]

_Key = ParamSpec("_Key")
_Value = TypeVar("_Value")


class WeightedCache(Generic[_Value]):
    """A mapping whose values weigh at most ``most`` together. A value heavier than an eighth of that is not stored.

    Two threads may compute the same value at the same time; the value stored first is returned to both. ``weight`` then
    counts both, so it may be too high until the next clearing, but never too low.
    """

    __slots__ = ("entries", "most", "weight")

    def __init__(self, most: int) -> None:
        self.entries: dict[Hashable, _Value] = {}
        self.most, self.weight = most, 0

    def keep(self, key: Hashable, value: _Value, weight: int) -> _Value:
        """Store ``value`` for ``key`` and return it, or return the value that another thread stored first."""
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
        """A property that is computed at its first use and stored in the object's ``__dict__``.

        Equivalent to :class:`functools.cached_property` of Python 3.12; the one of 3.11 takes a lock for each access.
        """

        def __init__(self, make):
            self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

        def __get__(self, owner, cls):
            if owner is None:
                return self
            made = owner.__dict__[self._name] = self._make(owner)
            return made


def memoised(most: int, weigh: Callable[..., int]) -> Callable[[Callable[_Key, _Value]], Callable[_Key, _Value]]:
    """Return a decorator that caches a function of positional arguments; ``weigh`` maps them to a result's weight."""

    def decorate(function: Callable[_Key, _Value]) -> Callable[_Key, _Value]:
        memo: WeightedCache[_Value] = WeightedCache(most)
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
