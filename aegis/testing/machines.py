"""Resources as state machines for hypothesis: what a component exports, called in any order on the handles there are.

::

    machine = state_machine(runtime, "store.wasm", "acme:kv/store@1.2.0", bindings=acme_kv_store_exports)
    TestStore = machine.TestCase

Constructors, methods, statics and free functions are rules, and so is the drop of each resource. A handle that a call
returns, also inside a list or a record, may be given to any later call until it is dropped or moved into the guest.
Each run has a fresh sandbox. By default nothing may trap or run into a limit; ``checks`` and subclasses ask for more.
The sequence that fails is shrunk by hypothesis and told as Python that runs, against the bindings if they are given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aegis.component.planning.world import interface_named
from aegis.errors import AegisError, CapabilityDenied, ExportNotFound, GuestExit, GuestTrap, LimitExceeded
from aegis.fuzz.stubs import NOTABLE, Answers
from aegis.fuzz.values.shape import Unfit
from aegis.observe.outcome import Outcome
from aegis.testing.members import Check, Member, Pick, World
from aegis.testing.script import Script, handles_in, replaced
from aegis.testing.strategies import from_function
from aegis.text import printable, similar_names
from aegis.wit.naming import pascal, snake
from aegis.wit.results import outcome_value
from aegis.wit.types import Borrow, Function, Interface, Own, Resource, Result, WitType, children
from aegis.wit.values import Err

if TYPE_CHECKING:
    from types import ModuleType

    from aegis.component.planning.artifact import Component
    from aegis.runtime import Aegis

__all__ = ["Check", "Machine", "state_machine"]

_BUDGET = 256
_RECENT = 15
"""A handle is drawn by its place from the end, where those are that were used last: what came between them, above all
handles that nobody used, can then be left out without changing which it is."""
_GOOD = (GuestExit, CapabilityDenied)
"""Ends of a guest that nobody objects to by default."""
_ENDS = (*_GOOD, GuestTrap, LimitExceeded)


class Machine(RuleBasedStateMachine):
    """The base of the machines that :func:`state_machine` makes. Subclass one of those for invariants of your own.

    ``sandbox`` is this run's, ``api`` what its functions are attributes of, ``live`` the handles there are by resource,
    the one that was used last at the end.
    Hypothesis is not asked to explain failures: the lines that it would name are the host's, not the guest's.
    """

    world: ClassVar[World]
    left_out: ClassVar[dict[str, str]]
    """Functions that cannot be called, and why."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        test: Any = cls.TestCase
        test.settings = settings(test.settings, phases=[phase for phase in Phase if phase is not Phase.explain])

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        """Whether the guest has ended: its remaining steps do nothing."""
        self.live: dict[str, list[Any]] = {}
        self._names: dict[int, str] = {}
        self._used: set[int] = set()
        self._count: dict[str, int] = {}
        self._numbers: Sequence[int] = ()
        self._script = Script(typed=self.world.bindings is not None)
        self._latest = 0
        self.sandbox: Any = None
        if self.world.answers is None:
            self._open(self.world.imports)

    def judge(self, function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
        """Object to how a call ended, by raising ``AssertionError``: here to traps and limits, then as checks do."""
        assert outcome.error is None or isinstance(outcome.error, _GOOD), f"{function}: {outcome.error}"
        for check in self.world.checks:
            assert check(function, arguments, outcome) is not False, f"{function}: {_named(check)} objects"

    def script(self) -> str:
        """Return what was done in this run so far as Python that does it again."""
        return self._script.text(self.world.head(self._script, self._numbers))

    def teardown(self) -> None:
        """Drop the handles that are left, the latest first, and close the sandbox."""
        try:
            if sys.exc_info()[0] is None and not self.ended:
                for resource, handles in self.live.items():
                    while handles and not self.ended:
                        self._drop(resource, 0)
        finally:
            if self.sandbox is not None:
                self.sandbox.close()

    # -- steps ---------------------------------------------------------------------------------

    def _open(self, imports: Mapping[str, Any] | None) -> None:
        world = self.world
        try:
            self.sandbox = world.runtime.sandbox(world.component, imports=imports)
        except _ENDS as error:
            self._judged("instantiation", (), Outcome.from_error(error))
            return
        self.api = world.api(self.sandbox)

    def _answered(self, numbers: Sequence[int]) -> None:
        assert self.world.answers is not None
        self._numbers = numbers
        self._open(self.world.answers.plan(numbers))

    def _step(self, member: Member, drawn: Sequence[Any]) -> None:
        self._latest = len(self._script.lines)
        if self.ended:
            return
        types = [of for _, of in member.type.params]
        used: list[Any] = []
        moved: list[Any] = []
        try:
            arguments = [
                replaced(value, of, lambda pick: self._picked(pick, used, moved))
                for value, of in zip(drawn, types, strict=True)
            ]
        except LookupError:  # not as many handles as it takes
            return
        for handles in self.live.values():
            recent = [handle for handle in used if any(handle is one for one in handles)]
            rest = [handle for handle in handles if not any(handle is one for one in used)]
            handles[:] = [*rest, *(h for n, h in enumerate(recent) if not any(h is o for o in (*moved, *recent[:n])))]
        self._used.update(map(id, used))
        texts = [self._script.value(a, of, self._names) for a, of in zip(arguments, types, strict=True)]
        self._call(member, arguments, *self._bound(member, arguments, texts))

    def _bound(self, member: Member, arguments: Sequence[Any], texts: Sequence[str]) -> tuple[Callable[..., Any], str]:
        """Return what calls a member, and the call as text."""
        if not (self.world.interface or self.world.bindings):
            return self.api[member.name], f"api[{member.name!r}]({', '.join(texts)})"
        owner, name, given = (arguments[0], texts[0], texts[1:]) if member.method else (self.api, "api", texts)
        return attrgetter(member.python)(owner), f"{name}.{member.python}({', '.join(given)})"

    def _picked(self, pick: Any, used: list[Any], moved: list[Any]) -> Any:
        if not isinstance(pick, Pick):
            return pick  # a handle of the user's own, by an override
        out = used if isinstance(pick.of, Own) else moved
        found = [h for h in self.live.get(_key(pick.of.resource), ()) if not any(h is one for one in out)]
        if not found:
            raise LookupError
        handle = found[_place(pick.number, found)]
        used.append(handle)
        if isinstance(pick.of, Own):
            moved.append(handle)
        return handle

    def _call(self, member: Member, arguments: Sequence[Any], function: Callable[..., Any], text: str) -> None:
        # The judgement comes after the handlers: hypothesis tells failures apart by their contexts too, and where in
        # Aegis a guest's end was noticed makes no difference.
        outcome = self._ended(member, arguments, function, text)
        self._judged(member.name, arguments, outcome)

    def _ended(self, member: Member, arguments: Sequence[Any], function: Callable[..., Any], text: str) -> Outcome:
        """Call, write the call down, and return how it ended."""
        try:
            value = function(*(arguments[1:] if member.method else arguments))
        except Err as declared:
            self._script.need("contextlib", "suppress")
            self._script.need("aegis", "Err")
            self._script.lines += ["with suppress(Err):", f"    {text}  # {_comment(declared)}"]
            return Outcome(value=declared, usage=self.sandbox.usage)
        except _ENDS as error:
            self._script.lines.append(f"{text}  # {error.kind}: {_comment(error)}")
            return Outcome.from_error(error, usage=self.sandbox.usage)
        except AegisError as error:
            self._script.lines.append(f"{text}  # {error.kind}: {_comment(error)}")
            error.add_note(self.script())
            raise
        else:
            self._kept(value, member.type.result, text)
            told = outcome_value(member.type.result, value)
            return Outcome(value=told, usage=self.sandbox.usage)

    def _kept(self, value: Any, of: WitType | None, text: str) -> None:
        """Keep the handles that a call returned, and give them names."""
        result = of.ok if isinstance(of, Result) else of
        found = list(handles_in(value, result))
        if not found:
            self._script.lines.append(text)
            return
        whole = "" if found[0][0] == "" else self._new("result")
        if whole:
            self._script.lines.append(f"{whole} = {text}")
        for path, handle, own in found:
            name = self._new(snake(own.resource.name))
            self._script.lines.append(f"{name} = {whole}{path}" if whole else f"{name} = {text}")
            handles = self.live.setdefault(_key(own.resource), [])
            handles.insert(sum(id(h) not in self._used for h in handles), handle)
            self._names[id(handle)] = name

    def _new(self, kind: str) -> str:
        self._count[kind] = self._count.get(kind, 0) + 1
        return f"{kind}_{self._count[kind]}"

    def _drop(self, resource: str, number: int) -> None:
        self._latest = len(self._script.lines)
        handles = self.live.get(resource, [])
        if self.ended or not handles:
            return
        handle = handles.pop(_place(number, handles))
        text = f"{self._names[id(handle)]}.drop()"
        drop = Member(f"drop {resource.partition('#')[0]}", Function())
        self._call(drop, (), handle.drop, text)

    def _judged(self, function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
        self.ended = outcome.status != "returned"
        try:
            self.judge(function, arguments, outcome)
        except AssertionError as objection:
            self.ended = True
            raise AssertionError(f"{objection}\n\n{self.script()}") from None

    def _has(self, resources: Sequence[str]) -> bool:
        return all(self.live.get(resource) for resource in resources)

    def _repr_step(self, rule: Any, data: Any, result: Any) -> str:
        """Hypothesis prints a step as this: the Python that it was."""
        return "\n".join(self._script.lines[self._latest :]) or f"# {rule.function.__name__}: nothing to call it with"


def _place(number: int, handles: Sequence[Any]) -> int:
    return -1 - number % len(handles)


def _comment(error: BaseException) -> str:
    return printable(str(error), 120)


def _named(check: Check) -> str:
    return getattr(check, "__name__", type(check).__name__)


def _key(resource: Resource) -> str:
    return f"{resource.name}#{resource.key}"


# -- making one --------------------------------------------------------------------------------------------


def state_machine(
    runtime: Aegis,
    component: Component | str | os.PathLike[str],
    interface: str = "",
    *,
    bindings: ModuleType | None = None,
    overrides: Mapping[Any, st.SearchStrategy[Any]] | None = None,
    imports: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
    budget: int = _BUDGET,
) -> type[Machine]:
    """Return the state machine of an interface that a component exports; its version may be left out.

    Without ``interface`` it is that of ``bindings``, a generated module with its table ``INTERFACE``, or the world's
    own functions. ``component`` may be a path, which the script then loads. ``overrides`` are those of
    :mod:`~aegis.testing.strategies`. ``imports`` provides what the component imports; without, what nobody provides
    answers by drawn numbers (:class:`~aegis.fuzz.stubs.Answers`). ``budget`` bounds the size of each call's
    arguments. Functions that cannot be called are in the class's ``left_out``; raise
    :class:`~aegis.errors.ExportNotFound` for an interface that is not exported, and ``Unfit`` when nothing is left.
    """
    path = None if not isinstance(component, (str, os.PathLike)) else os.fspath(component)
    loaded: Any = component if path is None else runtime.load_file(path)
    full, functions = _functions(loaded, interface, bindings)
    answers = Answers(loaded) if imports is None else None
    world = World(
        runtime=runtime, component=loaded, path=path, interface=full, bindings=bindings, imports=imports,
        answers=answers if answers is not None and answers.plan(()) else None, checks=tuple(checks),
    )  # fmt: skip
    body: dict[str, Any] = {"world": world, "left_out": {}, "__doc__": f"Drives {full or 'the world'} in any order."}
    given = {_key(own.resource) for f in functions.values() for own in _owned(f.result)}
    for name, function in functions.items():
        member = Member(name, function)
        try:
            body[member.rule] = _rule(member, given, full, overrides or {}, budget)
        except Unfit as reason:
            body["left_out"][name] = str(reason)
    if len(body["left_out"]) == len(functions):
        reasons = "; ".join(f"{printable(name)}: {reason}" for name, reason in list(body["left_out"].items())[:3])
        raise Unfit(
            f"{printable(full) or 'the world'} has no function that can be called{': ' * bool(reasons)}{reasons}"
        )
    for resource in given:
        body[f"drop_{snake(resource.partition('#')[0])}"] = _dropping(resource)
    if world.answers is not None:
        body["answer_imports"] = _answering()
    return type(pascal(full.partition("@")[0].rpartition("/")[2] or "world"), (Machine,), body)


def _functions(component: Any, interface: str, bindings: ModuleType | None) -> tuple[str, dict[str, Function]]:
    """Return an interface's full name and its functions, with the classes that their values have."""
    if bindings is not None:
        table: Interface = bindings.INTERFACE
        return table.name, dict(table.functions)
    if not interface:
        own = {name: of for name, of in component.exports.items() if isinstance(of, Function) and name[0] != "["}
        return "", {name: component.with_python_types(of) for name, of in own.items()}
    full = interface_named(component.exports, interface)
    found = None if full is None else component.exports[full]
    if not isinstance(found, Interface):
        alike = similar_names(interface, component.exports, 1)
        hint = "".join(f"; did you mean {printable(n)}?" for n in alike)
        raise ExportNotFound(f"no interface is called {printable(interface)!r}{hint}", name=interface, near=alike)
    assert full is not None
    return full, {name: component.with_python_types(of) for name, of in found.functions.items()}


def _owned(of: WitType | None) -> list[Own]:
    if of is None:
        return []
    return [of] if isinstance(of, Own) else [own for child in children(of) for own in _owned(child)]


def _handles(of: WitType) -> list[Own | Borrow]:
    return [of] if isinstance(of, (Own, Borrow)) else [own for child in children(of) for own in _handles(child)]


def _rule(
    member: Member, given: set[str], interface: str, overrides: Mapping[Any, Any], budget: int
) -> Callable[..., None]:
    picks: dict[Any, Any] = {}
    for _, of in member.type.params:
        for handle in _handles(of):
            if _key(handle.resource) in given:
                picks[handle] = st.integers(0, _RECENT).map(_picking(handle))
    name = f"{interface}#{member.name}" if interface else member.name
    drawn = from_function(member.type, {**picks, **overrides}, name=name, budget=budget)
    needed = [_key(of.resource) for _, of in member.type.params if isinstance(of, (Own, Borrow)) and of in picks]

    def step(self: Machine, arguments: tuple[Any, ...]) -> None:
        self._step(member, arguments)

    step.__name__ = step.__qualname__ = member.rule
    made: Any = rule(arguments=drawn)(step)
    return precondition(lambda self: self._has(needed))(made) if needed else made  # type: ignore[no-any-return]


def _picking(of: Own | Borrow) -> Callable[[int], Pick]:
    return lambda number: Pick(of, number)


def _dropping(resource: str) -> Any:
    def drop(self: Machine, number: int) -> None:
        self._drop(resource, number)

    drop.__name__ = drop.__qualname__ = f"drop_{snake(resource.partition('#')[0])}"
    return precondition(lambda self: self._has([resource]))(rule(number=st.integers(0, _RECENT))(drop))


def _answering() -> Any:
    def answer_imports(self: Machine, numbers: list[int]) -> None:
        self._answered(numbers)

    return initialize(numbers=st.lists(st.integers(0, NOTABLE - 1), max_size=6))(answer_imports)
