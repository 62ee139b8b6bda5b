"""Sources based on wasm-tools: ``smith``, ``wit-smith`` and ``mutate``, all driven by seeded random bytes."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from aegis.attack.bytewise import put_back, whole_sections
from aegis.attack.inputs import Artifacts, AttackInput, Make, seeded_random
from aegis.attack.tools import run, run_with_stderr, scratch
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ArtifactError
from aegis.wasm.binary import is_component
from aegis.wasm.structure import read_component

__all__ = ["OPTIONAL_KIND", "mutate", "smith", "wit"]

_MAX_ATTEMPTS = 5


def _off(*proposals: str) -> tuple[str, ...]:
    return tuple(word for proposal in proposals for word in (f"--{proposal}-enabled", "false"))


_ADMITTED = _off(
    "gc",
    "compact-imports",
    "exceptions",
    "memory64",
    "tail-call",
    "relaxed-simd",
    "extended-const",
    "threads",
    "custom-page-sizes",
    "wide-arithmetic",
)
"""Options under which most modules use only proposals that Aegis admits."""
_OTHERS = _off("gc", "compact-imports", "memory64", "tail-call", "extended-const", "threads", "custom-page-sizes")
"""Options that exclude proposals which are off and that no policy can enable."""
OPTIONAL_KIND = "optional proposals"
_NUMBERS = (*_ADMITTED, *_off("simd", "reference-types"), "--export-everything", "true")
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("plain", (*_NUMBERS, "--max-imports", "4")),
    ("preview 1", (*_NUMBERS, "--available-imports", "wasi", "--min-memories", "1")),
    ("vectors and references", (*_ADMITTED, "--max-imports", "4")),
    ("many", (*_ADMITTED, "--min-memories", "1", "--max-memories", "12", "--min-tables", "1", "--max-tables", "20",
              "--max-memory32-bytes", "200000", "--max-funcs", "200", "--min-funcs", "20", "--max-imports", "0")),
    ("preview 1, ending", (*_NUMBERS, "--available-imports", "wasi", "--ensure-termination", "--disallow-traps",
                           "true", "--min-memories", "1")),
    ("maybe invalid", (*_ADMITTED, "--allow-invalid-funcs", "true", "--export-everything", "true")),
    ("many instructions", (*_NUMBERS, "--max-imports", "0", "--min-funcs", "1", "--max-instructions", "5000")),
    ("anything", ()),
    ("constant expressions", (*_off("gc", "compact-imports"), "--const-expr-fuel", "500", "--min-globals", "20",
                              "--max-globals", "100", "--min-data-segments", "5", "--min-element-segments", "5")),
    ("refused proposals", ("--threads-enabled", "true", "--shared-everything-threads-enabled", "true",
                           "--custom-page-sizes-enabled", "true", "--wide-arithmetic-enabled", "true",
                           "--custom-descriptors-enabled", "true")),
    (OPTIONAL_KIND, (*_OTHERS, "--export-everything", "true", "--max-imports", "4", "--exceptions-enabled", "true",
                     "--relaxed-simd-enabled", "true", "--wide-arithmetic-enabled", "true", "--min-types", "4")),
    ("long numbers and custom sections", (*_ADMITTED, "--min-uleb-size", "5", "--generate-custom-sections", "true")),
)  # fmt: skip
"""Kinds of modules, with their options; the source alternates between them."""


@cache
def _wasi() -> str:
    """Return the path of a module that imports all of WASI preview 1; smith chooses imports from it."""
    from aegis.host.preview1.abi import SIGNATURES

    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func (param {" ".join(of.params)}) '
        f"(result {' '.join(of.results)})))"
        for name, of in SIGNATURES.items()
    )
    path = scratch() / "preview1.wasm"
    path.write_bytes(text_to_binary(f"(module {imports})"))
    return str(path)


def smith(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of random modules."""

    def make(number: int) -> AttackInput:
        rng = seeded_random(seed, "smith", number)
        label, options = _KINDS[number % len(_KINDS)]
        words = ["smith", *(_wasi() if word == "wasi" else word for word in options)]
        data = _tried(rng, words)
        return AttackInput(source="smith", number=number, data=data, label=f"smith: {label}")

    return make


def _tried(rng: Random, words: list[str]) -> bytes:
    """Run a tool on random bytes; retry with other bytes when it fails. Return ``b""`` if every attempt fails."""
    for _ in range(_MAX_ATTEMPTS):
        made = run(words, rng.randbytes(int(200 * 2 ** (rng.random() * 5))))
        if made:
            return made
    return b""


# -- worlds -----------------------------------------------------------------------------------------

_WORLDS = (
    (), ("--world-include",), ("--max-type-size", "400", "--max-type-parts", "40"), ("--implements",),
    ("--max-world-items", "40", "--max-interface-items", "20"), ("--canonical-names",), ("--fixed-length-lists",),
    ("--async", "--futures", "--streams", "--error-context"),
)  # fmt: skip
_WORLD_NAME = re.compile(r"^  (\S+/\S+)$", re.MULTILINE)


def wit(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of components with random worlds, whose functions trap."""

    def make(number: int) -> AttackInput:
        rng = seeded_random(seed, "wit", number)
        options = _WORLDS[number % len(_WORLDS)]
        data = b""
        for _ in range(_MAX_ATTEMPTS):
            made = _component(rng, options)
            data = made or data
            if made and _callable(made):
                break
        return AttackInput(source="wit", number=number, data=data, label=f"wit-smith {' '.join(options)}".strip())

    return make


def _callable(data: bytes) -> bool:
    """Return whether a component exports a function or an instance, which may contain functions."""
    try:
        return any(sort in ("func", "instance") for _, sort in read_component(data).exports)
    except ArtifactError:
        return True


def _component(rng: Random, options: tuple[str, ...]) -> bytes:
    world = run(["wit-smith", *options], rng.randbytes(int(100 * 2 ** (rng.random() * 5))))
    if not world:
        return b""
    path = scratch() / "world.wasm"
    path.write_bytes(world)
    words = ["component", "embed", str(path), "--dummy-names", "legacy"]
    core, stderr = run_with_stderr(words)
    if core is None:  # the package has several worlds: the error message lists them
        names = _WORLD_NAME.findall(stderr)
        core = run([*words, "--world", rng.choice(names)]) if names else None
    return (run(["component", "new", "-"], core) or b"") if core else b""


# -- mutants ----------------------------------------------------------------------------------------


def mutate(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of mutated core modules. A module inside a component is mutated in place."""
    cores = [(name, data, start, end) for name, data in artifacts for start, end in _cores(data)]

    def make(number: int) -> AttackInput:
        rng = seeded_random(seed, "mutate", number)
        name, data, start, end = cores[int(rng.random() * len(cores))]
        core, times = data[start:end], 1 + int(rng.random() ** 2 * 4)
        for _ in range(times + _MAX_ATTEMPTS):
            core = run(["mutate", "--seed", str(rng.getrandbits(32)), "--fuel", "1000"], core) or core
            times -= core != data[start:end]
            if times <= 0:
                break
        made = put_back(data, start, end, core)
        return AttackInput(source="mutate", number=number, data=made, label=f"mutant of {name}")

    return make


def _cores(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of the core modules of an artifact: the whole of a module, or the parts of a component."""
    if not is_component(data):
        return [(0, len(data))]
    return [(start, end) for number, start, end in whole_sections(data) if number == 1] or [(0, len(data))]
