"""Lies as data, and the component that tells one: core code that does with the canonical ABI what it should not."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aegis.attack.codegen import Act, Body, Lowered, Raw, key_of, lowered
from aegis.attack.wat import Types, core_signature, needed
from aegis.bindings.index import INDEX
from aegis.wit.index import GUEST
from aegis.wit.types import Function, Interface, Resource

__all__ = ["AFTER", "ENCODINGS", "REALLOCS", "THING", "WASI", "Lie", "Listener", "Told", "text_of"]

THING = Resource("thing", key=1)
"""The resource of its own."""
WASI = tuple(row.name for row in INDEX.rows if row.place != GUEST)
"""Interfaces of the host's that it may call."""
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
"""What its allocator does."""
AFTER = {
    "none": None, "nothing": "", "trap": "unreachable", "loop": "(loop $l (br $l))",
    "call": "(drop (call $new (i32.const 1)))", "grow": "(drop (memory.grow (i32.const 1)))",
}  # fmt: skip
"""What is done after it returned, and when a thing is dropped."""
ENCODINGS = ("utf8", "utf16", "latin1+utf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One function that it exports: its type, what it does, and the raw values that it returns."""

    function: Function
    acts: tuple[Act, ...] = ()
    returns: tuple[Raw, ...] = ()
    after: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A component that a lie is told to inside the same component, and that lies itself."""

    returns: tuple[Raw, ...] = ()
    after: str = "none"
    realloc: str = "bump"
    encoding: str = "utf8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """A component that lies. ``host`` is the type of a function that it imports from nobody in particular, or from
    another component, the ``listener``, beside it."""

    told: tuple[Told, ...]
    host: Function
    wasi: tuple[str, ...] = ()
    memory: tuple[int, ...] = ()
    """Its memory from address 0 on, as 32-bit words."""
    pages: int = 1
    realloc: str = "bump"
    dtor: str = "nothing"
    opens: bool = True
    """Whether it first gets the handles that the host gives to whoever asks."""
    careful: bool = False
    """Whether it calls only what it has the handles for, with pointers that lie in memory."""
    encoding: str = "utf8"
    listener: Listener | None = None


_HOST = "aegis:attack/host"


def text_of(lie: Lie) -> str:
    """Return the component of a lie as text."""
    made = _Component(lie)
    lines = made.lines() if lie.listener is None else _composed(lie.listener, made)
    return "\n".join(("(component", *lines, ")"))


def _composed(listener: Listener, liar: _Component) -> Iterator[str]:
    """Yield a component of two: what the liar hands to the host, the listener hears in its stead."""
    inner = list(liar.lines())
    yield from (line for line in liar.imports if _HOST not in line)
    yield from ("(component $listener", *_listener_lines(listener, liar.lie.host), ")")
    yield from ("(component $liar", *inner, ")", "(instance $listener (instantiate $listener))")
    given = " ".join(f'(with "{name}" (instance {instance}))' for name, instance in liar.interfaces if name != _HOST)
    yield f'(instance $liar (instantiate $liar {given} (with "{_HOST}" (instance $listener))))'
    yield '(export "liar" (instance $liar))'


def _listener_lines(listener: Listener, function: Function) -> Iterator[str]:
    params, results = core_signature(function, lowered=False)
    after = AFTER[listener.after]
    yield from _memory_lines(listener.realloc, 1, "", "")
    yield '(core module $code (import "m" "memory" (memory 0))'
    code = " ".join(Body((), careful=False).returning(results, listener.returns))
    yield f'(func (export "call") {_typed("param", params)} {_typed("result", results)} {code})'
    if after is not None:
        yield f'(func (export "after") {_typed("param", results)} {after})'
    yield ')(core instance $code (instantiate $code (with "m" (instance $mem))))'
    types = Types("i")
    signature = types.function(function)
    yield from types.lines
    post = "" if after is None else '(post-return (core func $code "after"))'
    options = _options(listener.encoding)
    yield f'(func (export "call"){signature} (canon lift (core func $code "call") {options} {post}))'


def _options(encoding: str) -> str:
    return (
        f'(memory (core memory $mem "memory")) (realloc (core func $mem "realloc")) string-encoding={encoding}'
    )  # fmt: skip


def _memory_lines(realloc: str, pages: int, data: str, dtor: str) -> Iterator[str]:
    """Yield the module of a memory and its allocator, and its instance."""
    yield f"""(core module $memory
  (memory (export "memory") {pages} 8) (global $at (mut i32) (i32.const 4096))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local i32)
    (local.set 4 (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
    {REALLOCS[realloc]})
  (func (export "dtor") (param i32) {dtor})
  {f'(data (i32.const 0) "{data}")' if data else ""})"""
    yield "(core instance $mem (instantiate $memory))"


class _Component:
    """The parts of one component, in order: imports, memory, resource, lowered functions, code, exports."""

    def __init__(self, lie: Lie) -> None:
        self.lie = lie
        self.imports: list[str] = []
        self.interfaces: list[tuple[str, str]] = []
        """Imported interfaces, with what refers to each."""
        self.lowered: list[Lowered] = []
        self.heard: set[str] = set()
        """Names of the lowered functions of the host that is nobody in particular."""
        self.definitions: list[str] = []
        self.resources: dict[tuple[str, str], str] = {}

    def lines(self) -> Iterator[str]:
        for interface in needed(self.lie.wasi):
            self._import(interface)
        self._import(Interface(_HOST, {"call": self.lie.host}))
        yield from self.imports
        yield from self._memory()
        thing = key_of(THING)
        self._builtin("resource.new", "$thing", Lowered("$new", ["i32"], ["i32"], gives=thing))
        self._builtin("resource.rep", "$thing", Lowered("$rep", ["i32"], ["i32"], takes=(thing,)))
        self._builtin("resource.drop", "$thing", Lowered("$drop", ["i32"], [], takes=(thing,)))
        for number, (key, reference) in enumerate(self.resources.items()):
            self._builtin("resource.drop", reference, Lowered(f"$drop{number}", ["i32"], [], takes=(key,)))
        yield from self.definitions
        yield from self._code()
        yield from self._exports()

    def _import(self, interface: Interface) -> None:
        """Import an interface of the host's, alias its resources, and lower its functions."""
        number = len(self.imports)
        types = Types("i", self.resources)
        found = (of for of in interface.types.values() if isinstance(of, Resource) and of.owner == interface.name)
        own = list({of.name: of for of in found}.values())  # some have several names
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
            made = lowered(f"$f{len(self.lowered)}", function)
            self.lowered.append(made)
            if interface.name == _HOST:
                self.heard.add(made.name)
            self.definitions.append(
                f'(core func {made.name} (canon lower (func $w{number} "{name}") {self._options()}))'
            )

    def _builtin(self, what: str, of: str, made: Lowered) -> None:
        """Let the code make, look into or drop a handle."""
        self.lowered.append(made)
        self.definitions.append(f"(core func {made.name} (canon {what} {of}))")

    def _options(self) -> str:
        return _options(self.lie.encoding)

    def _memory(self) -> Iterator[str]:
        lie = self.lie
        data = "".join(f"\\{byte:02x}" for byte in b"".join(struct.pack("<I", w & 0xFFFF_FFFF) for w in lie.memory))
        dtor = AFTER[lie.dtor] if lie.dtor not in ("none", "call") else ""
        yield from _memory_lines(lie.realloc, lie.pages, data, dtor or "")
        yield '(type $thing (resource (rep i32) (dtor (core func $mem "dtor"))))'

    def _code(self) -> Iterator[str]:
        """Yield the module whose functions do and return what they should not, and its instance."""
        wanted = [
            f'(import "h" "{f.name}" (func {f.name} {_typed("param", f.params)} {_typed("result", f.results)}))'
            for f in self.lowered
        ]
        bodies = [body for number, told in enumerate(self.lie.told) for body in self._bodies(number, told)]
        yield '(core module $code (import "m" "memory" (memory 0))'
        yield from (*wanted, *bodies, ")")
        given = " ".join(f'(export "{f.name}" (func {f.name}))' for f in self.lowered)
        yield (
            f'(core instance $code (instantiate $code (with "m" (instance $mem)) (with "h" (instance {given}))))'
        )  # fmt: skip

    def _bodies(self, number: int, told: Told) -> Iterator[str]:
        params, results = core_signature(told.function, lowered=False)
        # Told to another component, the lie is all that there is to be heard.
        functions = [f for f in self.lowered if f.name in self.heard] if self.lie.listener else self.lowered
        body = Body(functions, careful=self.lie.careful)
        if told.acts and self.lie.opens:
            body.open()
        for act in told.acts:
            body.act(act)
        code = " ".join(body.returning(results, told.returns))
        yield f'(func (export "f{number}") {_typed("param", params)} {_typed("result", results)} {code})'
        after = AFTER[told.after]
        if after is not None:
            yield f'(func (export "after{number}") {_typed("param", results)} {after})'

    def _exports(self) -> Iterator[str]:
        yield '(export $thing-out "thing" (type $thing))'
        types = Types("e")
        types.give(THING, "$thing-out")
        functions = []
        for number, told in enumerate(self.lie.told):
            after = f'(post-return (core func $code "after{number}"))' if AFTER[told.after] is not None else ""
            functions.append(
                f'(func (export "f{number}"){types.function(told.function)} '
                f'(canon lift (core func $code "f{number}") {self._options()} {after}))'
            )
        yield from (*types.lines, *functions)


def _typed(what: str, kinds: Sequence[str]) -> str:
    return f"({what} {' '.join(kinds)})" if kinds else ""
