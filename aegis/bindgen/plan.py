"""Which modules there will be: one an interface, two where it is imported and exported and has resources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from aegis.wit.index import GUEST
from aegis.wit.model import Document, InterfaceDef, WorldDef, mentioned
from aegis.wit.naming import snake
from aegis.wit.types import Resource

__all__ = ["Plan", "Unit", "module_names", "plan_interfaces", "plan_world"]


@dataclass(slots=True, eq=False)
class Unit:
    """One module to be: an interface seen from one side, or from both where that makes no difference."""

    interface: InterfaceDef
    imported: bool
    exported: bool
    twin: Unit | None = None
    """The imported side of the same interface, from which this one takes the types that hold no resources."""
    module: str = ""
    """Its module's name, with the package where that is not the one that is made."""


@dataclass(slots=True)
class Plan:
    """The modules by interface and side, in an order in which each comes after those that it uses."""

    document: Document
    hosts: dict[int, Unit] = field(default_factory=dict)
    guests: dict[int, Unit] = field(default_factory=dict)
    owners: dict[int, int] = field(init=False)
    handled: set[int] = field(default_factory=set)
    """The types that are resources, or have handles anywhere within them."""

    def __post_init__(self) -> None:
        self.owners = {t.key: i.key for i in self.document.interfaces for t in i.types}
        for key, found in sorted(self.document.types.items()):
            if isinstance(found.body, Resource) or not self.handled.isdisjoint(mentioned(found.body)):
                self.handled.add(key)

    def units(self) -> list[Unit]:
        """Return each module once."""
        both = (unit for units in (self.hosts, self.guests) for unit in units.values())
        return sorted(dict.fromkeys(both), key=lambda u: (u.interface.key, u.twin is not None))

    def written(self) -> list[Unit]:
        """Return the modules that are to be made, without those that Aegis carries."""
        return [unit for unit in self.units() if "." not in unit.module]

    def home(self, key: int, exported: bool) -> Unit | None:
        """Return the module of the interface that defines a type, seen from an importer or an exporter."""
        interface = self.owner_of(key)
        if interface is None:
            return None
        sides = (self.guests, self.hosts) if exported else (self.hosts, self.guests)
        return next((side[interface] for side in sides if interface in side), None)

    def owner_of(self, key: int) -> int | None:
        """Return the key of the interface that lists a type, none for what a world defines."""
        return self.owners.get(key)


def plan_world(document: Document, world: WorldDef) -> Plan:
    """Return the modules that a world needs. What Aegis has bindings of is taken from there."""
    plan = Plan(document)
    imported = _by_key(world.imports.values())
    exported = _by_key(world.exports.values())
    for key in sorted(imported.keys() | exported.keys()):
        _place(plan, imported.get(key), exported.get(key))
    for unit in plan.units():
        unit.module = carried(unit.interface.name, unit.interface.key in plan.hosts, unit.interface.key in plan.guests)
    _name(plan.written())
    return plan


def plan_interfaces(document: Document) -> Plan:
    """Return the modules of every interface that has a name: exported if worlds only export it, else imported."""
    used = [_by_key(items.values()) for w in document.worlds for items in (w.exports, w.imports)]
    exports, imports = (set().union(*used[n::2]) for n in (0, 1))
    plan = Plan(document)
    for interface in document.interfaces:
        if interface.name:
            out = interface.key in exports and interface.key not in imports
            _place(plan, None if out else interface, interface if out else None)
    _name(plan.units())
    return plan


def _by_key(items: Iterable[object]) -> dict[int, InterfaceDef]:
    return {item.key: item for item in items if isinstance(item, InterfaceDef)}


def carried(interface: str, imported: bool, exported: bool) -> str:
    """Return the module of ``aegis.bindings`` that serves an interface from this side, empty if none does."""
    from aegis.bindings.index import INDEX  # not above: this module also makes the bindings that the index lists

    row = INDEX.bound(interface)
    called = row is not None and row.place == GUEST
    known = exported and not imported if called else not exported
    return row.bindings if row is not None and known else ""


def _place(plan: Plan, imported: InterfaceDef | None, exported: InterfaceDef | None) -> None:
    interface = imported or exported
    assert interface is not None
    key = interface.key
    unit = Unit(interface, imported is not None, exported is not None)
    if imported is not None:
        plan.hosts[key] = unit
    if exported is not None:
        if imported is not None and _differs(plan, interface):
            unit.exported = False
            unit = Unit(exported, False, True, twin=unit)
        plan.guests[key] = unit


def _differs(plan: Plan, interface: InterfaceDef) -> bool:
    """Whether the two sides of an interface have different classes: its resources, or those that it uses."""
    split = {key for key, unit in plan.guests.items() if unit is not plan.hosts.get(key)}
    for definition in interface.types:
        if isinstance(definition.body, Resource):
            return True
        if any(plan.owner_of(key) in split for key in mentioned(definition.body)):
            return True
    return False


def _name(units: list[Unit]) -> None:
    names = module_names(dict.fromkeys(unit.interface.name for unit in units))
    imported = {unit.interface.name for unit in units if unit.imported}
    for unit in units:
        also = not unit.imported and unit.interface.name in imported
        unit.module = names[unit.interface.name] + ("_exports" if also else "")


def module_names(interfaces: Iterable[str]) -> dict[str, str]:
    """Name modules after package and interface; all versions but the newest have theirs at the end."""
    groups: dict[str, list[str]] = {}
    for interface in interfaces:
        groups.setdefault(interface.partition("@")[0], []).append(interface)
    named: dict[str, str] = {}
    for plain, versions in groups.items():
        newest = max(versions, key=lambda name: _version(name.partition("@")[2]))
        for interface in versions:
            text = plain if interface == newest else interface
            named[interface] = _unused(_spelled(text), [*named.values(), "imports"])
    return named


def _spelled(interface: str) -> str:
    return snake(re.sub(r"[^A-Za-z0-9]+", "-", interface))


def _unused(name: str, others: Iterable[str]) -> str:
    taken = set(others)
    while name in taken:
        name += "_"
    return name


def _version(text: str) -> tuple[object, ...]:
    """Semantic versioning's order: a pre-release comes before its release."""
    release, dash, pre = text.partition("+")[0].partition("-")
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split("."))
    return (tuple(int(p) if p.isdigit() else -1 for p in release.split(".")), not dash, parts)
