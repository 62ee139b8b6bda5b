"""WASI preview 1, complete and mediated: every function works on the providers of ``aegis.host``.

``abi`` has numbers and layouts, ``table`` the guest's descriptors; ``files``, ``paths``, ``poll`` and ``system`` have
the functions, of which only those modules are imported whose functions the guest imports. An error that a function
raises becomes the error number that the guest receives; only the end of the run (exit, deadline, limits) propagates.
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
    from aegis.host.preview1.context import Preview1Context

__all__ = ["MODULE", "answering", "guest_class", "kinds_of", "preview1_functions"]

MODULE = "wasi_snapshot_preview1"
_MASKS = {"i32": 0xFFFF_FFFF, "i64": 0xFFFF_FFFF_FFFF_FFFF}


def kinds_of(names: Iterable[str]) -> frozenset[str]:
    """Return the kinds (``fd``, ``path``, …) of the functions called ``names``; unknown names have none."""
    return frozenset(name.partition("_")[0] for name in names if name in SIGNATURES)


@cache
def guest_class(kinds: frozenset[str]) -> type[Preview1Context]:
    """Return a class that has the functions of these kinds (:func:`kinds_of`)."""
    parts: list[type[Preview1Context]] = []
    if "fd" in kinds:
        from aegis.host.preview1.files import Files

        parts.append(Files)
    if "path" in kinds:
        from aegis.host.preview1.paths import Paths

        parts.append(Paths)
    if "poll" in kinds:
        from aegis.host.preview1.poll import PollOneoff

        parts.append(PollOneoff)
    if kinds - {"fd", "path", "poll"}:
        from aegis.host.preview1.system import System

        parts.append(System)
    if not parts:
        from aegis.host.preview1.context import Preview1Context

        parts.append(Preview1Context)
    return type("Preview1", tuple(parts), {})


def preview1_functions(
    grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits, names: Iterable[str]
) -> list[HostFunction]:
    """Return the functions called ``names``, without those that preview 1 does not have."""
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
"""The masks that turn the parameters of each function, which the engine passes signed, into the ABI's numbers."""


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
    """Return the host function ``name`` as a function of any guest: it takes the ABI's numbers, of either sign.

    It returns an error number. Its source is written for the function's parameters: a loop would cost more than the
    call.
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
    """Return the error number that stands for an exception."""
    if isinstance(error, Refused):
        return error.number
    return Errno.FAULT if isinstance(error, MemoryFault) else ERRNO_OF.get(getattr(error, "errno", None), Errno.IO)
