"""The command on components: programs, calls in WAVE, missing imports, and the output of inspect and validate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import aegis
from tests.guests.catalogue import GUESTS, built

COUNTER = str(GUESTS / "components" / "counter.wat")
SHOP = str(GUESTS / "shop" / "shop.wat")


def test_a_program_runs_with_its_arguments() -> None:
    done = aegis("run", str(built("hello-component")))
    assert (done.code, done.out) == (0, "hello, world\n")


CALLS: list[tuple[str, int, str]] = [
    ("sum([1, -5, 9223372036854775807])", 0, "9223372036854775803\n"),
    ('aegis:c-text/counting#count("a b\\n")', 0, "{bytes: 4, words: 2, lines: 1}\n"),
    ('aegis:c-text/counting@1.0.0#reverse("ab")', 0, 'ok("ba")\n'),
    ('reverse("é")', 0, "err(0)\n"),
    ("sum([1, x])", 2, "column 9: expected an integer for s64, found 'x]'"),
    ('count("a", 1)', 2, "no more than 1 argument"),
    ("count()", 2, "the function takes 1 argument (text: string) -> counts, not 0"),
    ("cont()", 127, "the component exports no function 'cont': did you mean"),
    ("count", 2, "'count' is not a call: write it like"),
]


@pytest.mark.parametrize(("call", "code", "shown"), CALLS, ids=[call[:30] for call, _, _ in CALLS])
def test_a_call_in_wave(call: str, code: int, shown: str) -> None:
    done = aegis("run", "--invoke", call, str(built("c-text")))
    assert done.code == code
    assert (done.out == shown) if code == 0 else (shown in done.err and done.err.count("\n") == 1)


def test_words_are_arguments_too() -> None:
    done = aegis("run", "-e", "count", str(built("c-text")), "--", "two words")
    assert (done.code, done.out) == (0, "{bytes: 9, words: 2, lines: 0}\n")


def test_json_is_one_document() -> None:
    done = aegis("-f", "json", "run", "--invoke", 'reverse("ab")', str(built("c-text")))
    document = json.loads(done.out)
    assert (document["status"], document["exit_code"]) == ("returned", 0)


def test_missing_imports_are_listed_with_their_remedy() -> None:
    done = aegis("run", "--invoke", "total([])", SHOP)
    assert done.code == 126
    assert "nothing provides 1 import: acme:shop/prices@1.2.0 (interface of 1 function)" in done.err
    assert "--trap-missing" in done.err
    assert aegis("run", "--trap-missing", "--invoke", "total([])", SHOP).out == "ok(0)\n"
    trapped = aegis("run", "--trap-missing", "--invoke", 'total(["a"])', SHOP)
    assert trapped.code == 134
    assert "the guest called acme:shop/prices@1.2.0#get, which nothing provides" in trapped.err


def test_a_component_without_a_program_lists_its_exports() -> None:
    done = aegis("run", COUNTER)
    assert done.code == 127
    assert "the component exports no wasi:cli/run: name a function with --invoke" in done.err


def test_inspect_shows_interfaces_modules_and_needs() -> None:
    done = aegis("inspect", str(built("hello-component")))
    for line in ("exports:", "  wasi:cli/run@0.2.", "  wasi:io/streams@0.2.", "modules:", "clock: --allow-clock"):
        assert line in done.out
    picture = json.loads(aegis("-f", "json", "inspect", "--all", COUNTER).out)
    assert picture["kind"] == "component"
    assert len(picture["modules"]) == 3
    assert picture["exports"][0]["resources"] == ["counter"]


def test_inspect_prints_wit_that_reads_back(tmp_path: Path) -> None:
    done = aegis("inspect", "--wit", SHOP)
    assert "import acme:shop/prices@1.2.0;" in done.out
    assert "get: func(name: string) -> result<u32, problem>;" in done.out
    (tmp_path / "world.wit").write_text(done.out)
    assert aegis("bindgen", str(tmp_path / "world.wit"), "-o", str(tmp_path / "made")).code == 0
    assert aegis("inspect", "--wit", str(GUESTS / "add" / "add.wat")).code == 126


def test_validate_knows_components() -> None:
    done = aegis("validate", "--strict", COUNTER, str(built("hello-component")))
    assert done.code == 0
    assert "a component of 3 modules and 1 component" in done.out
    assert aegis("validate", SHOP).code == 0
    strict = aegis("validate", "--strict", SHOP)
    assert strict.code == 126
    assert "nothing provides 1 import: acme:shop/prices@1.2.0 (interface of 1 function): " in strict.err
    assert "--trap-missing" in strict.err
    done = aegis("validate", "--strict", "--trap-missing", SHOP)
    assert done.code == 0
    assert done.out.endswith("; nothing provides 1 import\n")


def test_configuration_reaches_the_guest(tmp_path: Path) -> None:
    text = """(component
      (type $store (instance
        (type $e (variant (case "upstream" string) (case "io" string)))
        (export "error" (type $error (eq $e)))
        (type $o (option string))
        (type $r (result $o (error $error)))
        (export "get" (func (param "key" string) (result $r)))))
      (import "wasi:config/store@0.2.0-rc.1" (instance $i (type $store)))
      (core module $memory (memory (export "memory") 1) (data (i32.const 0) "key")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
      (core instance $memory (instantiate $memory))
      (core func $get (canon lower (func $i "get")
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
      (core module $m (import "" "get" (func $get (param i32 i32 i32))) (import "" "memory" (memory 1))
        (func (export "size") (result i32)
          (call $get (i32.const 0) (i32.const 3) (i32.const 16))
          (if (result i32) (i32.load8_u (i32.const 20)) (then (i32.load (i32.const 28))) (else (i32.const -1)))))
      (core instance $m (instantiate $m (with "" (instance
        (export "get" (func $get)) (export "memory" (memory $memory "memory"))))))
      (func (export "size") (result s32) (canon lift (core func $m "size"))))"""
    path = tmp_path / "config.wat"
    path.write_text(text)
    assert aegis("run", "--invoke", "size()", str(path)).out == "-1\n"
    assert aegis("run", "--config-value", "key=four", "--invoke", "size()", str(path)).out == "4\n"
    assert aegis("run", "--config-value", "key", "--invoke", "size()", str(path)).code == 125
