"""A buffer for the WebAssembly text of one adapter module: its imports, its functions, and its traps.

Theory of operation. An adapter module defines no memory of its own; it imports the guests' memories, reallocs and
functions, and the globals of the flags module (:func:`flags_text`). The host sees only ``unreachable`` when an adapter
traps, so the adapter first stores the number of the reason in the global ``reason``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from aegis.component.planning.program import CoreExport, Options
from aegis.engine.call.classify import OWN_MODULE

__all__ = ["FLAGS", "REASONS", "AdapterModule", "AdapterSide", "LineBudget", "TooLarge", "flags_text"]

FLAGS = -1
"""Placeholder for the step of the flags module, until the steps are renumbered."""
REASONS = (
    "", "leave", "enter", "char", "case", "pointer", "list pointer", "beyond", "realloc misaligned", "realloc beyond",
    "utf8", "utf16", "too long",
)  # fmt: skip
"""Reasons for which an adapter traps; the global ``reason`` holds the index."""
_MAX_ADAPTER_LINES, _MAX_COMPONENT_LINES = 2_000, 10_000
"""Lines of text of one adapter with its helper functions, and of all adapters of a component. They bound compile time;
calls beyond them go through the host."""
_MAX_MEMORIES = 64
"""Memories that one adapter module imports; the engine supports at most 100 in a module."""


class TooLarge(Exception):
    """An adapter exceeds the limits of this module; its call goes through the host."""


class AdapterSide(NamedTuple):
    """One of the two component instances of a link, with its canonical options.

    ``flagged``: its may-leave flag is a global that adapters read and write.
    """

    instance: int
    options: Options
    flagged: bool


class LineBudget:
    """The lines of text that remain for the adapters of one component."""

    def __init__(self) -> None:
        self.left = _MAX_COMPONENT_LINES


class AdapterModule:
    """The text of one adapter module under construction."""

    def __init__(self, budget: LineBudget) -> None:
        self.imports: dict[CoreExport, tuple[str, str]] = {}
        """Imported items: the name of each, and its import description."""
        self.functions: list[str] = []
        self._budget = budget
        self._made: dict[Hashable, str] = {}
        self._labels = 0
        self._left = 0

    def attempt(self, write: Callable[[AdapterModule], None]) -> bool:
        """Call ``write`` to add an adapter; undo its additions and return ``False`` if the adapter is too large."""
        before = dict(self.imports), list(self.functions), dict(self._made)
        self._left = _MAX_ADAPTER_LINES
        try:
            write(self)
        except TooLarge:
            self.imports, self.functions, self._made = before
            return False
        return True

    def spend(self, lines: int) -> None:
        """Charge lines of text to both limits; raise :class:`TooLarge` beyond one."""
        self._left -= lines
        self._budget.left -= lines
        if self._left < 0 or self._budget.left < 0:
            raise TooLarge

    def text(self) -> str:
        """Return the text of the module."""
        imports = [f'(import "" "{n}" ({kind}))' for n, (_, kind) in enumerate(self.imports.values())]
        return "\n".join([f"(module ${OWN_MODULE}", *imports, *self.functions, ")"])

    # -- functions --------------------------------------------------------------------------------

    def function(self, key: Hashable, write: Callable[[str], None]) -> str:
        """Return the name of the helper function for ``key``; on first use, ``write`` defines it."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = f"$f{len(self._made)}"
            write(made)
        return made

    def define(self, *lines: str) -> None:
        """Append the lines of a function."""
        self.functions += lines

    def label(self) -> str:
        """Return an unused block label."""
        self._labels += 1
        return f"$b{self._labels}"

    # -- imports ----------------------------------------------------------------------------------

    def _import(self, item: CoreExport, kind: str, prefix: str) -> str:
        found = self.imports.get(item)
        if found is None:
            name = f"${prefix}{len(self.imports)}"
            found = self.imports[item] = name, kind.format(name)
        return found[0]

    def core_function(self, item: CoreExport, params: Sequence[str], results: Sequence[str]) -> str:
        """Import a core function of a guest; return its name. Instantiation compares the type."""
        types = "".join(f" (param {core})" for core in params) + "".join(f" (result {core})" for core in results)
        return self._import(item, f"func {{}}{types}", "g")

    def memory(self, side: AdapterSide) -> str:
        """Import a side's linear memory; return its name."""
        item = side.options.memory
        assert item is not None
        if item not in self.imports and sum(i.kind == "memory" for i in self.imports) >= _MAX_MEMORIES:
            raise TooLarge
        return self._import(item, "memory {} 0", "m")

    def flag(self, which: str, instance: int) -> str:
        """Import an instance's may-leave (``leave``) or may-enter (``enter``) flag; return the global's name."""
        return self._global(f"{which}-{instance}", "i32")

    def _global(self, name: str, core: str) -> str:
        return self._import(CoreExport(FLAGS, name, "global"), f"global {{}} (mut {core})", "v")

    # -- checks -----------------------------------------------------------------------------------

    def trap(self, reason: str) -> str:
        """Return the text that stores ``reason`` and traps."""
        return f"(global.set {self._global('reason', 'i32')} (i32.const {REASONS.index(reason)})) unreachable"

    def need(self, memory: str) -> str:
        """Return the function that traps unless ``$end``, the end of a range, is within the memory.

        ``$end`` is an i64, so that the sum of two u32 values does not wrap. The function also stores the end and the
        memory's size, for the message of the trap.
        """

        def write(name: str) -> None:
            wanted, present = self._global("wanted", "i64"), self._global("present", "i64")
            self.define(
                f"(func {name} (param $end i64)",
                f"(i64.gt_u (local.get $end) {size_of(memory)}) if",
                f"(global.set {wanted} (local.get $end)) (global.set {present} {size_of(memory)})",
                f"{self.trap('beyond')} end)",
            )

        return self.function(("need", memory), write)

    def realloc(self, side: AdapterSide) -> str:
        """Return the function that calls a guest's realloc and checks the address that it returns.

        As in CanonicalABI.md: the may-leave flag is cleared during the call; the address must be aligned, and the
        whole range within the memory.
        """
        item = side.options.realloc
        assert isinstance(item, CoreExport)

        def write(name: str) -> None:
            memory = self.memory(side)
            inner = self.core_function(item, ("i32",) * 4, ("i32",))
            off = on = ""
            if side.flagged:
                flag = self.flag("leave", side.instance)
                off, on = (f"(global.set {flag} (i32.const {n}))" for n in (0, 1))
            end = "(i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $size)))"
            self.spend(10)
            self.define(
                f"(func {name} (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)",
                f"(result i32) (local $at i32) {off}",
                f"(local.set $at (call {inner} (local.get $old) (local.get $old-size) (local.get $align)"
                " (local.get $size)))",
                f"{on} (i32.and (local.get $at) (i32.sub (local.get $align) (i32.const 1))) if",
                f"{self.trap('realloc misaligned')} end",
                f"(i64.gt_u {end} {size_of(memory)}) if {self.trap('realloc beyond')} end",
                "(local.get $at))",
            )

        return self.function(("realloc", side), write)


def size_of(memory: str) -> str:
    """Return the expression for a memory's size in bytes, an i64."""
    return f"(i64.shl (i64.extend_i32_u (memory.size {memory})) (i64.const 16))"


def flags_text(leaves: Sequence[int], enters: Sequence[int]) -> str:
    """Return the text of the flags module: the globals through which adapters and the host share state in a store.

    ``reason`` is the reason of a trap, ``wanted`` and ``present`` the bytes for its message; all flags start set.
    """
    names: list[Any] = [("reason", "i32", 0), ("wanted", "i64", 0), ("present", "i64", 0)]
    names += [(f"leave-{n}", "i32", 1) for n in leaves] + [(f"enter-{n}", "i32", 1) for n in enters]
    lines = [f'(global (export "{name}") (mut {core}) ({core}.const {value}))' for name, core, value in names]
    return "\n".join([f"(module ${OWN_MODULE}", *lines, ")"])
