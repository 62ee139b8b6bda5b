"""Every surface has the capabilities of the table, and a new one needs its module and one row.

Oracles: the table and its declarations; for a new capability, its behaviour on each surface of a changed copy of the
package.
"""

from __future__ import annotations

import difflib
import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

import aegis
import aegis.prelude
from aegis import Aegis, Builder, KeyValueCapability, Policy, PolicyError, StdioCapability, parse_policy
from aegis.cli.main import plain_run
from aegis.cli.options import grants, make_policy
from aegis.cli.output import Output
from aegis.cli.run_command import command
from aegis.host.grants import Grants, acquire
from aegis.policy.capabilities import CAPABILITIES, PARENT, CapabilityRow, capability_class, declaration, row_of
from aegis.policy.keys import all_keys
from aegis.policy.merging import stated
from scripts.capability_surfaces import FILES, filled, stale_surfaces

ROOT = Path(__file__).resolve().parent.parent.parent
every = pytest.mark.parametrize("row", CAPABILITIES, ids=lambda row: row.name)


def test_the_lines_that_repeat_the_table_are_those_of_the_table() -> None:
    assert stale_surfaces(ROOT) == {}, "run scripts/regen"


def test_a_region_that_lacks_a_line_is_written_anew() -> None:
    text = (ROOT / "aegis" / "policy" / "policy.py").read_text(encoding="utf-8")
    line = "    keyvalue: KeyValueCapability | None = None\n"
    assert text.count(line) == 1
    assert filled(text.replace(line, "")) == text


@every
def test_the_policy_has_a_field_of_the_class_that_grants_nothing(row: CapabilityRow) -> None:
    value = getattr(Policy(), row.name)
    assert value is None if row.optional else value == capability_class(row)()
    assert capability_class(row)().describe() == []
    with pytest.raises(PolicyError, match=f"{row.name}: expected {row.kind}, not int"):
        Policy(**{row.name: 5})  # type: ignore[arg-type]


@every
def test_the_library_has_a_keyword_a_method_and_a_public_name(row: CapabilityRow) -> None:
    kind = capability_class(row)
    for function in (Aegis, aegis.run, Policy.from_keywords):
        parameter = inspect.signature(function).parameters[row.name]
        plain = f"{row.kind} | None" if row.optional else row.kind
        assert parameter.annotation == (declaration(row.name).accepts or plain)
    method = getattr(Builder, f"with_{row.name}")
    assert inspect.getdoc(method) == declaration(row.name).builder
    assert getattr(method(Builder(), kind())._policy, row.name) == kind()
    for module in (aegis, aegis.policy, aegis.prelude):
        assert getattr(module, row.kind) is kind
        assert row.kind in module.__all__


@every
def test_the_command_line_has_its_options(row: CapabilityRow) -> None:
    declared = declaration(row.name)
    assert tuple(flag.name for flag in declared.flags) == row.flags
    of_click = {name: param for param in command.params for name in param.opts}
    for flag in declared.flags:
        assert of_click[flag.name].help == flag.help
        assert [o.names[0] for o in grants(["m.wasm", f"{flag.name}=x"])] == ["--isolate", *row.flags]
    assert [option.names[0] for option in grants(["m.wasm"])] == ["--isolate"]
    assert all(name in declared.needs for name in row.flags if name != "--deny-net")


@every
def test_the_policy_file_has_its_keys_and_no_others(row: CapabilityRow) -> None:
    declared = declaration(row.name)
    if declared.read is None:
        assert row.name not in all_keys()["capabilities"]
        with pytest.raises(PolicyError, match=f"'{row.name}' is not a key of capabilities"):
            parse_policy(f"[capabilities.{row.name}]")
        return
    assert all_keys()["capabilities"][row.name].meaning == declared.summary
    assert all_keys()[f"capabilities.{row.name}"] == declared.tables()[""]
    assert getattr(parse_policy(f"[capabilities.{row.name}]"), row.name) == capability_class(row)()
    with pytest.raises(PolicyError, match=f"'zzz' is not a key of capabilities.{row.name}: use one of "):
        parse_policy(f"[capabilities.{row.name}]\nzzz = 1")
    with pytest.raises(PolicyError, match=f"policy:2: '{row.name}' must be a table, not text"):
        parse_policy(f"[capabilities]\n{row.name} = 'x'")


@every
def test_scalar_keys_of_options_are_scalar_fields_of_the_file(row: CapabilityRow) -> None:
    """An option that names a key the merge does not know would be dropped silently when it names the default."""
    declared = declaration(row.name)
    known = declared.tables().get("", {}) if declared.read else {f.name: f for f in fields(capability_class(row))}
    assert {key for flag in declared.flags for key in flag.keys} <= set(known)


STATEMENTS: dict[str, list[str]] = {
    "filesystem": ["--allow-read", "/srv"], "environment": ["--allow-env", "A=1"], "clock": ["--allow-clock"],
    "random": ["--allow-random"], "logging": ["--allow-logging"], "stdio": ["--stdin", "inherit"],
    "network": ["--allow-net", "https://a.example"], "keyvalue": ["--allow-keyvalue", "b"],
    "config": ["--config-value", "a=b"],
}  # fmt: skip


def stating(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Return the policy of a command line."""
    seen: list[Any] = []
    monkeypatch.setattr("aegis.cli.run.run", lambda *values: seen.append(values) or 0)
    started = plain_run(["run", *words, "m.wasm"], Output())
    assert started is not None
    started()
    return make_policy((), seen[0][3], capture=True)


@every
def test_a_worker_gets_what_the_table_says(row: CapabilityRow, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = stating(STATEMENTS[row.name], monkeypatch)
    value = getattr(policy, row.name)
    assert value != getattr(Policy(), row.name)
    assert value.describe() == policy.describe() != []
    known = policy.for_workers()
    assert known == (Policy() if row.place == PARENT else policy)
    assert known.named == frozenset()


def test_a_name_of_no_capability_has_no_row() -> None:
    assert row_of("lamp") is None
    assert row_of("") is None


# -- a provider, acquired by its class --------------------------------------------------------------


class Bell:
    """A provider that counts."""

    made: ClassVar[list[Bell]] = []

    def __init__(self) -> None:
        self.closed = 0

    @classmethod
    def acquire(cls, grants: Grants) -> Bell:
        cls.made.append(cls())
        assert grants.policy == Policy()
        return cls.made[-1]

    def close(self) -> None:
        self.closed += 1


def test_a_provider_is_acquired_once_and_closed_with_the_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bell, "made", [])
    scope: Any = None
    first, other = (acquire(Policy(), scope=scope) for _ in range(2))
    assert first.of(Bell) is first.of(Bell)
    assert other.of(Bell) is not first.of(Bell)
    first.close()
    assert [bell.closed for bell in Bell.made] == [1, 0]


# -- a new capability -------------------------------------------------------------------------------

ROW = '    _row("lamp", "LampCapability", ("--allow-lamp", "--lamp-watts"), PARENT, optional=True),\n'
PROBE = """
import inspect, json, sys
import aegis, aegis.prelude
from aegis import Aegis, LampCapability, Policy, parse_policy
from aegis.cli.options import make_policy, run_options
from aegis.cli.command_line import read_line
from aegis.host.files.protected import protected_by
from aegis.policy.keys import all_keys
from aegis.policy.remedies import explained
from aegis.values import Decision

def of_words(*words):
    known = run_options(words)
    return make_policy((), read_line(words, known, guest=True).values(known), capture=True)

from aegis.cli.run_command import command
file = parse_policy('[capabilities.lamp]\\nnames = ["red"]\\nwatts = 5')
try:
    parse_policy('[capabilities.lamp]\\nnames = [\\n"a b"]')
except aegis.PolicyError as error:
    mistake = str(error)
option = of_words("--allow-lamp", "blue", "--lamp-watts=7", "m.wasm")
raw = Decision("lamp", "switch", "green", False, "no lamp", wanted="green")
print(json.dumps({
    "keyword": Aegis(lamp=LampCapability(names=("a",)), cache=False).policy.lamp.names,
    "builder": Aegis.builder().with_lamp(LampCapability(names=("b",))).with_cache(False).build().policy.describe(),
    "signature": [str(inspect.signature(f).parameters["lamp"].annotation) for f in (Aegis, aegis.run)],
    "names": ["LampCapability" in m.__all__ for m in (aegis, aegis.policy, aegis.prelude)],
    "file": file.describe(), "named": sorted(file.named), "mistake": mistake,
    "keys": sorted(all_keys()["capabilities.lamp"]), "option": option.describe(),
    "help": [p.help for p in command.params if p.name == "allow_lamp"],
    "merged": option.merged(file).describe(),
    "remedy": explained(Policy(), raw).remedy,
    "hostile": explained(Policy(), raw._replace(wanted="; rm")).remedy,
    "worker": option.for_workers().lamp is None,
    "protected": [p.path for p in protected_by(option)],
    "default": Policy().lamp is None,
    "written": aegis.dump_policy(file), "again": parse_policy(aegis.dump_policy(option)) == option.merged(Policy()),
}))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout with a new capability: its module, one row, and the lines that regen writes."""
    root = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "aegis", root / "aegis", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "capability_surfaces.py", root / "scripts")
    shutil.copy(Path(__file__).with_name("lamp.py"), root / "aegis" / "policy" / "lamp.py")
    table = root / "aegis" / "policy" / "capabilities.py"
    text = table.read_text(encoding="utf-8")
    end = text.index(')\n"""All capabilities')
    table.write_text(text[:end] + ROW + text[end:], encoding="utf-8")
    writing = (
        "import pathlib\nfrom scripts.capability_surfaces import stale_surfaces\n"
        "for name, text in stale_surfaces(pathlib.Path('.')).items(): pathlib.Path(name).write_text(text)\n"
        "print(sorted(stale_surfaces(pathlib.Path('.'))))"
    )
    assert python(root, writing).strip() == "[]"
    return root


def python(root: Path, code: str) -> str:
    """Return the output of a program that imports the package from ``root``."""
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_new_capability_is_its_module_and_one_row(changed: Path) -> None:
    """Every surface has it: no other file is edited by hand."""
    found = json.loads(python(changed, PROBE))
    assert found == {
        "keyword": ["a"], "builder": ["lamp b of 5 W"], "signature": ["LampCapability | None"] * 2,
        "names": [True, True, True], "file": ["lamp red of 5 W"], "named": ["lamp.names", "lamp.watts"],
        "mistake": "policy:3: lamp: 'a b' is not the name of a lamp: use letters and digits",
        "keys": ["names", "watts"], "option": ["lamp blue of 7 W"], "help": ["Grant a lamp."],
        "merged": ["lamp blue of 5 W", "lamp red of 5 W"], "remedy": "--allow-lamp green", "hostile": "",
        "worker": True, "protected": ["/dev/lamps/blue"], "default": True,
        "written": '[capabilities.lamp]\nnames = ["red"]\nwatts = 5\n', "again": True,
    }  # fmt: skip


def test_regen_writes_the_other_lines(changed: Path) -> None:
    """Only the files with regions differ, by added lines that name the capability, and lines that were wrapped anew."""
    differ = {
        str(path.relative_to(changed))
        for path in (changed / "aegis").rglob("*.py")
        if not (ROOT / path.relative_to(changed)).exists()
        or path.read_bytes() != (ROOT / path.relative_to(changed)).read_bytes()
    }
    assert differ == {*FILES, "aegis/policy/lamp.py", "aegis/policy/capabilities.py"}
    before = (ROOT / "aegis" / "policy" / "policy.py").read_text(encoding="utf-8").splitlines()
    after = (changed / "aegis" / "policy" / "policy.py").read_text(encoding="utf-8").splitlines()
    added = [line[2:].strip() for line in difflib.ndiff(before, after) if line.startswith("+ ")]
    assert "lamp: LampCapability | None = None" in added
    assert all("Lamp" in line or not line for line in added), added


def test_a_scalar_counts_if_it_is_named_or_not_the_default() -> None:
    level = aegis.LoggingCapability(min_level="warn")
    assert stated(level, (), "enabled", "min_level") == {"min_level": "warn"}
    assert stated(level, {"enabled"}, "enabled", "min_level") == {"enabled": False, "min_level": "warn"}


@pytest.mark.parametrize(
    ("policy", "files"),
    [
        (Policy(stdio=StdioCapability(stdin="file:/srv/in")), [("/srv/in", True)]),
        (Policy(stdio=StdioCapability(stdin="inherit")), []),
        (
            Policy(keyvalue=KeyValueCapability(buckets={"a": "memory", "b": "sqlite:/srv/b.db"})),
            [(f"/srv/b.db{ending}", False) for ending in ("", "-journal", "-wal", "-shm")],
        ),
    ],
)  # fmt: skip
def test_a_statement_declares_the_files_of_the_host_that_it_names(
    policy: Policy, files: list[tuple[str, bool]]
) -> None:
    stated_files = []
    for row in CAPABILITIES:
        declared = declaration(row.name).host_files
        if getattr(policy, row.name) is not None and declared is not None:
            stated_files += [(file.path, file.readable) for file in declared(getattr(policy, row.name))]
    assert stated_files == files


def test_a_mapping_is_a_short_form_of_buckets() -> None:
    assert Aegis(keyvalue={"a": "memory"}).policy == Policy(keyvalue=KeyValueCapability(buckets={"a": "memory"}))


def test_the_file_of_standard_input_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stating(["--stdin", "in"], monkeypatch).stdio.stdin == "file:in"
    with pytest.raises(PolicyError, match="--stdin: the file name is empty"):
        stating(["--stdin", ""], monkeypatch)


def test_sigpipe_is_a_bool() -> None:
    with pytest.raises(PolicyError, match="sigpipe must be True or False, not int"):
        StdioCapability(sigpipe=1)  # type: ignore[arg-type]
