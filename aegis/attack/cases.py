"""Test cases of the ABI fuzzer as data, and the component of a test case as text.

Its core code violates the canonical ABI: it passes and returns raw values that no compiler would produce.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aegis.attack.codegen import CoreCodeBuilder, LoweredFunction, Raw, RawCall, key_of, lower_function
from aegis.attack.wat import TypeDefinitions, core_signature, needed
from aegis.bindings.index import INDEX
from aegis.wit.index import GUEST
from aegis.wit.types import Function, Interface, Resource

__all__ = ["AFTER", "ENCODINGS", "REALLOCS", "THING", "WASI", "AbiCase", "ExportCase", "PeerCase", "component_text"]

THING = Resource("thing", key=1)
"""The resource that the component defines and exports."""
WASI = tuple(row.name for row in INDEX.rows if row.place != GUEST)
"""The host interfaces that the component may import."""
REALLOCS = {
    "bump": "(local.get 4)",
    "zero": "(i32.const 0)",
    "odd": "(i32.const 1025)",
    "edge": "(i32.const 65535)",
    "beyond": "(i32.const 0x7ffffff8)",
    "last": "(i32.const -8)",
    "same": "(local.get 0)",
    "trap": "unreachable",
    "loop": "(loop $l (br $l)) unreachable",
    "grow": "(drop (memory.grow (i32.const 1))) (local.get 4)",
}
"""Behaviours of the component's ``realloc``: the expression that it returns."""
AFTER = {
    "none": None, "nothing": "", "trap": "unreachable", "loop": "(loop $l (br $l))",
    "call": "(drop (call $new (i32.const 1)))", "grow": "(drop (memory.grow (i32.const 1)))",
}  # fmt: skip
"""Code of the ``post-return`` function and of the resource's destructor; ``None`` for no ``post-return`` function."""
ENCODINGS = ("utf8", "utf16", "latin1+utf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCase:
    """An exported function: its type, the calls it makes, the raw values it returns, its ``post-return`` code."""

    function: Function
    calls: tuple[RawCall, ...] = ()
    returns: tuple[Raw, ...] = ()
    after: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCase:
    """A second component, linked to the first one, that receives its raw values and also violates the ABI."""

    returns: tuple[Raw, ...] = ()
    after: str = "none"
    realloc: str = "bump"
    encoding: str = "utf8"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiCase:
    """A component that violates the canonical ABI.

    ``host`` is the type of a function that it imports from the host or, if there is one, from the ``peer``.
    """

    exports: tuple[ExportCase, ...]
    host: Function
    wasi: tuple[str, ...] = ()
    memory: tuple[int, ...] = ()
    """Contents of the memory from address 0, as 32-bit words."""
    pages: int = 1
    realloc: str = "bump"
    dtor: str = "nothing"
    opens: bool = True
    """Whether a function first obtains all handles that the host returns without requiring one."""
    careful: bool = False
    """Whether calls use only handles that exist and pointers into memory; see :mod:`aegis.attack.codegen`."""
    encoding: str = "utf8"
    peer: PeerCase | None = None


_HOST = "aegis:attack/host"


def component_text(case: AbiCase) -> str:
    """Return the component of a test case as WebAssembly text."""
    made = _CaseComponent(case)
    lines = made.lines() if case.peer is None else _composed(case.peer, made)
    return "\n".join(("(component", *lines, ")"))


def _composed(peer: PeerCase, liar: _CaseComponent) -> Iterator[str]:
    """Yield a component that contains both: the peer receives the calls that would go to the host."""
    inner = list(liar.lines())
    yield from (line for line in liar.imports if _HOST not in line)
    yield from ("(component $peer", *_peer_lines(peer, liar.case.host), ")")
    yield from ("(component $liar", *inner, ")", "(instance $peer (instantiate $peer))")
    given = " ".join(f'(with "{name}" (instance {instance}))' for name, instance in liar.interfaces if name != _HOST)
    yield f'(instance $liar (instantiate $liar {given} (with "{_HOST}" (instance $peer))))'
    yield '(export "liar" (instance $liar))'


def _peer_lines(peer: PeerCase, function: Function) -> Iterator[str]:
    params, results = core_signature(function, lowered=False)
    after = AFTER[peer.after]
    yield from _memory_lines(peer.realloc, 1, "", "")
    yield '(core module $code (import "m" "memory" (memory 0))'
    code = " ".join(CoreCodeBuilder((), careful=False).returning(results, peer.returns))
    yield f'(func (export "call") {_typed("param", params)} {_typed("result", results)} {code})'
    if after is not None:
        yield f'(func (export "after") {_typed("param", results)} {after})'
    yield ')(core instance $code (instantiate $code (with "m" (instance $mem))))'
    types = TypeDefinitions("i")
    signature = types.function(function)
    yield from types.lines
    post = "" if after is None else '(post-return (core func $code "after"))'
    options = _options(peer.encoding)
    yield f'(func (export "call"){signature} (canon lift (core func $code "call") {options} {post}))'


def _options(encoding: str) -> str:
    return (
        f'(memory (core memory $mem "memory")) (realloc (core func $mem "realloc")) string-encoding={encoding}'
    )  # fmt: skip


def _memory_lines(realloc: str, pages: int, data: str, dtor: str) -> Iterator[str]:
    """Yield a core module with a memory and its allocator, and its instance."""
    yield f"""(core module $memory
  (memory (export "memory") {pages} 8) (global $at (mut i32) (i32.const 4096))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local i32)
    (local.set 4 (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
    {REALLOCS[realloc]})
  (func (export "dtor") (param i32) {dtor})
  {f'(data (i32.const 0) "{data}")' if data else ""})"""
    yield "(core instance $mem (instantiate $memory))"


class _CaseComponent:
    """The parts of one component, in order: imports, memory, resource, lowered functions, code, exports."""

    def __init__(self, case: AbiCase) -> None:
        self.case = case
        self.imports: list[str] = []
        self.interfaces: list[tuple[str, str]] = []
        """Names of the imported interfaces, each with its identifier in the text."""
        self.lowered: list[LoweredFunction] = []
        self.host_functions: set[str] = set()
        """Names of the lowered functions of the interface ``aegis:attack/host``."""
        self.definitions: list[str] = []
        self.resources: dict[tuple[str, str], str] = {}

    def lines(self) -> Iterator[str]:
        for interface in needed(self.case.wasi):
            self._import(interface)
        self._import(Interface(_HOST, {"call": self.case.host}))
        yield from self.imports
        yield from self._memory()
        thing = key_of(THING)
        self._builtin("resource.new", "$thing", LoweredFunction("$new", ["i32"], ["i32"], gives=thing))
        self._builtin("resource.rep", "$thing", LoweredFunction("$rep", ["i32"], ["i32"], takes=(thing,)))
        self._builtin("resource.drop", "$thing", LoweredFunction("$drop", ["i32"], [], takes=(thing,)))
        for number, (key, reference) in enumerate(self.resources.items()):
            self._builtin("resource.drop", reference, LoweredFunction(f"$drop{number}", ["i32"], [], takes=(key,)))
        yield from self.definitions
        yield from self._code()
        yield from self._exports()

    def _import(self, interface: Interface) -> None:
        """Import an interface, alias its resources, and lower its functions."""
        number = len(self.imports)
        types = TypeDefinitions("i", self.resources)
        found = (of for of in interface.types.values() if isinstance(of, Resource) and of.owner == interface.name)
        own = list({of.name: of for of in found}.values())  # an interface may list a resource under several names
        for resource in own:
            types.declare(resource)
        functions = [f'(export "{n}" (func{types.function(f)}))' for n, f in interface.functions.items()]
        body = " ".join([*types.lines, *functions])
        self.interfaces.append((interface.name, f"$w{number}"))
        self.imports.append(f'(import "{interface.name}" (instance $w{number} {body}))')
        for resource in own:
            reference = f"$w{number}-{resource.name}"
            self.imports.append(f'(alias export $w{number} "{resource.name}" (type {reference}))')
            self.resources[interface.name, resource.name] = reference
        for name, function in interface.functions.items():
            made = lower_function(f"$f{len(self.lowered)}", function)
            self.lowered.append(made)
            if interface.name == _HOST:
                self.host_functions.add(made.name)
            self.definitions.append(
                f'(core func {made.name} (canon lower (func $w{number} "{name}") {self._options()}))'
            )

    def _builtin(self, builtin: str, of: str, made: LoweredFunction) -> None:
        """Define a canonical built-in of a resource: ``resource.new``, ``resource.rep`` or ``resource.drop``."""
        self.lowered.append(made)
        self.definitions.append(f"(core func {made.name} (canon {builtin} {of}))")

    def _options(self) -> str:
        return _options(self.case.encoding)

    def _memory(self) -> Iterator[str]:
        case = self.case
        data = "".join(f"\\{byte:02x}" for byte in b"".join(struct.pack("<I", w & 0xFFFF_FFFF) for w in case.memory))
        dtor = AFTER[case.dtor] if case.dtor not in ("none", "call") else ""
        yield from _memory_lines(case.realloc, case.pages, data, dtor or "")
        yield '(type $thing (resource (rep i32) (dtor (core func $mem "dtor"))))'

    def _code(self) -> Iterator[str]:
        """Yield the core module whose functions violate the ABI, and its instance."""
        wanted = [
            f'(import "h" "{f.name}" (func {f.name} {_typed("param", f.params)} {_typed("result", f.results)}))'
            for f in self.lowered
        ]
        bodies = [body for number, exported in enumerate(self.case.exports) for body in self._bodies(number, exported)]
        yield '(core module $code (import "m" "memory" (memory 0))'
        yield from (*wanted, *bodies, ")")
        given = " ".join(f'(export "{f.name}" (func {f.name}))' for f in self.lowered)
        yield (
            f'(core instance $code (instantiate $code (with "m" (instance $mem)) (with "h" (instance {given}))))'
        )  # fmt: skip

    def _bodies(self, number: int, exported: ExportCase) -> Iterator[str]:
        params, results = core_signature(exported.function, lowered=False)
        # With a peer, call nothing but the peer: results are compared with and without the host, which must not differ
        # because of the host's own state.
        functions = [f for f in self.lowered if f.name in self.host_functions] if self.case.peer else self.lowered
        body = CoreCodeBuilder(functions, careful=self.case.careful)
        if exported.calls and self.case.opens:
            body.open()
        for call in exported.calls:
            body.perform(call)
        code = " ".join(body.returning(results, exported.returns))
        yield f'(func (export "f{number}") {_typed("param", params)} {_typed("result", results)} {code})'
        after = AFTER[exported.after]
        if after is not None:
            yield f'(func (export "after{number}") {_typed("param", results)} {after})'

    def _exports(self) -> Iterator[str]:
        yield '(export $thing-out "thing" (type $thing))'
        types = TypeDefinitions("e")
        types.give(THING, "$thing-out")
        functions = []
        for number, exported in enumerate(self.case.exports):
            after = f'(post-return (core func $code "after{number}"))' if AFTER[exported.after] is not None else ""
            functions.append(
                f'(func (export "f{number}"){types.function(exported.function)} '
                f'(canon lift (core func $code "f{number}") {self._options()} {after}))'
            )
        yield from (*types.lines, *functions)


def _typed(keyword: str, kinds: Sequence[str]) -> str:
    return f"({keyword} {' '.join(kinds)})" if kinds else ""
