"""Convert the JSON of ``wasm-tools component wit --json``, already decoded, to a :class:`Document`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.wit.labelled import separate_labelled
from aegis.wit.model import (
    Document,
    FunctionDef,
    InterfaceDef,
    Item,
    Notes,
    Ref,
    TypeDef,
    UnsupportedType,
    WorldDef,
    versioned,
)
from aegis.wit.types import (
    PRIMITIVES,
    Borrow,
    Enum,
    Flags,
    Function,
    Future,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
    show,
)

__all__ = ["read_document"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
_PACKAGE = re.compile(r"[a-z0-9-]+(:[a-z0-9-]+)+(/[a-z0-9-]+)*(@[0-9A-Za-z.+-]+)?", re.IGNORECASE)
_KINDS = {"freestanding": "free"}


def read_document(data: Mapping[str, Any]) -> Document:
    """Return the packages in ``data``.

    Raise :class:`~aegis.errors.ArtifactError` if ``data`` does not have the structure that wasm-tools prints.
    """
    try:
        return _JsonReader(separate_labelled(data)).document()
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ArtifactError(f"unexpected output of wasm-tools component wit: {printable(repr(error))}") from error


def _named(name: Any, rule: re.Pattern[str] = _NAME) -> str:
    """Return ``name`` if it matches ``rule``; names become Python code, so any other text is rejected."""
    if not isinstance(name, str) or not rule.fullmatch(name):
        raise ArtifactError(f"{printable(str(name))!r} is not a WIT name")
    return name


def _notes(of: Mapping[str, Any]) -> Notes:
    stability = of.get("stability") or {}
    gate = (stability.get("stable") or stability.get("unstable") or {}) if isinstance(stability, dict) else {}
    texts = {name: gate.get(name) for name in ("since", "feature", "deprecated")}
    for text in texts.values():
        if text is not None:
            _named(text, re.compile(r"[0-9A-Za-z.+_-]+"))
    return Notes(docs=(of.get("docs") or {}).get("contents") or "", **texts)


@dataclass(slots=True)
class _JsonReader:
    data: Mapping[str, Any]
    packages: tuple[str, ...] = ()
    types: dict[int, TypeDef] = field(default_factory=dict)
    interfaces: tuple[InterfaceDef, ...] = ()

    def document(self) -> Document:
        self.packages = tuple(_named(p["name"], _PACKAGE) for p in self.data["packages"])
        for key, found in enumerate(self.data["types"]):
            if found["name"] is not None and found["owner"] is not None:
                self.types[key] = self.definition(key, found)
        self.interfaces = tuple(self.interface(key, i) for key, i in enumerate(self.data["interfaces"]))
        worlds = tuple(map(self.world, self.data["worlds"]))
        return Document(packages=self.packages, interfaces=self.interfaces, worlds=worlds, types=self.types)

    def definition(self, key: int, found: Mapping[str, Any]) -> TypeDef:
        name = _named(found["name"])
        owner = self.owner(found["owner"])
        body = self.body(key, name, owner, found["kind"])
        return TypeDef(key=key, name=name, owner=owner, body=body, notes=_notes(found), members=_members(found["kind"]))

    def owner(self, owner: Mapping[str, int]) -> str:
        if "world" in owner:
            world = self.data["worlds"][owner["world"]]
            return versioned(self.packages[world["package"]], _named(world["name"]))
        return self.full(self.data["interfaces"][owner["interface"]])

    def full(self, interface: Mapping[str, Any]) -> str:
        name = interface["name"]
        return "" if name is None else versioned(self.packages[interface["package"]], _named(name))

    def body(self, key: int, name: str, owner: str, kind: Any) -> WitType | Resource:
        if kind == "resource":
            return Resource(name, key=key, owner=owner)
        ((tag, value),) = kind.items()
        match tag:
            case "record":
                fields = tuple((_named(f["name"]), self.use(f["type"])) for f in value["fields"])
                return Record(name, fields, owner=owner)
            case "variant":
                cases = tuple((_named(c["name"]), self.maybe(c.get("type"))) for c in value["cases"])
                return Variant(name, cases, owner=owner)
            case "enum":
                return Enum(name, tuple(_named(c["name"]) for c in value["cases"]), owner=owner)
            case "flags":
                return Flags(name, tuple(_named(f["name"]) for f in value["flags"]), owner=owner)
        return self.anonymous(tag, value)

    def anonymous(self, tag: str, value: Any) -> WitType:
        match tag:
            case "type":
                return self.use(value)
            case "list":
                return List(self.use(value))
            case "option":
                return Option(self.use(value))
            case "tuple":
                return Tuple(tuple(map(self.use, value["types"])))
            case "result":
                return Result(self.maybe(value.get("ok")), self.maybe(value.get("err")))
            case "stream":
                return Stream(self.maybe(value))
            case "future":
                return Future(self.maybe(value))
            case "handle":
                ((how, key),) = value.items()
                resource = Resource(_named(self.data["types"][key]["name"]), key=key)
                return Own(resource) if how == "own" else Borrow(resource)
        return UnsupportedType(self.foreign(tag, value))

    def foreign(self, tag: str, value: Any) -> str:
        inside = value if isinstance(value, list) else [value]
        parts = [v if tag == "fixed-length-list" and n == 1 else self.spelled(v) for n, v in enumerate(inside)]
        name = "list" if tag == "fixed-length-list" else _named(tag)
        return name if value is None else f"{name}<{', '.join(map(str, parts))}>"

    def spelled(self, of: Any) -> str:
        return show(self.maybe(of))

    def maybe(self, of: Any) -> WitType | None:
        return None if of is None else self.use(of)

    def use(self, of: Any) -> WitType:
        """Return the node of a used type: a primitive, a reference, or an unnamed type."""
        if isinstance(of, str):
            return of if of in PRIMITIVES else UnsupportedType(_named(of))
        found = self.data["types"][of]
        if found["name"] is not None:
            return Ref(_named(found["name"]), of)
        ((tag, value),) = found["kind"].items()
        return self.anonymous(tag, value)

    def interface(self, key: int, found: Mapping[str, Any]) -> InterfaceDef:
        # wasm-tools numbers types so that each comes after its parts; bindings need that order.
        return InterfaceDef(
            key=key,
            name=self.full(found),
            package=self.packages[found["package"]],
            types=tuple(self.types[t] for t in sorted(found["types"].values())),
            functions=tuple(map(self.function, found["functions"].values())),
            notes=_notes(found),
        )

    def function(self, found: Mapping[str, Any]) -> FunctionDef:
        kind = found["kind"]
        tag, resource = (kind, None) if isinstance(kind, str) else next(iter(kind.items()))
        asynchronous = tag.startswith("async-")
        tag = tag.removeprefix("async-")
        for part in re.sub(r"^\[[a-z-]+\]", "", found["name"]).split("."):
            _named(part)
        params = tuple((_named(p["name"]), self.use(p["type"])) for p in found["params"])
        return FunctionDef(
            name=found["name"],
            type=Function(params, self.maybe(found.get("result")), asynchronous),
            kind=_KINDS.get(tag, tag),
            resource=resource,
            asynchronous=asynchronous,
            notes=_notes(found),
        )

    def world(self, found: Mapping[str, Any]) -> WorldDef:
        return WorldDef(
            name=_named(found["name"]),
            package=self.packages[found["package"]],
            imports=self.items(found["imports"]),
            exports=self.items(found["exports"]),
            notes=_notes(found),
        )

    def items(self, found: Mapping[str, Any]) -> dict[str, Item]:
        made = (self.item(key, *next(iter(item.items()))) for key, item in found.items())
        return dict(made)

    def item(self, key: str, tag: str, value: Any) -> tuple[str, Item]:
        if tag == "function":
            function = self.function(value)
            return function.name, function
        if tag == "type":
            return f"type {_named(key)}", self.types[value]
        interface = self.interfaces[value["id"]]
        if key == f"interface-{value['id']}" and interface.name:
            return interface.name, interface
        return _named(key), replace(interface, name=key)


def _members(kind: Any) -> dict[str, Notes]:
    if not isinstance(kind, dict):
        return {}
    lists = [v for found in kind.values() if isinstance(found, dict) for v in found.values() if isinstance(v, list)]
    members = {m["name"]: _notes(m) for found in lists for m in found if isinstance(m, dict)}
    return {name: notes for name, notes in members.items() if notes != Notes()}
