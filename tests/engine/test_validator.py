"""The engine that validates components: it accepts the same as the others, never runs code, and survives forks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from aegis.component.planning.skeleton import skeleton
from aegis.engine.compile import validator
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.validator import World, validate_skeleton
from aegis.errors import ArtifactError
from aegis.wit.types import Function, Interface, Own, Resource

TEXT = """(component
  (import "a:b/c" (instance (export "r" (type $r (sub resource))) (export "make" (func (result (own $r))))))
  (core module $m (func (export "f") (param i32)))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" u32) (canon lift (core func $m "f"))))"""


def world() -> World:
    return validate_skeleton(skeleton(text_to_binary(TEXT)))


def test_a_skeleton_has_a_world() -> None:
    r = Resource("r", 0)
    assert world() == World(
        {"a:b/c": Interface("a:b/c", {"make": Function((), Own(r))}, {"r": r})},
        {"f": Function((("x", "u32"),))}, [r], 1,
    )  # fmt: skip


REFUSED = {
    "memory64": "(core module (memory i64 1))",
    "threads": "(core module (memory 1 1 shared))",
    "exceptions": "(core module (tag))",
    "gc": "(core module (type (struct)))",
    "typed references": "(core module (type $f (func)) (func (param (ref $f))))",
    "externref": "(core module (func (param externref)))",
    "maps": "(type (map string u8))",
    "fixed length": "(type (list u8 3))",
    "error contexts": "(type (list error-context))",
    "threads of components": "(core func (canon thread.index))",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_proposals_that_are_off_are_off_here_too(what: str) -> None:
    with pytest.raises(ArtifactError, match="not a component that Aegis admits"):
        validate_skeleton(text_to_binary(f"(component {REFUSED[what]})"))


def test_threads_validate_at_the_same_time() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len({str(found) for found in pool.map(lambda _: world(), range(40))}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads of other tests
def test_a_forked_child_validates_with_an_engine_of_its_own() -> None:
    expected = str(world())
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            same = (
                str(world()) == expected and validator._engines[os.getpid(), ()] != validator._engines[os.getppid(), ()]
            )
            os.write(write, b"same" if same else b"other")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"same"


def test_a_component_that_no_host_can_link_is_refused() -> None:
    with pytest.raises(ArtifactError, match="the import m is a core module, which Aegis cannot provide"):
        validate_skeleton(text_to_binary('(component (import "m" (core module)))'))
