"""Components of random structure: nesting, outer aliases, inline instances, single imports and imported instances.

Every function takes and returns a ``u32``. It increments a counter of its own instance, and its result encodes the
counters of all functions called, so a function linked to the wrong instance returns another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

__all__ = ["random_component"]

_TYPE = '(param "x" u32) (result u32)'
_MOST_STEPS = 7


@dataclass(slots=True)
class _Made:
    """A generated component: the number and form of its imported functions; its exports, by origin."""

    name: str
    imports: int
    bundled: bool
    exports: list[int | None]
    """The number of the import that an export re-exports, or ``None`` for a function of the component itself."""


@dataclass(slots=True)
class _Scope:
    """A component under construction."""

    name: str
    parent: _Scope | None
    lines: list[str] = field(default_factory=list)
    modules: list[tuple[str, bool]] = field(default_factory=list)
    """Core modules, each with whether it imports a function."""
    components: list[_Made] = field(default_factory=list)
    cores: list[str] = field(default_factory=list)
    """Core instances that export ``f``."""
    funcs: list[tuple[str, int | None]] = field(default_factory=list)


class _Writer:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.count = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"${kind}{self.count}"

    # -- what is visible: of the scope's own, or by an alias from one outside ------------------------------

    def module(self, scope: _Scope) -> tuple[str, bool]:
        owner = self._owner([s for s in _upwards(scope) if s.modules])
        name, user = self.rng.choice(owner.modules)
        return (name, user) if owner is scope else (self._alias(scope, owner, name, "core module"), user)

    def component(self, scope: _Scope) -> _Made:
        owner = self._owner([s for s in _upwards(scope) if s.components])
        made = self.rng.choice(owner.components)
        if owner is scope:
            return made
        alias = self._alias(scope, owner, made.name, "component")
        return _Made(alias, made.imports, made.bundled, made.exports)

    def _owner(self, scopes: Sequence[_Scope]) -> _Scope:
        return self.rng.choice(scopes)

    def _alias(self, scope: _Scope, owner: _Scope, name: str, kind: str) -> str:
        alias = self.name("alias")
        scope.lines.append(f"(alias outer {owner.name} {name} ({kind} {alias}))")
        return alias

    # -- steps -----------------------------------------------------------------------------------------

    def add_module(self, scope: _Scope) -> None:
        name, user = self.name("module"), self.rng.random() < 0.6
        a, b = self.rng.randrange(1, 50), self.rng.randrange(2, 9)
        called = f"(call $g (i32.add (local.get 0) (i32.const {a})))" if user else f"(i32.const {a})"
        imported = '(import "" "g" (func $g (param i32) (result i32)))' if user else ""
        start = "(func $s (drop (call $g (i32.const 1)))) (start $s)" if user and self.rng.random() < 0.3 else ""
        scope.lines.append(f"""(core module {name} {imported} (global $n (mut i32) (i32.const 0))
          (func (export "f") (param i32) (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (i32.add (i32.mul {called} (i32.const {b})) (i32.add (local.get 0) (global.get $n)))) {start})""")
        scope.modules.append((name, user))

    def add_function(self, scope: _Scope) -> None:
        if not any(s.modules for s in _upwards(scope)):
            return self.add_module(scope)
        module, user = self.module(scope)
        given = ""
        if user:
            target = self.core_function(scope)
            if target is None:
                return None
            given = f'(with "" (instance (export "g" (func {target}))))'
        core, func = self.name("core"), self.name("func")
        scope.lines.append(f"(core instance {core} (instantiate {module} {given}))")
        scope.lines.append(f'(func {func} {_TYPE} (canon lift (core func {core} "f")))')
        scope.cores.append(core)
        scope.funcs.append((func, None))
        return None

    def core_function(self, scope: _Scope) -> str | None:
        """Return a function for a core module to import: a lowered one, or one of another core instance."""
        if scope.funcs and (not scope.cores or self.rng.random() < 0.7):
            lowered = self.name("lowered")
            scope.lines.append(f"(core func {lowered} (canon lower (func {self.rng.choice(scope.funcs)[0]})))")
            return lowered
        return f'{self.rng.choice(scope.cores)} "f"' if scope.cores else None

    def add_instance(self, scope: _Scope) -> None:
        if not any(s.components for s in _upwards(scope)) or not scope.funcs:
            return self.add_function(scope)
        made = self.component(scope)
        given = [self.rng.choice(scope.funcs) for _ in range(made.imports)]
        if made.bundled:
            inside = " ".join(f'(export "i{n}" (func {func}))' for n, (func, _) in enumerate(given))
            bundle = self.name("bundle")
            scope.lines.append(f"(instance {bundle} {inside})")
            arguments = f'(with "in" (instance {bundle}))'
        else:
            arguments = " ".join(f'(with "i{n}" (func {func}))' for n, (func, _) in enumerate(given))
        instance = self.name("instance")
        scope.lines.append(f"(instance {instance} (instantiate {made.name} {arguments}))")
        for n, origin in enumerate(made.exports):
            func = self.name("func")
            scope.lines.append(f'(alias export {instance} "e{n}" (func {func}))')
            scope.funcs.append((func, None if origin is None else given[origin][1]))
        return None

    def add_bundle(self, scope: _Scope) -> None:
        """Pass a function through an instance made of exports, and a nested one."""
        if not scope.funcs:
            return
        func, origin = self.rng.choice(scope.funcs)
        inner, outer, again, back = (self.name(kind) for kind in ("inner", "outer", "again", "func"))
        scope.lines += [
            f'(instance {inner} (export "x" (func {func})))', f'(instance {outer} (export "y" (instance {inner})))',
            f'(alias export {outer} "y" (instance {again}))', f'(alias export {again} "x" (func {back}))',
        ]  # fmt: skip
        scope.funcs.append((back, origin))

    # -- components ------------------------------------------------------------------------------------

    def add_component(self, scope: _Scope, depth: int) -> None:
        if depth:
            lines, made = self.write(scope, depth - 1)
            scope.lines += lines
            scope.components.append(made)

    def write(self, parent: _Scope | None, depth: int) -> tuple[list[str], _Made]:
        """Generate a component with all its contents; the outermost imports only functions of the host."""
        scope = _Scope(self.name("component"), parent)
        imports = self.rng.randrange(3) if parent else 1
        bundled = bool(parent) and imports > 0 and self.rng.random() < 0.5
        self.add_imports(scope, imports, bundled)
        steps = [self.add_module, self.add_function, self.add_function, self.add_instance, self.add_instance,
                 self.add_bundle, lambda s: self.add_component(s, depth)]  # fmt: skip
        self.add_component(scope, depth)
        for _ in range(self.rng.randrange(3, _MOST_STEPS)):
            self.rng.choice(steps)(scope)
        # The engine does not run a component that directly exports one of its imports.
        fit = [(func, origin) for func, origin in scope.funcs if parent or origin is None]
        chosen = [self.rng.choice(fit) for _ in range(self.rng.randrange(1, 4))] if fit else []
        scope.lines += [f'(export "e{n}" (func {func}))' for n, (func, _) in enumerate(chosen)]
        made = _Made(scope.name, imports, bundled, [origin for _, origin in chosen])
        return [f"(component {scope.name}", *scope.lines, ")"], made

    def add_imports(self, scope: _Scope, count: int, bundled: bool) -> None:
        names = [self.name("func") for _ in range(count)]
        if bundled:
            instance = self.name("import")
            inside = " ".join(f'(export "i{n}" (func {_TYPE}))' for n in range(count))
            scope.lines.append(f'(import "in" (instance {instance} {inside}))')
            scope.lines += [f'(alias export {instance} "i{n}" (func {name}))' for n, name in enumerate(names)]
        else:
            scope.lines += [f'(import "i{n}" (func {name} {_TYPE}))' for n, name in enumerate(names)]
        scope.funcs += [(name, n) for n, name in enumerate(names)]


def _upwards(scope: _Scope | None) -> list[_Scope]:
    found = []
    while scope is not None:
        found.append(scope)
        scope = scope.parent
    return found


def random_component(seed: int) -> tuple[str, int]:
    """Return the text of a component that imports the function ``i0``, and its number of exports ``e0``, ``e1`` …"""
    lines, made = _Writer(Random(seed)).write(None, depth=3)
    return "\n".join(lines), len(made.exports)
