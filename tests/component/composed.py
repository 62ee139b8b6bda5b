"""Text of components that contain several components which call each other; types as in ``tests/echo.py``."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.wit.types import List, WitType
from tests.component.liars import forwarder_lines, lifting_liar_lines, lowering_liar_lines
from tests.echo import Manner, TypeSection, logging_echo_lines, signature_of

__all__ = ["aimed_chain_component", "chain_component", "lying_chain_component"]


def _nested(name: str, lines: Sequence[str]) -> list[str]:
    return [f"  (component ${name}", *lines, "  )"]


def _with_types(types: TypeSection) -> str:
    return " ".join(f'(with "{name}" (type ${name}))' for name in types.imported())


def chain_component(params: Sequence[WitType], manners: Sequence[Manner]) -> str:
    """Return a component of as many components as there are ``manners``, each of which calls the next.

    The export ``echo-back`` is that of the first; ``log-0``, ``log-1`` … are the logs of all. The last component passes
    values to the import ``echo`` if its manner says so.
    """
    types = TypeSection()
    signature, _ = signature_of(params, types)
    last = len(manners) - 1
    lines = ["(component", *types.lines]
    if manners[last].through:
        lines.append(f'  (import "echo" (func $echo {signature}))')
    for n, manner in enumerate(manners):
        lines += _nested(f"c{n}", logging_echo_lines(params, manner))
    for n in range(last, -1, -1):
        target = f'(func $i{n + 1} "echo-back")' if n < last else "(func $echo)"
        echo = f'(with "echo" {target})' if manners[n].through else ""
        lines.append(f"  (instance $i{n} (instantiate $c{n} {_with_types(types)} {echo}))")
    lines.append('  (export "echo-back" (func $i0 "echo-back"))')
    lines += [f'  (export "log-{n}" (func $i{n} "log"))' for n in range(last + 1)]
    return "\n".join([*lines, ")"])


def lying_chain_component(of: WitType, liar: str, listener: str) -> str:
    """Return a component with the exports of a lifting liar, whose raw values another component receives before the
    host.

    The arguments are the string encodings of the liar and of the others. Values for ``take`` pass through a component
    to the host's import, and results pass through one to the caller.
    """
    types = TypeSection()
    name = types.of(of)
    given = _with_types(types)
    return "\n".join([
        "(component", *types.lines,
        f'  (import "take" (func $take (param "x" {name})))',
        *_nested("sink", forwarder_lines("take", of, None, listener)),
        *_nested("liar", lifting_liar_lines(of, liar)),
        *_nested("front", forwarder_lines("as-result", List("u8"), of, listener)),
        f'  (instance $sink (instantiate $sink {given} (with "take" (func $take))))',
        f'  (instance $liar (instantiate $liar {given} (with "take" (func $sink "take"))))',
        f'  (instance $front (instantiate $front {given} (with "as-result" (func $liar "as-result"))))',
        '  (export "as-result" (func $front "as-result"))',
        '  (export "as-argument" (func $liar "as-argument"))', ")",
    ])  # fmt: skip


def aimed_chain_component(of: WitType, caller: str, liar: str) -> str:
    """Return a component with the exports of a lowering liar, whose argument passes through another component.

    The string encodings are those of the inner caller and of the liar.
    """
    types = TypeSection()
    name = types.of(of)
    given = _with_types(types)
    return "\n".join([
        "(component", *types.lines,
        f'  (import "give" (func $give (result {name})))',
        *_nested("liar", lowering_liar_lines(of, liar)),
        *_nested("caller", forwarder_lines("take", of, None, caller)),
        f'  (instance $liar (instantiate $liar {given} (with "give" (func $give))))',
        f'  (instance $caller (instantiate $caller {given} (with "take" (func $liar "take"))))',
        '  (export "take" (func $caller "take"))',
        *(f'  (export "{function}" (func $liar "{function}"))' for function in ("aim", "count", "fetch")), ")",
    ])  # fmt: skip
