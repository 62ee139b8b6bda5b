"""A missing layer of isolation is told once on stderr, and ``doctor --strict`` fails and says what to do.

The oracle is the system: a seccomp filter hides Landlock and namespaces from the command, as a container runtime does.
"""

from __future__ import annotations

import ctypes
import errno
import json
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from aegis.isolation.confine.remedies import REMEDIES
from aegis.policy.isolation import LAYERS
from tests.cli.command import COMMAND, ROOT, SECONDS, Ended, guest

NUMBERS = {"x86_64": {"unshare": 272, "landlock": 444}, "aarch64": {"unshare": 97, "landlock": 444}}
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="workers need Linux on a known machine"
)
HIDDEN = ("namespaces", "landlock-files", "landlock-net")


def hide_layers() -> None:
    """Answer unshare(2) with EPERM and landlock_create_ruleset(2) with ENOSYS, in this process and its children."""
    numbers = NUMBERS[platform.machine()]
    load, equal, answer, allow = 0x20, 0x15, 0x00050000, 0x7FFF0000
    code = [
        (load, 0, 0, 0),
        (equal, 0, 1, numbers["unshare"]), (0x06, 0, 0, answer | errno.EPERM),
        (equal, 0, 1, numbers["landlock"]), (0x06, 0, 0, answer | errno.ENOSYS),
        (0x06, 0, 0, allow),
    ]  # fmt: skip
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    libc = ctypes.CDLL(None, use_errno=True)
    pointer = struct.pack("@HP", len(code), ctypes.addressof(program))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(pointer), 0, 0) == 0


def hidden(*words: object) -> Ended:
    """Run the command where the layers are missing."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, timeout=SECONDS, cwd=ROOT, check=False,
        preexec_fn=hide_layers,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("words", [("--isolate",), ("-c", "policy")])
def test_a_run_without_layers_says_so_once_and_names_them(tmp_path: Path, words: tuple[str, ...]) -> None:
    policy = tmp_path / "aegis.toml"
    policy.write_text("[isolation]\n")
    done = hidden("run", *(policy if word == "policy" else word for word in words), guest("hello"))
    assert (done.code, done.out) == (0, "hello, world\n")
    assert done.err.count("\n") == done.err.count("note: isolated without ") == 1
    assert all(name in done.err for name in HIDDEN)
    assert "aegis doctor --strict" in done.err


def test_a_component_is_no_different(tmp_path: Path) -> None:
    path = tmp_path / "component.wat"
    path.write_text("""(component (core module $m (func (export "f") (result i32) (i32.const 7)))
      (core instance $i (instantiate $m)) (func (export "f") (result u32) (canon lift (core func $i "f"))))""")
    done = hidden("run", "--isolate", "--invoke", "f()", path)
    assert (done.code, done.out) == (0, "7\n")
    assert done.err.count("note: isolated without ") == 1, done


@pytest.mark.parametrize("words", [("-q",), ("-f", "json")])
def test_quiet_and_json_have_no_note(words: tuple[str, ...]) -> None:
    done = hidden(*words, "run", "--isolate", guest("hello"))
    assert (done.code, done.err) == (0, "")
    if "json" in words:
        missing = {layer["layer"] for layer in done.document["isolation"] if not layer["active"]}
        assert missing >= set(HIDDEN)


def test_layers_that_the_policy_leaves_out_are_not_noted(tmp_path: Path) -> None:
    policy = tmp_path / "aegis.toml"
    policy.write_text(f"[isolation]\nwithout = {json.dumps(list(HIDDEN))}\n")
    assert hidden("-c", policy, "run", guest("hello")).err == ""


def test_strict_isolation_refuses_without_a_note() -> None:
    done = hidden("run", "--isolate=strict", guest("hello"))
    assert done.code != 0
    assert "note:" not in done.err


def test_a_campaign_notes_missing_layers_once() -> None:
    done = hidden("fuzz", "--isolate", "--runs=3", "--jobs=1", guest("add"))
    assert done.err.count("note: isolated without ") == 1, done


def test_doctor_strict_fails_and_tells_what_to_do_for_each_layer() -> None:
    lenient, strict, as_json = (
        hidden("doctor"),
        hidden("doctor", "--strict"),
        hidden("-f", "json", "doctor", "--strict"),
    )
    assert (lenient.code, strict.code, as_json.code) == (0, 1, 1)
    assert (as_json.document["status"], as_json.document["exit_code"]) == ("failure", 1)
    checks = {check["name"]: check for check in as_json.document["checks"]}
    for name in HIDDEN:
        assert checks[name]["level"] == "warning"
        assert checks[name]["remedy"] == REMEDIES[name]
        assert REMEDIES[name] in strict.out
    assert "sysctl" in checks["namespaces"]["remedy"]
    assert "docker run --security-opt" in checks["landlock-files"]["remedy"]
    assert all(check["remedy"] is None for check in checks.values() if check["level"] == "ok")


def test_every_layer_has_a_remedy() -> None:
    assert set(REMEDIES) == set(LAYERS)
