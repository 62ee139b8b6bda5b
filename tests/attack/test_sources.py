"""Oracle: seed and number determine the input in any process, and each source generates its documented kind."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import Any

import pytest

from aegis.attack.abi_fuzzer import draw_case, liar
from aegis.attack.bytewise import leb, put_back, whole_sections
from aegis.attack.inputs import Make, seeded_random
from aegis.attack.seeds import MAX_SEED_BYTES, built_in, read_seeds
from aegis.attack.sources import SOURCES, checked, source
from aegis.attack.task_fuzzer import task_component
from aegis.attack.tools import run
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import AegisError, ArtifactError, PolicyError
from aegis.fuzz.values.generate import shape_of
from aegis.runtime import Aegis
from aegis.wasm.binary import is_component, is_module
from aegis.wit.types import Tuple, children

SEEDS = built_in()


def make(name: str, seed: int = 1) -> Make:
    return source(name, seed, SEEDS)


def test_lies_depend_on_nothing_but_their_numbers() -> None:
    """The modules that a process has imported, from which hypothesis collects constants, must have no influence."""
    program = (
        "import sys; from aegis.attack.abi_fuzzer import liar; "
        "sys.stdout.write(liar(1, ())(9).data.hex())"
    )  # fmt: skip
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert alone.stdout == liar(1, ())(9).data.hex()


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_reproducible_and_its_numbers_differ(name: str) -> None:
    first, again, other = make(name), make(name), make(name, 2)
    numbers = (7, 3, 4)
    made = [first(n) for n in numbers]
    assert made == [again(n) for n in numbers]
    assert [i.data for i in made] != [other(n).data for n in numbers]
    assert len({i.data for i in made}) > 1
    assert {(i.source, i.number) for i in made} == {(name, n) for n in numbers}


def test_smith_makes_modules_of_several_kinds() -> None:
    made = [make("smith")(n) for n in range(11)]
    assert len({i.label for i in made}) == 11
    assert sum(is_module(i.data) for i in made) >= 10
    wasi = next(i for i in made if i.label == "smith: preview 1")
    assert b"wasi_snapshot_preview1" in wasi.data


def test_worlds_become_components_that_are_valid() -> None:
    made = [make("wit")(n) for n in range(3)]
    assert all(is_component(i.data) for i in made)
    assert all(run(["validate", "--features", "all", "-"], i.data) is not None for i in made)


def test_mutants_are_artifacts_other_than_their_seeds() -> None:
    made = [make("mutate")(n) for n in range(8)]
    assert all(is_module(i.data) or is_component(i.data) for i in made)
    assert {data for _, data in SEEDS}.isdisjoint(i.data for i in made)


def test_mutated_bytes_are_similar_to_their_seed() -> None:
    made = [make("flips")(n) for n in range(200)]
    assert sum(i.data[:4] == b"\0asm" for i in made) > 150
    # some mutants are still valid artifacts
    assert sum(run(["validate", "-"], i.data) is not None for i in made[:60]) > 2
    done = Counter(change for i in made for change in i.label.partition(": ")[2].split(", "))
    assert len(done) >= 10


def test_liars_are_valid_components_of_many_types() -> None:
    made = [liar(1, ())(n) for n in range(50)]
    runtime = Aegis(cache=False)
    for one in made[::10]:
        runtime.load(one.data)
    assert len({i.data for i in made}) > 45
    cases = [draw_case(1, number)[1] for number in range(150)]
    assert 30 < sum(case.peer is not None for case in cases) < 120
    functions = [reported.function for case in cases for reported in case.exports]
    found = [of for f in functions for of in (f.result, *(of for _, of in f.params))]
    for of in found:  # the list grows during the loop
        found += [] if of is None else children(of)
    kinds = {type(of).__name__ for of in found}
    assert kinds >= {"str", "List", "Option", "Tuple", "Result", "Record", "Variant", "Enum", "Flags", "Own", "Borrow"}
    assert len({case.realloc for case in cases}) == 10
    assert len({name for case in cases for name in case.wasi}) > 15


def test_asynchronous_components_are_valid_and_reach_all_built_ins() -> None:
    """Oracle: Aegis loads each; among a few of them, all built-ins are called and many calls come further than one."""
    made = [make("tasks")(n) for n in range(60)]
    assert len({one.data for one in made}) == 60
    assert make("tasks")(7).data == made[7].data
    runtime = Aegis(cache=False, timeout=5, fuel="1e6")
    reasons: Counter[str] = Counter()
    for one in made[::3]:
        component = runtime.load(one.data)
        for name in ("run", "give", "later"):
            imports = {"give": lambda n: [], "take": lambda s, f: 0, "later": partial(later, component)}
            try:  # some trap in their start functions
                with runtime.sandbox(component, imports=imports, trap_missing=True) as sandbox:
                    sandbox.call(name, *([2] if name == "give" else []))
                    reasons["returned"] += 1
            except AegisError as error:
                reasons[str(error).partition(" N")[0]] += 1
    assert reasons["returned"] > 3
    assert len(reasons) > 8
    texts = [task_component(seeded_random(1, "tasks", n), "u8", pair=False) for n in range(200)]
    bodies = "".join(text.partition("(global $left")[2] for text in texts)
    called = set(re.findall(r"\(call \$([\w-]+)", bodies))
    defined = set(re.findall(r"\(core func \$([\w-]+) \(canon", texts[0]))
    assert called >= defined


def later(component: Any) -> Any:
    """Return the value of the future that a component imports: the simplest of its type."""
    of = component.world.imports["later"].result.element
    return shape_of(Tuple(()) if of is None else of).simplest()


def test_every_interface_of_the_host_can_be_lied_to() -> None:
    from aegis.attack.cases import WASI, AbiCase, ExportCase, component_text
    from aegis.wit.types import Function

    case = AbiCase(exports=(ExportCase(function=Function()),), host=Function(), wasi=WASI)
    component = Aegis(cache=False).load(text_to_binary(component_text(case)))
    assert component.kind == "component"
    assert set(component.imports) >= set(WASI)


def test_interfaces_with_asynchronous_functions_and_streams_can_be_lied_to() -> None:
    from aegis.attack.wat import TypeDefinitions
    from aegis.wit.types import Function, Future, Stream, Tuple

    of = Tuple((Stream("u8"), Future(None)))
    types = TypeDefinitions("x")
    signature = types.function(Function((("x", of),), Stream(of), is_async=True))
    text = f'(component {" ".join(types.lines)} (import "f" (func{signature})))'
    world = Aegis(cache=False).load(text_to_binary(text)).imports
    function = world["f"]
    assert isinstance(function, Function)
    assert function.is_async
    assert isinstance(function.result, Stream)


def test_sections_are_put_back_with_their_sizes() -> None:
    data = SEEDS[0][1]
    number, start, end = whole_sections(data)[0]
    assert put_back(data, start, end, data[start:end]) == data
    longer = put_back(data, start, end, data[start:end] + bytes(200))
    assert whole_sections(longer)[0] == (number, start + 1, end + 201)
    assert leb(3, 4) == b"\x83\x80\x80\x00"
    assert leb(624485) == b"\xe5\x8e\x26"


def test_seeds_are_files_and_folders(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wat").write_text("(module)")
    (tmp_path / "in" / "b.wasm").write_bytes(b"anything")
    (tmp_path / "large.wasm").write_bytes(bytes(MAX_SEED_BYTES + 1))
    (tmp_path / "broken.wat").write_text("(modul")
    found, left_out = read_seeds([str(tmp_path)])
    assert [data for _, data in found] == [b"\0asm\1\0\0\0", b"anything"]
    assert {name.rpartition("/")[2] for name in left_out} == {"large.wasm", "broken.wat"}
    with pytest.raises(PolicyError, match=r"no usable seed artifact among 1 file.*larger"):
        read_seeds([str(tmp_path / "large.wasm")])
    with pytest.raises(ArtifactError, match="no such file"):
        read_seeds([str(tmp_path / "missing.wasm")])


def test_an_unknown_source_is_reported_with_the_known_ones() -> None:
    with pytest.raises(PolicyError, match=r"unknown source 'smit': did you mean smith\? The sources are smith, wit"):
        checked(("smit",))
    assert checked(()) == tuple(SOURCES)
    assert checked(("liar", "liar")) == ("liar",)
