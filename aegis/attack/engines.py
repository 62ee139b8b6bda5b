"""The oracle ``engine-agrees``: code of other compilers and settings of the engine behaves like the optimised code.

An artifact runs with each of them, with the same calls: results, traps and fuel must be equal. The core specification
leaves NaN bits and the depth of the stack open: the compilers make all NaN equal, and calls that exhaust the stack or
run into the deadline are not compared. Winch counts fuel in its own way, which is not compared either.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

from aegis.engine.compile.artifact import Module
from aegis.engine.compile.config import COMPILERS
from aegis.errors import AegisError, ArtifactError, CallError, GuestTrap
from aegis.fuzz.case import Case, Step, StepResult
from aegis.fuzz.oracles.agreement import same
from aegis.fuzz.oracles.differences import difference
from aegis.fuzz.target import EVERY, Target
from aegis.policy import Policy
from aegis.runtime import Aegis, compiled_by
from aegis.sandbox.programs import is_program
from aegis.text import printable
from aegis.values import FuncType

__all__ = ["EngineComparison", "available_compilers"]

_BASE = "speed"
_NUMBERS = {"i32", "i64", "f32", "f64"}
_MAX_CASES, _MAX_STEPS = 4, 6
_COMPARED_FUEL = 200_000
"""Fuel limit of a call: it runs once for each compiler, and many random guests never return."""
_MAX_COMPLEXITY_UNITS = 1_000_000
"""Limit of ``complexity``, in estimated microseconds: each artifact is compiled several times, in this process."""
_MAX_ARTIFACT_BYTES = 64 << 10
_OPEN_ENDINGS = {"timeout", "stack-exhausted"}
_FUEL = {"out-of-fuel"}
_OTHER_FUEL = "winch"
"""The compiler that counts fuel in its own way: not for bulk instructions by their length, and not before a trap."""
_PROBE_SECONDS = 60
_PROBE = "from aegis.attack.engines import probe; probe({name!r})"
_GUEST = bytes.fromhex("0061736d0100000001060160017f017f03020100070501016600000a09010700200041016a0b")
"""A module whose export ``f`` adds 1."""


def probe(name: str) -> None:
    """Compile and run a small module with a compiler. The engine ends the process if it was built without it."""
    runtime = compiled_by(Policy(), name)
    with runtime.sandbox(runtime.load(_GUEST, "the probe")) as sandbox:
        if sandbox.call("f", 41) != 42:
            raise SystemExit(1)


@cache
def available_compilers() -> tuple[str, ...]:
    """Return the compilers of this engine, probed in another process because a missing one ends it."""
    found = [name for name in COMPILERS if name and name != "winch"]
    command = [
        sys.executable,
        *(["-E"] if sys.flags.ignore_environment else []),
        "-P",
        "-c",
        _PROBE.format(name="winch"),
    ]
    done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    return (*found, "winch") if done.returncode == 0 else tuple(found)


class EngineComparison:
    """Runs artifacts with all compilers in this process, under a policy without isolation and proposals."""

    def __init__(self, policy: Policy, compilers: Sequence[str] | None = None) -> None:
        limits = policy.limits.with_(
            fuel=_COMPARED_FUEL, complexity=_MAX_COMPLEXITY_UNITS, module_size=_MAX_ARTIFACT_BYTES
        )
        policy = replace(policy, limits=limits, isolation=None, proposals=())
        names = available_compilers() if compilers is None else compilers
        self.runtimes = {name: compiled_by(policy, name) for name in names}

    def disagreement(self, data: bytes, turn: int) -> str | None:
        """Return how an artifact behaves differently with a compiler; ``None`` if all agree, or it cannot be run.

        ``turn`` seeds the calls.
        """
        try:
            target = _target(self.runtimes[_BASE], data)
        except AegisError:  # invalid, or too complex to be compiled so often
            return None
        rng = Random(f"engines {turn}")
        cases = [_case(rng, target) for _ in range(_MAX_CASES)]
        runs = [target.run(case).results for case in cases]
        for name, runtime in self.runtimes.items():
            for case, expected in zip(cases, runs if name != _BASE else (), strict=False):
                found = target.run(case, runtime).results
                if found and isinstance(found[0].error, ArtifactError):
                    break  # the compiler does not support an instruction
                text = _compared(name, case, expected, found)
                if text is not None:
                    return text
        return None


def _target(runtime: Aegis, data: bytes) -> Target:
    """Return the target: all exports, for a module those whose results are numbers."""
    artifact = runtime.load(data, "the input")
    functions: Sequence[str] = EVERY
    if isinstance(artifact, Module):
        kinds = {export.name: export.type for export in artifact.exports if isinstance(export.type, FuncType)}
        functions = [
            name for name, of in kinds.items() if set(of.results) <= _NUMBERS and not (is_program(name) and of.params)
        ]
        if not functions:
            raise CallError("no export has numbers as results")
    return Target(runtime, artifact, functions=functions, buffers=False)


def _case(rng: Random, target: Target) -> Case:
    """Return a random case of calls that need no handles."""
    exports = [export for export in target.exports.values() if all(key is None for key in export.takes)]
    programs = [export for export in exports if export.program]
    if programs and rng.random() < 0.3:
        exports = [rng.choice(programs)]
    steps: list[Step] = []
    for _ in range(1 if len(exports) == 1 and exports[0].program else rng.randint(1, _MAX_STEPS)):
        chosen = [export for export in exports if not export.program or not steps]
        if not chosen:
            break
        export = rng.choice(chosen)
        shapes = [shape for shape in export.shapes if shape is not None]
        steps.append(Step(export.name, tuple(shape.random(rng, 16) for shape in shapes)))
        if export.program:
            break
    return Case(tuple(steps))


def _compared(name: str, case: Case, expected: Sequence[StepResult], found: Sequence[StepResult]) -> str | None:
    for number, (one, two) in enumerate(zip(expected, found, strict=False)):
        if {one.status, two.status} & (_OPEN_ENDINGS | (_FUEL if name == _OTHER_FUEL else set())):
            return None
        text = _difference(one, two, fuel=name != _OTHER_FUEL)
        if text is not None:
            step = case.steps[number].function if number < len(case.steps) else "instantiation"
            return f"{printable(step, 80)}: {text} in code of {name}"
    return None


def _difference(one: StepResult, two: StepResult, *, fuel: bool) -> str | None:
    """Describe how a call differs in optimised code, ``one``, and in other code; ``None`` if it does not."""
    if _ending(one) != _ending(two):
        return f"{_ending(one)} in optimised code, {_ending(two)}"
    if one.error is None:
        found = difference(one.value, two.value, same)
        if found is not None:
            return f"{found.at}{found.first} in optimised code, {found.second}"
    if fuel and one.fuel != two.fuel:
        return f"fuel {one.fuel} in optimised code, {two.fuel}"
    return None


def _ending(result: StepResult) -> str:
    return result.error.code if isinstance(result.error, GuestTrap) else result.status
