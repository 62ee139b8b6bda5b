"""Traps for violations of the canonical ABI by a guest (``trap_if`` in CanonicalABI.md)."""

from __future__ import annotations

from typing import NoReturn

from aegis.errors import GuestTrap

__all__ = ["bad_case", "bad_char", "cannot_enter", "cannot_leave", "trap", "unaligned"]


def trap(reason: str) -> GuestTrap:
    """Return the trap for a violation of the canonical ABI."""
    return GuestTrap(f"the guest trapped: {reason}", code="abi", frames=())


def unaligned(what: str = "pointer") -> GuestTrap:
    """Return the trap for an address that is not a multiple of its type's alignment."""
    return trap(f"{what} is not aligned")


def bad_case(*_: object) -> NoReturn:
    """Trap for a discriminant that is not less than the number of cases (CanonicalABI.md, ``load_variant``)."""
    raise trap("invalid variant discriminant")


def bad_char() -> GuestTrap:
    """Return the trap for an integer that is not a Unicode scalar value (CanonicalABI.md, ``convert_i32_to_char``)."""
    return trap("a char is not a Unicode scalar value")


def cannot_leave() -> GuestTrap:
    """Return the trap for a call out of an instance whose may-leave flag is clear, during realloc or post-return."""
    text = "it called out during realloc or post-return, which the component model forbids"
    return GuestTrap(f"the guest trapped: {text}", code="cannot-leave-instance", frames=())


def cannot_enter() -> GuestTrap:
    """Return the trap for a call into an instance whose may-enter flag is clear: reentrance, or a call after a trap."""
    text = "it was entered again during a call, or after a trap"
    return GuestTrap(f"the guest trapped: {text}", code="cannot-enter-instance", frames=())
