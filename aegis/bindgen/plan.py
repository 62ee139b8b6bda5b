"""Plan the modules: one per interface, or two if it has resources and is both imported and exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aegis.bindgen.scope import MODULE_LEVEL, unused
from aegis.wit.index import GUEST
from aegis.wit.model import Document, InterfaceDef, WorldDef, mentioned
from aegis.wit.naming import snake
from aegis.wit.types import Resource

__all__ = ["BindingPlan", "PlannedModule", "lasting_names", "module_names", "plan_interfaces", "plan_world"]


@dataclass(slots=True, eq=False)
class PlannedModule:
    """One planned module: an interface for one side, or for both if that makes no difference."""

    interface: InterfaceDef
    imported: bool
    exported: bool
    twin: PlannedModule | None = None
    """The module for the imported side of the same interface; this one imports the types without handles from it."""
    module: str = ""
    """The name of the module, with its package if that is not the generated one."""


@dataclass(slots=True)
class BindingPlan:
    """The modules by interface key and side; each comes after the modules that it imports."""

    document: Document
    hosts: dict[int, PlannedModule] = field(default_factory=dict)
    guests: dict[int, PlannedModule] = field(default_factory=dict)
    owners: dict[int, int] = field(init=False)
    handled: set[int] = field(default_factory=set)
    """The keys of types that are resources or contain handles."""

    def __post_init__(self) -> None:
        self.owners = {t.key: i.key for i in self.document.interfaces for t in i.types}
        for key, found in sorted(self.document.types.items()):
            if isinstance(found.body, Resource) or not self.handled.isdisjoint(mentioned(found.body)):
                self.handled.add(key)

    def units(self) -> list[PlannedModule]:
        """Return all modules, each once."""
        both = (unit for units in (self.hosts, self.guests) for unit in units.values())
        return sorted(dict.fromkeys(both), key=lambda u: (u.interface.key, u.twin is not None))

    def written(self) -> list[PlannedModule]:
        """Return the modules to generate, without those of :mod:`aegis.bindings`."""
        return [unit for unit in self.units() if "." not in unit.module]

    def home(self, key: int, exported: bool) -> PlannedModule | None:
        """Return the module of the interface that defines a type, for use on the exported or imported side."""
        interface = self.owner_of(key)
        if interface is None:
            return None
        sides = (self.guests, self.hosts) if exported else (self.hosts, self.guests)
        return next((side[interface] for side in sides if interface in side), None)

    def owner_of(self, key: int) -> int | None:
        """Return the key of the interface that defines a type; ``None`` for a type of a world."""
        return self.owners.get(key)


def plan_world(document: Document, world: WorldDef) -> BindingPlan:
    """Return the modules that a world needs, using those of :mod:`aegis.bindings` where they exist."""
    plan = BindingPlan(document)
    imported = _by_key(world.imports.values())
    exported = _by_key(world.exports.values())
    for key in sorted(imported.keys() | exported.keys()):
        _place(plan, imported.get(key), exported.get(key))
    for unit in plan.units():
        unit.module = provided_module(
            unit.interface.name, unit.interface.key in plan.hosts, unit.interface.key in plan.guests
        )
    _name(plan.written())
    return plan


def plan_interfaces(document: Document, *, lasting: bool = False) -> BindingPlan:
    """Return the modules of every named interface: for the exported side if worlds only export it, else imported.

    ``lasting``: name them by :func:`lasting_names`.
    """
    used = [_by_key(items.values()) for w in document.worlds for items in (w.exports, w.imports)]
    exports, imports = (set().union(*used[n::2]) for n in (0, 1))
    plan = BindingPlan(document)
    for interface in document.interfaces:
        if interface.name:
            out = interface.key in exports and interface.key not in imports
            _place(plan, None if out else interface, interface if out else None)
    _name(plan.units(), lasting_names if lasting else module_names)
    return plan


def _by_key(items: Iterable[object]) -> dict[int, InterfaceDef]:
    return {item.key: item for item in items if isinstance(item, InterfaceDef)}


def provided_module(interface: str, imported: bool, exported: bool) -> str:
    """Return the module of ``aegis.bindings`` for an interface and side; empty if there is none."""
    from aegis.bindings.index import INDEX  # not above: this module also makes the bindings that the index lists

    row = INDEX.bound(interface)
    called = row is not None and row.place == GUEST
    known = exported and not imported if called else not exported
    return row.bindings if row is not None and known else ""


def _place(plan: BindingPlan, imported: InterfaceDef | None, exported: InterfaceDef | None) -> None:
    interface = imported or exported
    assert interface is not None
    key = interface.key
    unit = PlannedModule(interface, imported is not None, exported is not None)
    if imported is not None:
        plan.hosts[key] = unit
    if exported is not None:
        if imported is not None and _differs(plan, interface):
            unit.exported = False
            unit = PlannedModule(exported, False, True, twin=unit)
        plan.guests[key] = unit


def _differs(plan: BindingPlan, interface: InterfaceDef) -> bool:
    """Return whether the two sides of an interface need different classes, because it has or uses resources."""
    split = {key for key, unit in plan.guests.items() if unit is not plan.hosts.get(key)}
    for definition in interface.types:
        if isinstance(definition.body, Resource):
            return True
        if any(plan.owner_of(key) in split for key in mentioned(definition.body)):
            return True
    return False


def _name(units: list[PlannedModule], choose: Callable[[Iterable[str]], dict[str, str]] | None = None) -> None:
    names = (choose or module_names)(dict.fromkeys(unit.interface.name for unit in units))
    taken = {*names.values()}
    imported = {unit.interface.name for unit in units if unit.imported}
    for unit in units:
        also = not unit.imported and unit.interface.name in imported
        name = names[unit.interface.name]
        unit.module = unused(f"{name}_exports", taken) if also else name


def module_names(interfaces: Iterable[str]) -> dict[str, str]:
    """Return module names after package and interface; all versions but the newest get a version suffix."""
    groups: dict[str, list[str]] = {}
    for interface in interfaces:
        groups.setdefault(interface.partition("@")[0], []).append(interface)
    named: dict[str, str] = {}
    taken = set(MODULE_LEVEL)
    for plain, versions in groups.items():
        newest = max(versions, key=lambda name: _version(name.partition("@")[2]))
        for interface in versions:
            text = plain if interface == newest else interface
            named[interface] = unused(_spelled(text), taken)
    return named


def lasting_names(interfaces: Iterable[str]) -> dict[str, str]:
    """Return module names that stay when packages get new versions: a package's first track has no suffix.

    The modules of other tracks have their track as suffix: ``wasi_cli_run_0_3.py`` for ``wasi:cli/run@0.3.0``.
    """
    found = list(interfaces)
    tracks: dict[str, set[tuple[object, ...]]] = {}
    for interface in found:
        base, _, version = interface.partition("@")
        tracks.setdefault(base.partition("/")[0], set()).add(_version(version))
    named: dict[str, str] = {}
    taken = set(MODULE_LEVEL)
    for interface in found:
        base, _, version = interface.partition("@")
        first = _version(version) == min(tracks[base.partition("/")[0]])
        suffix = "" if first else "-" + "-".join(version.split(".")[:2])
        named[interface] = unused(_spelled(base + suffix), taken)
    return named


def _spelled(interface: str) -> str:
    return snake(re.sub(r"[^A-Za-z0-9]+", "-", interface))


def _version(text: str) -> tuple[object, ...]:
    """Return a sort key by semantic versioning: a pre-release comes before its release."""
    release, dash, pre = text.partition("+")[0].partition("-")
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split("."))
    return (tuple(int(p) if p.isdigit() else -1 for p in release.split(".")), not dash, parts)
