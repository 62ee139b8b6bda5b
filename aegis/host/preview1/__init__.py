"""WASI preview 1, complete and mediated: every function on the providers of this package's parents.

``abi`` holds numbers and layouts, ``table`` the guest's descriptors, ``files``, ``paths``, ``poll`` and
``system`` the functions, of which a guest loads the modules whose functions it imports. What a function raises becomes
the number that the guest is answered with; only the end of the run passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from types import MethodType

from aegis.host.preview1.abi import ERRNO_OF, SIGNATURES, SIGNED, Errno, Refused
from aegis.limits import Limits
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import CallScope, GuestMemory, HostFunction, MemoryFault

if TYPE_CHECKING:
    from aegis.host.grants import Grants
    from aegis.host.preview1.context import Context

__all__ = ["MODULE", "answering", "guest_class", "kinds_of", "preview1_functions"]

MODULE = "wasi_snapshot_preview1"
_MASKS = {"i32": 0xFFFF_FFFF, "i64": 0xFFFF_FFFF_FFFF_FFFF}


def kinds_of(names: Iterable[str]) -> frozenset[str]:
    """Return the kinds of the functions called ``names``, the first words of those that there are."""
    return frozenset(name.partition("_")[0] for name in names if name in SIGNATURES)


@cache
def guest_class(kinds: frozenset[str]) -> type[Context]:
    """Return a class with the functions of these kinds (:func:`kinds_of`)."""
    parts: list[type[Context]] = []
    if "fd" in kinds:
        from aegis.host.preview1.files import Files

        parts.append(Files)
    if "path" in kinds:
        from aegis.host.preview1.paths import Paths

        parts.append(Paths)
    if "poll" in kinds:
        from aegis.host.preview1.poll import Poll

        parts.append(Poll)
    if kinds - {"fd", "path", "poll"}:
        from aegis.host.preview1.system import System

        parts.append(System)
    if not parts:
        from aegis.host.preview1.context import Context

        parts.append(Context)
    return type("Preview1", tuple(parts), {})


def preview1_functions(
    grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, names: Iterable[str]
) -> list[HostFunction]:
    """Return the functions called ``names``; one that preview 1 lacks is left out."""
    known = [name for name in names if name in SIGNATURES]
    if not known:
        return []
    guest = guest_class(kinds_of(known))(grants, memory, scope, limits)
    return [
        HostFunction(module=MODULE, name=name, type=SIGNATURES[name], call=MethodType(answering(name), guest))
        for name in known
    ]


_masks = {
    name: tuple(-1 if SIGNED.get(name) == n else _MASKS[t] for n, t in enumerate(signature.params))
    for name, signature in SIGNATURES.items()
}
"""What turns the parameters of each function into numbers as the ABI means them."""


_ANSWERING = """
def answer(guest, {parameters}):
    try:
        guest.{name}({arguments})
    except ANSWERED as error:
        return number(error)
    return 0
"""


@cache
def answering(name: str) -> Callable[..., Any]:
    """Return the function called ``name`` of the class of any guest, which answers with an error number.

    It takes the guest, and numbers of either sign, which it gives to the method as the ABI means them.
    """
    if name == "proc_exit":
        return lambda guest, code: guest.proc_exit(code & 0xFFFF_FFFF)
    masks = _masks[name]
    parameters = [f"a{n}" for n in range(len(masks))]
    arguments = [a if mask < 0 else f"{a} & {mask}" for a, mask in zip(parameters, masks, strict=True)]
    scope = {"ANSWERED": _ANSWERED, "number": _number}
    text = _ANSWERING.format(name=name, parameters=", ".join(parameters), arguments=", ".join(arguments))
    exec(text, scope)
    return scope["answer"]  # type: ignore[return-value]


_ANSWERED = (Refused, MemoryFault, OSError)


def _number(error: BaseException) -> int:
    """Return the number of an error for the guest."""
    if isinstance(error, Refused):
        return error.number
    return Errno.FAULT if isinstance(error, MemoryFault) else ERRNO_OF.get(getattr(error, "errno", None), Errno.IO)
