"""Handles behave in Aegis as in the engine: their numbers, the effect of each use, and the destructors that run.

Oracle: wasmtime-py's component classes with the same steps. A guest here uses any number as a handle; a step that traps
on one side traps on the other, and ends both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis import CallError, GuestTrap
from tests.component.aegis_side import RUNTIME, trapped
from tests.component.oracle import ABI, HostResource, Native, Outcome, Rep, Returned, Trapped
from tests.component.resource_guests import ALONE, BETWEEN, DIRECT

H = 1
"""The number of the host's resource type in the engine."""


class Thing:
    """A value of the host's resource type in Aegis."""

    def __init__(self, rep: int, log: list[Any]) -> None:
        self.rep, self._log = rep, log

    def __drop__(self) -> None:
        self._log.append(("dropped", self.rep))


@cache
def _loaded(text: str) -> Any:
    return RUNTIME.load_wat(text)


class AegisSide:
    """Runs the steps in Aegis."""

    def __init__(self, text: str) -> None:
        self.log: list[Any] = []
        made = _loaded(text)
        provided = _host(self.log, lambda rep: Thing(rep, self.log))
        self.sandbox = RUNTIME.sandbox(made, imports={n: f for n, f in provided.items() if n in made.imports})

    def host(self, rep: int) -> Thing:
        return Thing(rep, self.log)

    def call(self, name: str, *arguments: Any) -> Outcome:
        try:
            returned = self.sandbox.call(name, *arguments)
        except GuestTrap as error:
            return trapped(error)
        except CallError as error:
            return Trapped(ABI, str(error))  # a caller's error, which the engine reports in the same way
        return Returned(returned.rep if isinstance(returned, Thing) else returned)

    def drop(self, handle: Any) -> Outcome:
        try:
            handle.drop()
        except GuestTrap as error:
            return trapped(error)
        return Returned(None)

    def close(self) -> None:
        self.sandbox.close()


class EngineSide:
    """Runs the steps in the engine."""

    def __init__(self, text: str) -> None:
        self.log: list[Any] = []
        provided = _host(self.log, lambda rep: Rep(H, rep))
        imports = {"h": HostResource(H, lambda rep: self.log.append(("dropped", rep))), **provided}
        self.guest = Native(text, {} if text == BETWEEN else imports)
        self.drop = self.guest.drop

    def host(self, rep: int) -> Rep:
        return Rep(H, rep)

    def call(self, name: str, *arguments: Any) -> Outcome:
        end = self.guest.call(name, *arguments)
        return Returned(end.value.rep) if isinstance(end, Returned) and isinstance(end.value, Rep) else end

    def close(self) -> None:
        """Do nothing: drops at the engine's end are not compared."""


def _host(log: list[Any], make: Callable[[int], Any]) -> dict[str, Callable[..., Any]]:
    def noted(name: str) -> Callable[..., int]:
        def function(*things: Any) -> int:
            log.append((name, *(thing.rep for thing in things)))
            return sum(thing.rep * 100**n for n, thing in enumerate(things))

        return function

    names = ("take-h", "look-h", "look-two", "look-take", "take-look")
    return {"make-h": make, **{name: noted(name) for name in names}}


# -- programs -------------------------------------------------------------------------------------------

ANY_INDEX = st.integers(1, 5) | st.sampled_from((0, 9, 0xFFFF_FFFF))
REPS = st.integers(1, 9)
_USES = {
    "g-rep": "g", "g-drop": "-g", "h-drop": "-h", "take-h": "-h", "look-h": "h", "look-two": "h h", "look-take": "h -h",
    "take-look": "-h h", "give-h": "-h", "give-g": "-g", "give-gs": "-g -g",
    **{f"b#{name}-{n}": kinds.replace("r", n) for n in "12" for name, kinds in {
        "look": "r", "two": "r r", "take": "-r", "pass": "-r", "mix": "r -r", "drop": "-r", "give": "-r",
    }.items()},
}  # fmt: skip
"""The handles that a step takes, by kind; a minus marks a handle that the step consumes."""
_RAW_STEPS = ("g-new", "make-h", "g-rep", "g-drop", "h-drop", "take-h", "look-h", "look-two", "look-take", "take-look")
_STEPS = (
    *_RAW_STEPS, "own-h", "use-h", "borrow-h", "own-hs", "give-h", "give-g", "give-gs", "own-g", "borrow-g",
    "host-drop", "dropped",
)  # fmt: skip
_BETWEEN_STEPS = tuple(
    f"{name}-{n}" if "#" in name else f"a{n}#{name}"
    for n in "12"
    for name in ("b#make", "b#make", "b#look", "b#two", "b#take", "b#pass", "b#mix", "b#drop", "b#give", "b#own",
                 "b#lent", "look", "take", "dropped")
)  # fmt: skip


class Table:
    """The numbers of a guest's handles (CanonicalABI.md, "Table"), so that programs mostly use existing ones."""

    def __init__(self) -> None:
        self.kinds: dict[int, str] = {}
        self.free: list[int] = []
        self.held = False

    def add(self, kind: str) -> None:
        index = self.free.pop() if self.free else len(self.kinds) + 1
        self.kinds[index] = kind

    def remove(self, index: int) -> None:
        if self.kinds.get(index):
            self.kinds[index] = ""
            self.free.append(index)

    def of(self, kind: str) -> list[int]:
        return [index for index, found in self.kinds.items() if found == kind]


@st.composite
def programs(draw: st.DrawFn, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Draw steps that mostly use handles of the right kind; sometimes any number, or a representation that traps."""
    table = Table()
    program = []
    for _ in range(draw(st.integers(4, 24))):
        step = _step(draw, table, draw(st.sampled_from(names)))
        if step is not None:
            program.append(step)
    return program


def _step(draw: st.DrawFn, table: Table, name: str) -> tuple[Any, ...] | None:
    rep = draw(REPS)
    match name:
        case "g-new" | "make-h":
            table.add(name[0] if name == "g-new" else "h")
            return name, 13 if rep == 9 and name == "g-new" and draw(st.booleans()) else rep
        case "own-h" | "use-h":
            if name == "own-h":
                table.add("h")
            return ("steal-h" if rep == 9 and name == "use-h" else name), ("host", rep)
        case "borrow-h":
            return name, ("host", rep), int(rep != 9)
        case "own-hs":
            reps = draw(st.lists(REPS, max_size=3))
            for _ in reps:
                table.add("h")
            return name, tuple(("host", rep) for rep in reps)
        case "own-g" | "borrow-g" | "host-drop":
            return (name, ("held", "g", rep)) if table.held else None
        case "dropped" | "a1#dropped" | "a2#dropped":
            return (name,)
        case "b#make-1" | "b#make-2":
            table.add(name[-1])
            return name, 13 if rep == 9 and draw(st.booleans()) else rep
        case "b#own-1" | "b#own-2" | "b#lent-1" | "b#lent-2" | "a1#look" | "a2#look" | "a1#take" | "a2#take":
            if rep == 9 and name[0] == "a":
                return name, ("held", "12"[name[1] == "1"], rep)  # a resource of the other instance
            return (name, ("held", name[1] if name[0] == "a" else name[-1], rep), *([int(rep != 9)] * ("lent" in name)))
    return _use(draw, table, name)


def _use(draw: st.DrawFn, table: Table, name: str) -> tuple[Any, ...] | None:
    chosen: list[int] = []
    wild = draw(st.integers(0, 11)) == 11
    for kind in _USES[name].split():
        fit = [index for index in table.of(kind[-1]) if index not in chosen or name == "look-two"]
        if not fit and not wild:
            return None
        chosen.append(draw(ANY_INDEX if wild else st.sampled_from(fit)))
    for kind, index in zip(_USES[name].split(), chosen, strict=True):
        if kind[0] == "-":
            table.remove(index)
    if name in ("b#pass-1", "b#pass-2"):
        table.add(name[-1])
    table.held |= name.startswith("give-g")
    return name, *chosen


_GONE = ("own-g", "host-drop", "b#own-1", "b#own-2", "a1#take", "a2#take")
"""Steps that take the handle away from the host."""


def run(side: Any, program: list[tuple[Any, ...]]) -> list[Any]:
    """Run the steps up to the first trap; return their outcomes, with the values that the host received in between."""
    held: dict[str, list[Any]] = {}
    ends: list[Any] = []
    for name, *arguments in program:
        given = [_argument(side, held, argument) for argument in arguments]
        if None in given:
            continue  # the handle does not exist, or was moved
        end = side.drop(*given) if name == "host-drop" else side.call(name, *given)
        if name in _GONE:
            kept = held[arguments[0][1]]
            kept[kept.index(given[0])] = None
        if isinstance(end, Returned) and "give-" in name and name != "give-h":
            made = end.value if isinstance(end.value, list) else [end.value]
            held.setdefault("g" if name[0] == "g" else name[-1], []).extend(made)
            end = Returned(len(made))
        if not isinstance(end, Returned):
            # Whether the host's values of such a call are dropped is not observable by the guest.
            ends.append((end, [entry for entry in side.log if entry[0] != "dropped"]))
            break
        ends.append((end, tuple(side.log)))
    return ends


def _argument(side: Any, held: dict[str, list[Any]], argument: Any) -> Any:
    match argument:
        case ("host", rep):
            return side.host(rep)
        case ("held", kind, number):
            kept = held.get(kind)
            return kept[number % len(kept)] if kept else None
        case tuple():
            return [side.host(rep) for _, rep in argument]
    return argument


def same_ends(text: str, program: list[tuple[Any, ...]]) -> None:
    event(f"{len(program)} steps wanted")
    actual, expected = AegisSide(text), EngineSide(text)
    try:
        ends = run(actual, program)
        assert ends == run(expected, program)
        event("trapped" if ends and isinstance(ends[-1][0], Trapped) else "returned")
        event(f"{len(ends)} steps")
    finally:
        actual.close()


@settings(max_examples=150)
@given(programs(_STEPS))
def test_any_steps_with_handles_end_as_in_the_engine(program: list[tuple[Any, ...]]) -> None:
    same_ends(ALONE, program)


@settings(max_examples=40)
@given(programs(_RAW_STEPS))
def test_built_in_functions_that_are_lifted_themselves_do_the_same(program: list[tuple[Any, ...]]) -> None:
    same_ends(DIRECT, program)


@settings(max_examples=150)
@given(programs(_BETWEEN_STEPS))
def test_handles_that_move_between_instances_end_as_in_the_engine(program: list[tuple[Any, ...]]) -> None:
    same_ends(BETWEEN, program)
