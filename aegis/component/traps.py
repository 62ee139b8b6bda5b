"""Breaches of the canonical ABI, which only a guest commits: each ends the call with a trap."""

from __future__ import annotations

from typing import NoReturn

from aegis.errors import GuestTrap

__all__ = ["bad_case", "bad_char", "cannot_enter", "cannot_leave", "trap", "unaligned"]


def trap(reason: str) -> GuestTrap:
    """Return the trap for a breach of the canonical ABI."""
    return GuestTrap(f"the guest trapped: {reason}", code="abi", frames=())


def unaligned(what: str = "pointer") -> GuestTrap:
    """Return the trap for an address that its type's alignment does not divide."""
    return trap(f"{what} is not aligned")


def bad_case(*_: object) -> NoReturn:
    """Trap for a discriminant that no case has (CanonicalABI.md, ``load_variant``)."""
    raise trap("invalid variant discriminant")


def bad_char() -> GuestTrap:
    """Return the trap for a number that is no character (CanonicalABI.md, ``convert_i32_to_char``)."""
    return trap("a char is no Unicode scalar value")


def cannot_leave() -> GuestTrap:
    """Return the trap for a call out of an instance that is in its realloc or post-return."""
    text = "it called out while it may not leave, from a realloc or a post-return"
    return GuestTrap(f"the guest trapped: {text}", code="cannot-leave-instance", frames=())


def cannot_enter() -> GuestTrap:
    """Return the trap for a call into a component instance that was entered before."""
    text = "it was entered while a call into it was under way, or after a trap"
    return GuestTrap(f"the guest trapped: {text}", code="cannot-enter-instance", frames=())
