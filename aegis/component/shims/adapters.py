"""Links: direct calls between the instances of one component, without the host.

A call from one component instance to another uses an adapter in WebAssembly
(:mod:`aegis.component.shims.adapter_text`) unless its types contain handles. The adapters that one core module imports
form one adapter module. The store instantiates it immediately before that core module, when everything that the
adapters refer to exists. A program with links is thus an ordinary program with additional steps, renumbered; no other
code of linking and calling knows about links. The first step instantiates the flags module. If an adapter would only
call the lifted function, the core module imports the lifted function itself.

The globals of the flags module hold the may-leave and may-enter flags of the linked component instances. Adapters
access them directly; the host accesses them through the attributes of :class:`LinkedInstance`. A flag is maintained
only if it can ever be clear when it is checked:

* May-leave: the instance calls other functions, and has a realloc or post-return function that is called.
* May-enter: the instance can be entered while it is already entered. An instance can call only instances that were
  complete before it was created, so calls never form a cycle, unless an instance calls its parent or an ancestor, or
  drops a resource of one. A component with such a call maintains the flag of every instance that a link enters.

There are no links if fuel is counted, because adapters would consume it, and none in workers, which have little memory
for compiling. Data that passes through a link uses no host memory, so it counts towards neither ``host_bytes`` nor
``value_bytes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.component.conversion.layout import has_handles
from aegis.component.planning.program import (
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreItem,
    CoreStep,
    Imported,
    Options,
    Trampoline,
)
from aegis.component.shims.adapter_module import FLAGS, AdapterModule, LineBudget, flags_text
from aegis.component.shims.adapter_text import Link, needs_adapter, write_adapter
from aegis.component.shims.entering import can_reenter, entering_set, is_async, restricted
from aegis.component.shims.linked import LinkedInstance
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.code import NativeCode, UnfitForPool
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.own_module import OwnModule
from aegis.errors import ArtifactError
from aegis.wasm.digest import sha256_hex

if TYPE_CHECKING:
    from aegis.component.state import ComponentState
    from aegis.engine.compile.cache import Cache
    from aegis.limits import Limits

__all__ = ["Links", "adapter_texts", "links_of"]

_MAX_LINKS = 1_000
"""Links of a component; one with more has none, and its calls go through the host."""


class _CachedModule(OwnModule):
    """A compiled adapter module; its code is cached on disk as that of guests is."""

    def __init__(self, data: bytes, cache: Cache | None, limits: Limits) -> None:
        super().__init__(data)
        self.digest, self._cache, self._limits = sha256_hex(data), cache, limits


class Links(NamedTuple):
    """A program with links.

    ``parts`` maps module numbers to the code of adapter modules, ``steps`` maps each old step to its new number.
    ``leaves`` and ``enters`` are the instances whose may-leave and may-enter flags are globals.
    """

    program: ComponentProgram
    parts: Mapping[int, NativeCode]
    steps: tuple[int, ...]
    leaves: frozenset[int]
    enters: frozenset[int]

    @property
    def instances(self) -> int:
        """The number of adapter module instances that a store creates."""
        return len(self.parts)

    def attach(self, state: ComponentState) -> None:
        """Make the component instances of a new store keep their flags in the globals that adapters use."""
        instances = state.handles.instances
        for n in self.leaves | self.enters:
            instances[n] = LinkedInstance(state, n, n in self.leaves, n in self.enters)


# -- which calls are linked ------------------------------------------------------------------------


def _linkable(of: object) -> bool:
    """Return whether a trampoline is a call between two component instances that passes no handles.

    Its core items must be exports, because an adapter cannot import a trampoline of the host.
    """
    if not isinstance(of, CanonLower) or not isinstance(of.function, CanonLift):
        return False
    lifted, outer = of.function, of.options
    if lifted.instance == of.instance:
        return False  # the host's trampoline handles it: such a call always traps, since the instance is entered
    result = lifted.type.result
    types = [t for _, t in lifted.type.params] + ([] if result is None else [result])
    items = (lifted.core, lifted.options.realloc, lifted.options.post_return, outer.realloc)
    return not any(map(has_handles, types)) and not any(isinstance(item, int) for item in items)


def _items(link: Link) -> list[CoreExport]:
    """Return the core exports that the link's adapter may import."""
    inner, outer = link.lifted.options, link.lowered.options
    found = (link.lifted.core, inner.memory, inner.realloc, inner.post_return, outer.memory, outer.realloc)
    return [item for item in found if isinstance(item, CoreExport)]


def _leaving(program: ComponentProgram, links: Sequence[Link]) -> frozenset[int]:
    """Return the linked instances whose may-leave flag can be clear when a call leaves them."""
    concerned = {n for link in links for n in (link.lowered.instance, link.lifted.instance)}
    return frozenset(concerned & {of.instance for of in program.trampolines} & restricted(program))


class _Group(NamedTuple):
    """The adapter module instantiated before the step ``step``, whose core module is the first to import its links."""

    step: int
    module: AdapterModule
    links: list[Link]


class _Adapters(NamedTuple):
    """The calls of a program that bypass the host.

    ``direct`` maps trampolines to the lifted functions that core modules import instead.
    """

    groups: list[_Group]
    direct: dict[int, CoreExport]
    leaves: frozenset[int]
    enters: frozenset[int]


def _adapters(program: ComponentProgram) -> _Adapters:
    """Write all adapters, in the order of the steps that import them, and determine which flags they maintain."""
    linkable = {n: of for n, of in enumerate(program.trampolines) if _linkable(of)}
    if len(linkable) > _MAX_LINKS:
        linkable = {}
    reenters = bool(linkable) and can_reenter(program)
    links = {}
    for n, of in linkable.items():
        assert isinstance(of, CanonLower)
        assert isinstance(of.function, CanonLift)
        entering = entering_set(program, of.function.instance, of.instance) if reenters else ()
        links[n] = Link(n, of, of.function, entering)
    made = _Adapters([], {}, _leaving(program, list(links.values())), frozenset())
    budget = LineBudget()
    for number, step in enumerate(program.steps):
        group = _Group(number, AdapterModule(budget), [])
        for item in step.imports:
            link = links.pop(item, None) if isinstance(item, int) else None
            if link is None or any(needed.step >= number for needed in _items(link)):
                continue
            if needs_adapter(link, made.leaves):
                if group.module.attempt(partial(write_adapter, link=link, leaves=made.leaves)):
                    group.links.append(link)
            elif isinstance(link.lifted.core, CoreExport):
                made.direct[link.trampoline] = link.lifted.core
        if group.links:
            made.groups.append(group)
    return made._replace(enters=frozenset(n for group in made.groups for link in group.links for n in link.entering))


def adapter_texts(program: ComponentProgram) -> list[str]:
    """Return the text of each adapter module of a program."""
    return [group.module.text() for group in _adapters(program).groups]


# -- the program with links ------------------------------------------------------------------------


def links_of(program: ComponentProgram, config: EngineConfig, kept_as: tuple[Cache | None, Limits]) -> Links | None:
    """Create the links of a program for one configuration; return ``None`` if it has none.

    ``kept_as`` are the cache and the compile limits of the component's code.
    """
    if config.fuel or not config.epochs or config.heap or is_async(program):
        return None  # with exceptions, calls go through the host: an exception must not reach the caller's handlers
    try:
        return _make(program, config, kept_as)
    except (ArtifactError, UnfitForPool):
        return None  # the engine rejected an adapter module: calls go through the host


def _make(program: ComponentProgram, config: EngineConfig, kept_as: tuple[Cache | None, Limits]) -> Links | None:
    made = _adapters(program)
    if not made.groups and not made.direct:
        return None
    texts = [group.module.text() for group in made.groups]
    if texts:
        texts.insert(0, flags_text(sorted(made.leaves), sorted(made.enters)))
    modules = [_CachedModule(text_to_binary(text, "adapters"), *kept_as) for text in texts]
    parts = {len(program.modules) + n: module.code(config) for n, module in enumerate(modules)}
    linked, steps = _numbered_anew(program, made)
    return Links(linked, parts, steps, made.leaves, made.enters)


def _numbered_anew(program: ComponentProgram, made: _Adapters) -> tuple[ComponentProgram, tuple[int, ...]]:
    """Return the program with the steps of its adapter modules inserted, and the new number of each old step."""
    groups = {group.step: n for n, group in enumerate(made.groups)}
    steps, count = [], 1 if groups else 0
    for number in range(len(program.steps)):
        count += number in groups
        steps.append(count)
        count += 1
    move = _StepRenumberer(steps)
    instead = {trampoline: move.export(core) for trampoline, core in made.direct.items()}
    for group in made.groups:
        place = steps[group.step] - 1
        instead |= {link.trampoline: CoreExport(place, str(link.trampoline), "func") for link in group.links}
    first = len(program.modules)
    placed = [CoreStep(first, (), 0)] if groups else []
    for number, step in enumerate(program.steps):
        if number in groups:
            imports = map(move.export, made.groups[groups[number]].module.imports)
            placed.append(CoreStep(first + 1 + groups[number], tuple(imports), 0))
        given = [instead.get(item, item) if isinstance(item, int) else move.export(item) for item in step.imports]
        placed.append(step._replace(imports=tuple(given)))
    return move.program(program)._replace(steps=tuple(placed)), tuple(steps)


class _StepRenumberer:
    """Renumbers the steps in a program's items. A :class:`CanonLift` that was shared stays one shared object."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = steps
        self._lifted: dict[int, CanonLift] = {}

    def export(self, item: CoreExport) -> CoreExport:
        return item._replace(step=0 if item.step == FLAGS else self._steps[item.step])

    def item(self, item: CoreItem | None) -> Any:
        return self.export(item) if isinstance(item, CoreExport) else item

    def options(self, of: Options) -> Options:
        return Options(of.encoding, self.item(of.memory), self.item(of.realloc), self.item(of.post_return))

    def function(self, of: Imported | CanonLift) -> Any:
        if isinstance(of, Imported):
            return of
        made = self._lifted.get(id(of))
        if made is None:
            made = of._replace(core=self.item(of.core), options=self.options(of.options))
            self._lifted[id(of)] = made
        return made

    def trampoline(self, of: Trampoline) -> Any:
        if not isinstance(of, CanonLower):
            return of
        return of._replace(function=self.function(of.function), options=self.options(of.options))

    def exported(self, of: Any) -> Any:
        if isinstance(of, (Imported, CanonLift)):
            return self.function(of)
        return {name: self.function(function) for name, function in of.items()}

    def program(self, of: ComponentProgram) -> ComponentProgram:
        return of._replace(
            trampolines=tuple(map(self.trampoline, of.trampolines)),
            resources=tuple(r._replace(destructor=self.item(r.destructor)) for r in of.resources),
            exports={name: self.exported(item) for name, item in of.exports.items()},
        )
