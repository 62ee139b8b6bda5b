"""A module of adapters, as it is being written: what it imports, its functions, and how it traps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from aegis.component.planning.program import CoreExport, Options
from aegis.engine.call.classify import OWN_MODULE

__all__ = ["FLAGS", "REASONS", "Module", "Side", "TooLarge", "flags_text"]

FLAGS = -1
"""Stands for the step of the flags' module, until the steps are numbered."""
REASONS = (
    "", "leave", "enter", "char", "case", "pointer", "list pointer", "beyond", "realloc misaligned", "realloc beyond",
    "utf8", "utf16", "too long",
)  # fmt: skip
"""Why an adapter traps, by its number in the global ``reason``."""
_MOST_LINES, _MOST_LINES_IN_ALL, _MOST_MEMORIES = 2_000, 10_000, 64
"""Lines of text of one adapter with the functions made for it, and of all adapters of a component: what compiling takes
depends on them. The engine has no more than a hundred memories in a module."""


class TooLarge(Exception):
    """An adapter is larger than adapters may be."""


class Side(NamedTuple):
    """One of the two component instances of a link, with its canonical options.

    ``flagged``: whether it may leave is kept in a global.
    """

    instance: int
    options: Options
    flagged: bool


class Budget:
    """The lines of text that the adapters of one component may still have."""

    def __init__(self) -> None:
        self.left = _MOST_LINES_IN_ALL


class Module:
    """Text of one module; what an adapter that turns out too large has added is taken back."""

    def __init__(self, budget: Budget) -> None:
        self.imports: dict[CoreExport, tuple[str, str]] = {}
        """Items that are imported: the name of each, and the text of its type."""
        self.functions: list[str] = []
        self._budget = budget
        self._made: dict[Hashable, str] = {}
        self._labels = 0
        self._left = 0

    def attempt(self, write: Callable[[Module], None]) -> bool:
        """Have an adapter written; tell whether it is not too large."""
        before = dict(self.imports), list(self.functions), dict(self._made)
        self._left = _MOST_LINES
        try:
            write(self)
        except TooLarge:
            self.imports, self.functions, self._made = before
            return False
        return True

    def spend(self, lines: int) -> None:
        """Count lines of text."""
        self._left -= lines
        self._budget.left -= lines
        if self._left < 0 or self._budget.left < 0:
            raise TooLarge

    def text(self) -> str:
        """Return the module."""
        imports = [f'(import "" "{n}" ({kind}))' for n, (_, kind) in enumerate(self.imports.values())]
        return "\n".join([f"(module ${OWN_MODULE}", *imports, *self.functions, ")"])

    # -- functions --------------------------------------------------------------------------------

    def function(self, key: Hashable, write: Callable[[str], None]) -> str:
        """Return the name of a function that ``write`` defines, once for a key."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = f"$f{len(self._made)}"
            write(made)
        return made

    def define(self, *lines: str) -> None:
        """Add a function."""
        self.functions += lines

    def label(self) -> str:
        """Return a label that no other block has."""
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
        """Return the name of a core function of a guest."""
        types = "".join(f" (param {core})" for core in params) + "".join(f" (result {core})" for core in results)
        return self._import(item, f"func {{}}{types}", "g")

    def memory(self, side: Side) -> str:
        """Return the name of a side's linear memory."""
        item = side.options.memory
        assert item is not None
        if item not in self.imports and sum(i.kind == "memory" for i in self.imports) >= _MOST_MEMORIES:
            raise TooLarge
        return self._import(item, "memory {} 0", "m")

    def flag(self, which: str, instance: int) -> str:
        """Return the name of the global that says whether an instance may leave (``leave``) or be entered."""
        return self._global(f"{which}-{instance}", "i32")

    def _global(self, name: str, core: str) -> str:
        return self._import(CoreExport(FLAGS, name, "global"), f"global {{}} (mut {core})", "v")

    # -- checks -----------------------------------------------------------------------------------

    def trap(self, reason: str) -> str:
        """Return the text that traps for a reason."""
        return f"(global.set {self._global('reason', 'i32')} (i32.const {REASONS.index(reason)})) unreachable"

    def need(self, memory: str) -> str:
        """Return the function that traps for a range beyond a memory, given its end."""

        def write(name: str) -> None:
            wanted, present = self._global("wanted", "i64"), self._global("present", "i64")
            self.define(
                f"(func {name} (param $end i64)",
                f"(i64.gt_u (local.get $end) {size_of(memory)}) if",
                f"(global.set {wanted} (local.get $end)) (global.set {present} {size_of(memory)})",
                f"{self.trap('beyond')} end)",
            )

        return self.function(("need", memory), write)

    def realloc(self, side: Side) -> str:
        """Return the function that calls a guest's realloc, which may not leave meanwhile, and checks the range."""
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
    """Return the expression of a memory's size in bytes, an i64."""
    return f"(i64.shl (i64.extend_i32_u (memory.size {memory})) (i64.const 16))"


def flags_text(leaves: Sequence[int], enters: Sequence[int]) -> str:
    """Return the module of the globals that the adapters of one store share with the host."""
    names: list[Any] = [("reason", "i32", 0), ("wanted", "i64", 0), ("present", "i64", 0)]
    names += [(f"leave-{n}", "i32", 1) for n in leaves] + [(f"enter-{n}", "i32", 1) for n in enters]
    lines = [f'(global (export "{name}") (mut {core}) ({core}.const {value}))' for name, core, value in names]
    return "\n".join([f"(module ${OWN_MODULE}", *lines, ")"])
