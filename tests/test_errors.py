"""Exceptions, outcome kinds, exit codes and labels correspond one to one, as stated in a table."""

from __future__ import annotations

import pytest

from aegis import errors
from aegis.errors import AegisError, Frame, MissingImport

TABLE = [
    ("AegisError", "aegis", "aegis-error", 125),
    ("AegisInternalError", "aegis", "internal-error", 125),
    ("ArtifactError", "guest", "refused", 126),
    ("ArtifactNotFound", "embedder", "not-found", 127),
    ("CallError", "embedder", "usage", 2),
    ("Cancelled", "embedder", "interrupted", 130),
    ("CapabilityDenied", "guest", "denied", 126),
    ("DeadlineExceeded", "guest", "timeout", 124),
    ("ExportNotFound", "embedder", "not-found", 127),
    ("GuestError", "guest", "guest-error", 125),
    ("GuestExit", "guest", "exited", 1),
    ("GuestTrap", "guest", "trap", 134),
    ("HostError", "host", "host-error", 125),
    ("LimitExceeded", "guest", "quota-exceeded", 153),
    ("LinkError", "embedder", "refused", 126),
    ("MemoryExceeded", "guest", "memory-exceeded", 137),
    ("OutOfFuel", "guest", "out-of-fuel", 152),
    ("OutputExceeded", "guest", "output-exceeded", 153),
    ("PolicyError", "embedder", "policy-error", 125),
    ("QuotaExceeded", "guest", "quota-exceeded", 153),
    ("ReaderGone", "embedder", "interrupted", 141),
    ("SandboxStateError", "embedder", "sandbox-state", 125),
    ("StackExhausted", "guest", "stack-exhausted", 134),
    ("WorkerCrashed", "guest", "worker-crashed", 134),
]


@pytest.mark.parametrize(("name", "blame", "kind", "code"), TABLE)
def test_a_class_and_its_labels(name: str, blame: str, kind: str, code: int) -> None:
    error = getattr(errors, name)
    assert issubclass(error, AegisError)
    assert (error.blame, error.kind, error.exit_code) == (blame, kind, code)
    assert error.__doc__


def test_the_table_is_whole() -> None:
    assert sorted([name for name, *_ in TABLE] + ["Frame", "MissingImport"]) == sorted(errors.__all__)


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [(None, None, "m"), ("f", None, "f: m"), ("f", 3, "f:3: m"), (None, 3, "policy:3: m")],
)
def test_a_policy_error_says_where(source: str | None, line: int | None, text: str) -> None:
    error = errors.PolicyError("m", source=source, line=line)
    assert (str(error), error.reason, error.source, error.line) == (text, "m", source, line)


INSTANCES: list[tuple[AegisError, str, dict[str, object]]] = [
    (errors.ExportNotFound("m", name="n", near=["o"]), "m", {"name": "n", "near": ("o",)}),
    (errors.SandboxStateError("m", state="closed"), "m", {"state": "closed"}),
    (errors.ArtifactNotFound("m"), "m", {}),
    (errors.ArtifactNotFound(), "", {}),
    (
        errors.LinkError("m", missing=[MissingImport("a", "b", "c", "d")]),
        "m",
        {"missing": (MissingImport(module="a", name="b", type="c", remedy="d"),)},
    ),
    (
        errors.GuestTrap("m", code="unreachable", frames=[Frame(1, "f", 2)]),
        "m",
        {"code": "unreachable", "frames": (Frame(function_index=1, name="f", module_offset=2),)},
    ),
    (
        errors.CapabilityDenied("m", capability="c", target="t", remedy="r"),
        "m",
        {"capability": "c", "target": "t", "remedy": "r"},
    ),
    (errors.GuestExit(3), "the guest exited with code 3", {"code": 3}),
    (errors.OutOfFuel("m", limit="fuel", used=2, allowed=1), "m", {"limit": "fuel", "used": 2, "allowed": 1}),
    (
        errors.MemoryExceeded("m", limit="memory", phase="grown"),
        "m",
        {"limit": "memory", "phase": "grown", "used": None, "allowed": None},
    ),
    (errors.WorkerCrashed("m", signal=9), "m", {"signal": 9}),
]


@pytest.mark.parametrize(("error", "text", "attributes"), INSTANCES, ids=[type(e).__name__ for e, *_ in INSTANCES])
def test_an_error_and_its_fields(error: AegisError, text: str, attributes: dict[str, object]) -> None:
    assert str(error) == text
    assert {name: getattr(error, name) for name in attributes} == attributes


def test_errors_are_of_the_classes_that_python_expects() -> None:
    assert issubclass(errors.PolicyError, ValueError)
    assert issubclass(errors.CallError, TypeError)
    assert issubclass(errors.ExportNotFound, LookupError)
    assert issubclass(errors.SandboxStateError, RuntimeError)
    assert issubclass(errors.ArtifactNotFound, FileNotFoundError)
    with pytest.raises(errors.PolicyError, match="m"):
        raise errors.PolicyError("m")
