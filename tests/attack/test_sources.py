"""The oracle: the same seed and number make the same input, on any process, and each source makes what it says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from aegis.attack.abi_fuzzer import drawn, liar
from aegis.attack.bytewise import leb, put_back, whole_sections
from aegis.attack.inputs import Make
from aegis.attack.seeds import LARGEST, built_in, read_seeds
from aegis.attack.sources import SOURCES, checked, source
from aegis.attack.tools import run
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ArtifactError, PolicyError
from aegis.runtime import Aegis
from aegis.wasm.binary import is_component, is_module
from aegis.wit.types import children

SEEDS = built_in()


def make(name: str, seed: int = 1) -> Make:
    return source(name, seed, SEEDS)


def test_lies_depend_on_nothing_but_their_numbers() -> None:
    """Not on the modules that a process has loaded, of which hypothesis would take constants."""
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


def test_broken_bytes_are_near_what_they_were_made_from() -> None:
    made = [make("flips")(n) for n in range(200)]
    assert sum(i.data[:4] == b"\0asm" for i in made) > 150
    assert sum(run(["validate", "-"], i.data) is not None for i in made[:60]) > 2  # some pass for artifacts still
    done = Counter(change for i in made for change in i.label.partition(": ")[2].split(", "))
    assert len(done) >= 10


def test_liars_are_valid_components_of_many_types() -> None:
    made = [liar(1, ())(n) for n in range(50)]
    runtime = Aegis(cache=False)
    for one in made[::10]:
        runtime.load(one.data)
    assert len({i.data for i in made}) > 45
    lies = [drawn(1, number)[1] for number in range(150)]
    assert 30 < sum(lie.listener is not None for lie in lies) < 120
    functions = [told.function for lie in lies for told in lie.told]
    found = [of for f in functions for of in (f.result, *(of for _, of in f.params))]
    for of in found:  # which grows
        found += [] if of is None else children(of)
    kinds = {type(of).__name__ for of in found}
    assert kinds >= {"str", "List", "Option", "Tuple", "Result", "Record", "Variant", "Enum", "Flags", "Own", "Borrow"}
    assert len({lie.realloc for lie in lies}) == 10
    assert len({name for lie in lies for name in lie.wasi}) > 15


def test_every_interface_of_the_host_can_be_lied_to() -> None:
    from aegis.attack.cases import WASI, Lie, Told, text_of
    from aegis.wit.types import Function

    lie = Lie(told=(Told(function=Function()),), host=Function(), wasi=WASI)
    component = Aegis(cache=False).load(text_to_binary(text_of(lie)))
    assert component.kind == "component"
    assert set(component.imports) >= set(WASI)


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
    (tmp_path / "large.wasm").write_bytes(bytes(LARGEST + 1))
    (tmp_path / "broken.wat").write_text("(modul")
    found, left_out = read_seeds([str(tmp_path)])
    assert [data for _, data in found] == [b"\0asm\1\0\0\0", b"anything"]
    assert {name.rpartition("/")[2] for name in left_out} == {"large.wasm", "broken.wat"}
    with pytest.raises(PolicyError, match=r"no seed artifact among 1 file.*larger"):
        read_seeds([str(tmp_path / "large.wasm")])
    with pytest.raises(ArtifactError, match="no such file"):
        read_seeds([str(tmp_path / "missing.wasm")])


def test_a_source_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(PolicyError, match=r"no source 'smit'; did you mean smith\? There are smith, wit"):
        checked(("smit",))
    assert checked(()) == tuple(SOURCES)
    assert checked(("liar", "liar")) == ("liar",)
