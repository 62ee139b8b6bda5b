"""The base class of WIT flags: an ``enum.Flag`` that caches a bounded number of combinations."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Self

__all__ = ["MAX_CACHED_COMBINATIONS", "BitFlags"]

MAX_CACHED_COMBINATIONS = 256
"""Combinations that one class caches: all those of eight flags. Each takes some 200 bytes."""


class _Type(enum.EnumType):
    """The metaclass of flags: it replaces the ``__invert__`` that ``enum.EnumType`` puts into each class."""

    def __new__(cls, *parts: Any, **options: Any) -> _Type:
        made = super().__new__(cls, *parts, **options)
        made.__invert__ = _inverse  # type: ignore[operator]
        return made


def _inverse(value: BitFlags) -> BitFlags:
    """Return the inverse without storing it in ``value`` as ``enum.Flag`` does: uncached objects could form a chain."""
    return type(value)(value._flag_mask_ & ~value._value_)


class BitFlags(enum.Flag, metaclass=_Type):
    """Flags whose named members are the bits 1, 2, 4, … in order; any other value is a combination of them.

    ``enum.Flag`` caches each combination for the lifetime of the class, so a guest could grow the host's memory by
    returning ever different flags. This class caches only the first combinations; others are ordinary objects. Compare
    combinations with ``==`` and not with ``is``. Named members are singletons.
    """

    if TYPE_CHECKING:
        _flag_mask_: int

    @classmethod
    def _missing_(cls, value: object) -> Self:
        """Return the combination with the bits of ``value``; a negative integer counts as in two's complement."""
        mask = cls._flag_mask_
        if not isinstance(value, int) or value < ~mask or (value >= 0 and value & ~mask):
            return super()._missing_(value)  # type: ignore[no-any-return]  # raises ValueError and caches nothing
        if value < 0:
            return cls(value & mask)
        made = object.__new__(cls)
        made._value_ = value
        kept = cls._value2member_map_
        if len(kept) >= MAX_CACHED_COMBINATIONS + len(cls._member_map_):
            return made
        return kept.setdefault(value, made)  # type: ignore[return-value]  # another thread may have stored one first

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            # Most combinations are never printed, so their names are computed at the first use.
            if name != "_name_":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self._name_ = "|".join(member._name_ for member in self) or None
            return self._name_

    def __eq__(self, other: object) -> bool:
        return self._value_ == other._value_ if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value_)
