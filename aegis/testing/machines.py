"""Hypothesis state machines for components: they call the exports in any order on the handles that are live.

::

    machine = state_machine(runtime, "store.wasm", "acme:kv/store@1.2.0", bindings=acme_kv_store_exports)
    TestStore = machine.TestCase

Each constructor, method, static and free function is a rule, and so is the drop of each resource. A handle that a call
returns, also inside a list or a record, can be passed to any later call until it is dropped or moved into the guest.
A stream or future that a call returns is read by later steps, in pieces of any size, closed early, or passed on.
Each run has a fresh sandbox. Some runs explore: where a call shows nothing new, a fresh sandbox
repeats the calls before it, and the run goes on from there. A subclass may have a model of the guest, so its runs do
not. By default a call that traps or exceeds a limit fails the test; ``checks`` and subclasses add invariants.
Hypothesis minimises the failing sequence, and the failure message contains it as a Python script.
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
from aegis.fuzz.stubs import NOTABLE, ImportStubs
from aegis.fuzz.values.shape import CannotGenerate
from aegis.observe.outcome import Outcome
from aegis.testing.members import Check, DrivenWorld, Member, Pick
from aegis.testing.script import PythonScript, handles_in, replaced
from aegis.testing.strategies import from_function, words_of
from aegis.testing.stream_steps import COUNTS, LiveEnd, PickEnd, ends_in, read_member, with_streams
from aegis.text import printable, similar_names
from aegis.wit.collected import collected_type
from aegis.wit.naming import pascal, snake
from aegis.wit.results import outcome_value
from aegis.wit.types import Borrow, Function, Interface, Own, Resource, Result, WitType, children, has_ends
from aegis.wit.values import Err

if TYPE_CHECKING:
    from types import ModuleType

    from aegis.component.planning.artifact import Component
    from aegis.fuzz.dictionary import Dictionary
    from aegis.runtime import Aegis

__all__ = ["Check", "Machine", "state_machine"]

_BUDGET = 256
_MAX_EXPLORING_ATTEMPTS, _MIN_EXPLORING_ATTEMPTS = 20, 3
"""Calls that are tried after one state of the guest before a run that explores goes back further."""
_MAX_EXPLORED_HANDLES = 1
"""Handles of a run that explores, with which it calls no constructor: a method of another handle says nothing new."""
_MAX_STEPS_BACK = 15
"""Handles are drawn by their index from the end of the list, where the most recently used ones are. So hypothesis can
remove an unrelated step, such as the creation of an unused handle, without changing which handle a later step uses."""
_ACCEPTED_ENDS = (GuestExit, CapabilityDenied)
"""Errors that end the guest without failing the test."""
_ENDS = (*_ACCEPTED_ENDS, GuestTrap, LimitExceeded)


class Machine(RuleBasedStateMachine):
    """Base class of the machines that :func:`state_machine` returns. Subclass a machine to add invariants.

    ``sandbox`` is the sandbox of this run. ``api`` has its functions as attributes. ``live`` maps a resource to its
    live handles, the most recently used last; ``ends`` are the open readers of streams and futures. Hypothesis' explain
    phase is disabled, because it would point at lines of the host rather than of the guest.
    """

    world: ClassVar[DrivenWorld]
    left_out: ClassVar[dict[str, str]]
    """Functions that the machine does not call, with the reason."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        test: Any = cls.TestCase
        test.settings = settings(test.settings, phases=[phase for phase in Phase if phase is not Phase.explain])

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        """Whether the guest has ended. The remaining steps then do nothing."""
        self.live: dict[str, list[Any]] = {}
        self.ends: list[LiveEnd] = []
        self._names: dict[int, str] = {}
        self._used: set[int] = set()
        self._count: dict[str, int] = {}
        self._numbers: Sequence[int] = ()
        self._script = PythonScript(typed=self.world.bindings is not None)
        self._latest = 0
        self._history: list[Callable[[], None]] = []
        """The steps of this run, to repeat them in a fresh sandbox."""
        self._marks: list[tuple[int, int]] = []
        """In a run that explores, the numbers of steps after which the guest had shown something new, and how many
        calls are tried after each."""
        self._attempts = 0
        self._explores = False
        self._undone: list[str] = []
        """Comments about the latest step, if the script does not have it."""
        self._shown: set[tuple[Any, ...]] = set()
        self.sandbox: Any = None
        if self.world.stubs is None:
            self._open(self.world.imports)

    def judge(self, function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
        """Raise ``AssertionError`` if a call trapped, exceeded a limit or failed a check. Subclasses may add rules."""
        assert outcome.error is None or isinstance(outcome.error, _ACCEPTED_ENDS), f"{function}: {outcome.error}"
        for check in self.world.checks:
            assert check(function, arguments, outcome) is not False, f"{function}: check {_named(check)} failed"

    def script(self) -> str:
        """Return the calls of this run so far as a Python script."""
        return self._script.text(self.world.head(self._script, self._numbers))

    def teardown(self) -> None:
        """Drop the remaining handles, the most recently used first, and close the sandbox."""
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
        assert self.world.stubs is not None
        self._numbers = numbers
        self._open(self.world.stubs.plan(numbers))

    def _step(self, member: Member, drawn: Sequence[Any]) -> None:
        self._latest = len(self._script.lines)
        if self.ended:
            return
        types = [of for _, of in member.type.params]
        used: list[Any] = []
        moved: list[Any] = []
        try:
            arguments = [
                replaced(value, collected_type(of), lambda pick: self._picked(pick, used, moved))
                for value, of in zip(self._passed(drawn, types), types, strict=True)
            ]
        except LookupError:  # there are fewer handles than the call needs
            return
        for handles in self.live.values():
            recent = [handle for handle in used if any(handle is one for one in handles)]
            rest = [handle for handle in handles if not any(handle is one for one in used)]
            handles[:] = [*rest, *(h for n, h in enumerate(recent) if not any(h is o for o in (*moved, *recent[:n])))]
        self._used.update(map(id, used))
        texts = [self._script.value(a, collected_type(of), self._names) for a, of in zip(arguments, types, strict=True)]
        self._history.append(lambda: self._step(member, drawn))
        self._call(member, arguments, *self._bound(member, arguments, texts))

    def _bound(self, member: Member, arguments: Sequence[Any], texts: Sequence[str]) -> tuple[Callable[..., Any], str]:
        """Return the callable for a member, and the call as Python source."""
        if not (self.world.interface or self.world.bindings):
            return self.api[member.name], f"api[{member.name!r}]({', '.join(texts)})"
        owner, name, given = (arguments[0], texts[0], texts[1:]) if member.method else (self.api, "api", texts)
        return attrgetter(member.python)(owner), f"{name}.{member.python}({', '.join(given)})"

    def _passed(self, drawn: Sequence[Any], types: Sequence[WitType]) -> list[Any]:
        """Return drawn arguments with the live readers that are passed on, which live no more."""
        found: list[Any] = []
        for value, of in zip(drawn, types, strict=True):
            end = value.find(of, self.ends) if isinstance(value, PickEnd) else None
            if end is not None:
                self.ends.remove(end)
            found.append(end.reader if end is not None else value.otherwise if isinstance(value, PickEnd) else value)
        return found

    def _picked(self, pick: Any, used: list[Any], moved: list[Any]) -> Any:
        if not isinstance(pick, Pick):
            return pick  # an override supplied this handle
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
        # Judge outside the exception handlers: hypothesis distinguishes failures by exception context too, and the line
        # of Aegis that detected the guest's end must not make two failures different.
        outcome = self._outcome(member, arguments, function, text)
        self._judged(member.name, arguments, outcome)
        if self._explores and not self.ended:
            self._explore((member.name, *_novelty(outcome)))

    def _explore(self, shown: tuple[Any, ...]) -> None:
        """Go back to the latest step that showed something new, unless the latest call did.

        After some attempts in vain, the run goes back further.
        """
        if shown not in self._shown:
            # The first result of a function may be that of any state; another one than before tells of a new state.
            changed = any(name == shown[0] for name, *_ in self._shown)
            self._shown.add(shown)
            self._marks.append((len(self._history), _MAX_EXPLORING_ATTEMPTS if changed else _MIN_EXPLORING_ATTEMPTS))
            self._attempts = 0
            return
        self._attempts += 1
        if self._attempts > self._marks[-1][1] and len(self._marks) > 1:
            self._marks.pop()
            self._attempts = 0
        self._go_back(self._marks[-1][0])

    def _go_back(self, length: int) -> None:
        """Repeat the first ``length`` steps in a fresh sandbox."""
        kept = self._history[:length]
        self.sandbox.close()
        self.live, self._names, self._used, self._count, self._history = {}, {}, set(), {}, []
        self.ends = []
        latest, self._script = self._script.lines[self._latest :], PythonScript(typed=self.world.bindings is not None)
        self._open(self.world.imports if self.world.stubs is None else self.world.stubs.plan(self._numbers))
        self._explores = False
        for step in kept:
            step()
        self._explores = True
        self._latest = len(self._script.lines)
        self._undone = [f"# undone: {line}" for line in latest]

    def _begin(self, explores: bool) -> None:
        """Explore in this run if this is no subclass, whose model of the guest a fresh sandbox would contradict."""
        self._explores = explores and "world" in vars(type(self))
        self._undone = [f"# {'undo' if self._explores else 'keep'} calls that show nothing new"]

    def _outcome(self, member: Member, arguments: Sequence[Any], function: Callable[..., Any], text: str) -> Outcome:
        """Call the function, append the call to the script, and return the outcome."""
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
            return Outcome(value=outcome_value(member.type.result, value), usage=self.sandbox.usage)

    def _kept(self, value: Any, of: WitType | None, text: str) -> None:
        """Add the handles in a result to ``live``, name them, and append the call to the script."""
        result = of.ok if isinstance(of, Result) else of
        found, ends = list(handles_in(value, result)), list(ends_in(value, result))
        if not found and not ends:
            self._script.lines.append(text)
            return
        whole = "" if "" in (path for path, *_ in (*found, *ends)) else self._new("result")
        if whole:
            self._script.lines.append(f"{whole} = {text}")
        for path, reader, end in ends:
            name = self._new(type(end).__name__.lower())
            self._script.lines.append(f"{name} = {whole}{path}" if whole else f"{name} = {text}")
            self.ends.append(LiveEnd(reader, end, name))
            self._names[id(reader)] = name
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
        self._history.append(lambda: self._drop(resource, number))
        drop = Member(f"drop {resource.partition('#')[0]}", Function())
        self._call(drop, (), handle.drop, text)

    def _read(self, number: int, count: int) -> None:
        """Read a live stream, or take the value of a future."""
        self._latest = len(self._script.lines)
        if self.ended or not self.ends:
            return
        end = self.ends.pop(_place(number, self.ends))
        self._history.append(lambda: self._read(number, count))

        def read() -> Any:
            value = end.reader.read(count) if end.is_stream else end.reader.result()
            if end.is_stream and len(value):
                self.ends.append(
                    end
                )  # before the call is judged, after which another sandbox may take this one's place
            return value

        text = f"{end.name}.read({count})" if end.is_stream else f"{end.name}.result()"
        self._call(Member(*read_member(end)), (), read, text)

    def _close(self, number: int) -> None:
        """Close a live stream or future, which may have elements left."""
        self._latest = len(self._script.lines)
        if self.ended or not self.ends:
            return
        end = self.ends.pop(_place(number, self.ends))
        self._history.append(lambda: self._close(number))
        self._call(Member(f"close {end.name}", Function()), (), end.reader.close, f"{end.name}.close()")

    def _judged(self, function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
        self.ended = outcome.status != "returned"
        try:
            self.judge(function, arguments, outcome)
        except AssertionError as failure:
            self.ended = True
            raise AssertionError(f"{failure}\n\n{self.script()}") from None

    def _holds(self) -> bool:
        """Return whether a run that explores has enough handles for its methods."""
        return self._explores and sum(map(len, self.live.values())) >= _MAX_EXPLORED_HANDLES

    def _has(self, resources: Sequence[str]) -> bool:
        return all(self.live.get(resource) for resource in resources)

    def _repr_step(self, rule: Any, data: Any, result: Any) -> str:
        """Return the Python source of a step, which hypothesis prints instead of its own representation."""
        undone, self._undone = self._undone, []
        return "\n".join(undone or self._script.lines[self._latest :]) or f"# {rule.function.__name__}: skipped"


def _novelty(outcome: Outcome) -> tuple[Any, ...]:
    """Return what tells the states of a guest apart: how the call ended, classes of its fuel and of its value."""
    value: Any = outcome.value
    fuel = outcome.usage.fuel
    if isinstance(value, bool) or value is None:
        shown: Any = value
    elif isinstance(value, int):
        shown = value.bit_length()
    elif isinstance(value, (str, bytes, list)):
        shown = len(value).bit_length()
    else:
        shown = printable(repr(getattr(value, "value", "")), 40) if isinstance(value, Err) else type(value).__name__
    return outcome.status, None if fuel is None else fuel if fuel < _EXACT_FUEL else fuel.bit_length(), shown


_EXACT_FUEL = 64
"""Fuel below this is distinguished exactly."""


def _place(number: int, handles: Sequence[Any]) -> int:
    return -1 - number % len(handles)


def _comment(error: BaseException) -> str:
    return printable(str(error), 120)


def _named(check: Check) -> str:
    return getattr(check, "__name__", type(check).__name__)


def _key(resource: Resource) -> str:
    return f"{resource.name}#{resource.key}"


# -- construction ------------------------------------------------------------------------------------------


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
    """Return a state machine class for an interface that a component exports. The version may be omitted.

    Without ``interface``, the machine calls the interface of ``bindings`` (a generated module with a table
    ``INTERFACE``), or else the functions of the world itself. If ``component`` is a path, the script loads that file.
    ``overrides`` are those of :mod:`~aegis.testing.strategies`. ``imports`` provides the component's imports; without
    it, missing imports are stubbed by drawn numbers (:class:`~aegis.fuzz.stubs.ImportStubs`). ``budget`` bounds the
    size of each call's arguments. Functions that cannot be called are listed in the class's ``left_out``.

    Raise :class:`~aegis.errors.ExportNotFound` if the interface is not exported, and
    :class:`~aegis.fuzz.values.shape.CannotGenerate` if no function can be called.
    """
    path = None if not isinstance(component, (str, os.PathLike)) else os.fspath(component)
    loaded: Any = component if path is None else runtime.load_file(path)
    full, functions = _functions(loaded, interface, bindings)
    stubs = ImportStubs(loaded) if imports is None else None
    world = DrivenWorld(
        runtime=runtime, component=loaded, path=path, interface=full, bindings=bindings, imports=imports,
        stubs=stubs if stubs is not None and stubs.plan(()) else None, checks=tuple(checks),
    )  # fmt: skip
    body: dict[str, Any] = {"world": world, "left_out": {}, "__doc__": f"Calls {full or 'the world'} in any order."}
    given = {_key(own.resource) for f in functions.values() for own in _owned(f.result)}
    choices = []
    words = words_of(loaded.binary)
    passes = runtime.policy.isolation is None  # a worker does not take back the streams that it gave
    for name, function in functions.items():
        member = Member(name, function)
        try:
            drawn, needed = _arguments(member, given, full, overrides or {}, budget, words, passes=passes)
            body[member.rule] = _rule(member, drawn, needed)
            choices.append(st.tuples(st.just((member, needed)), drawn))
        except CannotGenerate as reason:
            body["left_out"][name] = str(reason)
    if len(body["left_out"]) == len(functions):
        reasons = "; ".join(f"{printable(name)}: {reason}" for name, reason in list(body["left_out"].items())[:3])
        raise CannotGenerate(
            f"{printable(full) or 'the world'} has no callable function{': ' * bool(reasons)}{reasons}"
        )
    for resource in given:
        body[f"drop_{snake(resource.partition('#')[0])}"] = _dropping(resource)
    if any(function.result is not None and has_ends(function.result) for function in functions.values()):
        body["read_stream"], body["close_stream"] = _reading(), _closing()
    body["explore"] = _exploring()
    body["call_any"] = _any_call(choices)
    if world.stubs is not None:
        body["answer_imports"] = _answering()
    return type(pascal(full.partition("@")[0].rpartition("/")[2] or "world"), (Machine,), body)


def _functions(component: Any, interface: str, bindings: ModuleType | None) -> tuple[str, dict[str, Function]]:
    """Return an interface's full name and its functions, with the Python classes of their types."""
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
        hint = "".join(f": did you mean {printable(n)}?" for n in alike)
        raise ExportNotFound(f"no exported interface {printable(interface)!r}{hint}", name=interface, near=alike)
    assert full is not None
    return full, {name: component.with_python_types(of) for name, of in found.functions.items()}


def _owned(of: WitType | None) -> list[Own]:
    if of is None:
        return []
    return [of] if isinstance(of, Own) else [own for child in children(of) for own in _owned(child)]


def _handles(of: WitType) -> list[Own | Borrow]:
    return [of] if isinstance(of, (Own, Borrow)) else [own for child in children(of) for own in _handles(child)]


def _arguments(
    member: Member,
    given: set[str],
    interface: str,
    overrides: Mapping[Any, Any],
    budget: int,
    dictionary: Dictionary,
    *,
    passes: bool,
) -> tuple[st.SearchStrategy[tuple[Any, ...]], list[str]]:
    """Return the strategy for the arguments of a function, and the resources of which it needs a handle."""
    picks: dict[Any, Any] = {}
    for _, of in member.type.params:
        for handle in _handles(of):
            if _key(handle.resource) in given:
                picks[handle] = st.integers(0, _MAX_STEPS_BACK).map(_picking(handle))
    name = f"{interface}#{member.name}" if interface else member.name
    drawn = from_function(member.type, {**picks, **overrides}, name=name, budget=budget, dictionary=dictionary)
    drawn = with_streams(drawn, member.type, passes=passes)
    return drawn, [_key(of.resource) for _, of in member.type.params if isinstance(of, (Own, Borrow)) and of in picks]


def _rule(member: Member, drawn: st.SearchStrategy[tuple[Any, ...]], needed: Sequence[str]) -> Callable[..., None]:
    def step(self: Machine, arguments: tuple[Any, ...]) -> None:
        self._step(member, arguments)

    step.__name__ = step.__qualname__ = member.rule
    made: Any = rule(arguments=drawn)(step)
    return precondition(lambda self: self._has(needed) and not (member.makes and self._holds()))(made)  # type: ignore[no-any-return]


def _picking(of: Own | Borrow) -> Callable[[int], Pick]:
    return lambda number: Pick(of, number)


def _dropping(resource: str) -> Any:
    def drop(self: Machine, number: int) -> None:
        self._drop(resource, number)

    drop.__name__ = drop.__qualname__ = f"drop_{snake(resource.partition('#')[0])}"
    # A run that explores follows the state of its handles: it drops none.
    return precondition(lambda self: self._has([resource]) and not self._explores)(
        rule(number=st.integers(0, _MAX_STEPS_BACK))(drop)
    )


def _reading() -> Any:
    def read_stream(self: Machine, number: int, count: int) -> None:
        self._read(number, count)

    made: Any = rule(number=st.integers(0, _MAX_STEPS_BACK), count=COUNTS)(read_stream)
    return precondition(lambda self: bool(self.ends))(made)


def _closing() -> Any:
    def close_stream(self: Machine, number: int) -> None:
        self._close(number)

    return precondition(lambda self: bool(self.ends))(rule(number=st.integers(0, _MAX_STEPS_BACK))(close_stream))


def _any_call(choices: Sequence[st.SearchStrategy[tuple[tuple[Member, list[str]], tuple[Any, ...]]]]) -> Any:
    """Return a rule that calls any function: hypothesis disables some rules in each run, which a sequence may need."""

    def call_any(self: Machine, chosen: tuple[tuple[Member, list[str]], tuple[Any, ...]]) -> None:
        (member, needed), arguments = chosen
        if self._has(needed) and not (member.makes and self._holds()):
            self._step(member, arguments)

    return rule(chosen=st.one_of(choices))(call_any)


def _exploring() -> Any:
    def explore(self: Machine, explores: bool) -> None:
        self._begin(explores)

    return initialize(explores=st.integers(0, 3).map(bool))(explore)


def _answering() -> Any:
    def answer_imports(self: Machine, numbers: list[int]) -> None:
        self._answered(numbers)

    return initialize(numbers=st.lists(st.integers(0, NOTABLE - 1), max_size=6))(answer_imports)
