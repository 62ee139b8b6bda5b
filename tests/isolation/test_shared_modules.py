"""Code of components for workers: one file per core module, made by the process that compiled it.

A compile worker can be compromised by the bytes that it compiles. Oracle: its code is used only for artifacts that
contain the same bytes, and bytes that were compiled once are not compiled again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, AegisError, ArtifactError, FilesystemCapability, PolicyError
from aegis.component.planning.plain_world import world_to_plain
from aegis.isolation.parent.code import _APART_BYTES, MAX_MODULES
from aegis.isolation.parent.compiling import Compiled, Compiler
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS
from tests.isolation.isolated import only_where_there_are_workers, runtime
from tests.isolation.liar import Peer
from tests.isolation.test_lying_compiler import LyingCompiler

pytestmark = only_where_there_are_workers


def module(number: int, size: int = 0) -> str:
    """Return the text of a distinct core module that returns ``number``, padded to about ``size`` bytes."""
    padding = f'(memory 16) (data (i32.const 0) "{"x" * size}")' if size else ""
    return f'{padding} (func (export "f") (result i32) i32.const {number})'


def component(*modules: str) -> str:
    """Return a component that instantiates these modules, and exports the function of each as ``f0``, ``f1``, …

    The modules have no names, which would be part of their bytes.
    """
    lines = []
    for n, text in enumerate(modules):
        lines += [
            f"(core module {text})",
            f"(core instance $i{n} (instantiate {n}))",
            f'(func (export "f{n}") (result u32) (canon lift (core func $i{n} "f")))',
        ]
    return "(component\n  " + "\n  ".join(lines) + ")"


SHARED = module(7, 2 * _APART_BYTES)
SMALL = module(8)
COUNTED = {"fuel": 1_000_000}
"""With it the code is the same for both places; without fuel, code for workers has no epoch checks."""


class Spy:
    """Records the requests to compile workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, int, int]] = []
        """The kind of each artifact, its size, and how many of its modules were compiled."""
        original = Compiler.compiled

        def compiled(compiler: Compiler, artifact: Any, modules: Sequence[int]) -> Compiled:
            self.asked.append((artifact.kind, artifact.size, len(modules)))
            return original(compiler, artifact, modules)

        monkeypatch.setattr(Compiler, "compiled", compiled)

    def take(self) -> list[tuple[str, int]]:
        """Return the kinds and numbers since the last call."""
        found, self.asked = [(kind, count) for kind, _, count in self.asked], []
        return found


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Spy:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    return Spy(monkeypatch)


def values(aegis: Aegis, text: str, **options: Any) -> list[int]:
    """Return the results of the component's functions in a sandbox."""
    loaded: Any = aegis.load_wat(text)
    with aegis.sandbox(loaded, **options) as sandbox:
        return [sandbox.call(name) for name in loaded.callables()]


def isolated(**options: Any) -> Aegis:
    return runtime("isolated", **{"cache": True, "isolation": {"workers": 0}, **COUNTED, **options})


def in_process(**options: Any) -> Aegis:
    return runtime("in-process", **{"cache": True, **COUNTED, **options})


# -- compiled once ---------------------------------------------------------------------------------------


def test_a_module_of_several_components_is_compiled_once_a_cache(spy: Spy) -> None:
    assert values(isolated(), component(SHARED, SMALL)) == [7, 8]
    assert spy.take() == [("component", 1), ("module", 1)]
    assert values(isolated(), component(module(1), SHARED)) == [1, 7]
    assert spy.take() == [("component", 1)], "the shared module was there"
    assert values(isolated(), component(module(1), SHARED)) == [1, 7]
    assert spy.take() == []


def test_a_module_on_its_own_serves_the_components_that_embed_it(spy: Spy) -> None:
    aegis = isolated()
    with aegis.sandbox(aegis.load_wat(f"(module {SHARED})")) as sandbox:
        assert sandbox.call("f") == 7
    assert spy.take() == [("module", 1)]
    assert values(isolated(), component(SHARED)) == [7]
    assert spy.take() == [("component", 0)], "it was validated, and nothing compiled"


def test_equal_modules_of_one_component_are_compiled_once(spy: Spy) -> None:
    assert values(isolated(), component(SMALL, SMALL, SMALL)) == [8, 8, 8]
    assert values(isolated(), component(SHARED, SMALL, SHARED)) == [7, 8, 7]
    assert spy.take() == [("component", 1), ("component", 1), ("module", 1)]


def test_without_a_cache_one_worker_compiles_all(spy: Spy) -> None:
    assert values(isolated(cache=False), component(SHARED, SMALL, module(9))) == [7, 8, 9]
    assert spy.take() == [("component", 3)]


# -- the parent's own code --------------------------------------------------------------------------------


def test_code_that_the_parent_compiled_serves_its_workers(spy: Spy) -> None:
    aegis = in_process(cache=False)
    loaded = aegis.load_wat(component(SHARED, SMALL))
    with aegis.sandbox(loaded, isolate=True) as sandbox:
        assert (sandbox.call("f0"), sandbox.call("f1")) == (7, 8)
    assert spy.take() == []


@pytest.mark.parametrize("text", [component(SHARED, SMALL), f"(module {SHARED})", f"(module {SMALL})"])
def test_code_that_another_process_compiled_for_itself_serves_workers(spy: Spy, text: str) -> None:
    in_process().load_wat(text)
    aegis = isolated()
    loaded = aegis.load_wat(text)
    assert loaded.cached
    with aegis.sandbox(loaded) as sandbox:
        assert sandbox.call("f0" if text.startswith("(component") else "f") in (7, 8)
    assert spy.take() == []


def test_the_parents_code_serves_module_by_module(spy: Spy) -> None:
    in_process().load_wat(component(SHARED, SMALL))
    assert values(isolated(), component(module(1), SMALL, SHARED)) == [1, 8, 7]
    assert spy.take() == [("component", 1)], "of the three modules two were there"


@pytest.mark.parametrize(("own", "other"), [
    ({}, {"stack": "256KiB"}), ({}, {"fuel": None}), ({"fuel": None}, {}), ({"fuel": None}, {"fuel": None}),
])  # fmt: skip
def test_code_with_other_settings_is_not_used(spy: Spy, own: dict[str, Any], other: dict[str, Any]) -> None:
    """Without fuel, code for workers has other settings than code for this process."""
    in_process(**own).load_wat(component(SHARED))
    assert values(isolated(**other), component(SHARED)) == [7]
    assert ("module", 1) in spy.take()


def test_workers_keep_code_with_fuel_and_without_it_apart(spy: Spy) -> None:
    for options in ({}, {"fuel": None}):
        assert values(isolated(**options), component(SHARED)) == [7]
        assert spy.take() == [("component", 0), ("module", 1)]
    for options in ({}, {"fuel": None}):
        assert values(isolated(**options), component(SHARED)) == [7]
    assert spy.take() == []


def test_the_file_of_the_parents_code_is_not_given_to_workers(spy: Spy) -> None:
    """The parent maps it: a process that could write to it could write into the parent."""
    in_process().load_wat(component(module(7, 2 << 20)))
    aegis = isolated()
    loaded: Any = aegis.load_wat(component(module(7, 2 << 20)))
    assert spy.take() == []
    (code,) = loaded.isolated.values()
    cached = {os.stat(path).st_ino for path in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.code")}
    assert cached
    assert not cached & {os.fstat(file.descriptor).st_ino for file in code.distinct}


def test_the_parent_does_not_run_code_that_a_worker_compiled(spy: Spy) -> None:
    values(isolated(), component(SHARED, SMALL))
    spy.take()
    aegis = in_process()
    loaded: Any = aegis.load_wat(component(SHARED, SMALL))
    assert not loaded.cached
    assert not any(module.cached for module in loaded.modules.values())
    again: Any = in_process().load_wat(component(SHARED, SMALL))
    assert again.cached, "as it does what it compiled itself"


# -- what a worker that was taken over makes ----------------------------------------------------------------


def compilers(aegis: Aegis, *speeches: Callable[[Peer, Sequence[int]], None]) -> list[LyingCompiler]:
    """Let these scripts answer for the next compile workers."""
    liars = [LyingCompiler(speak) for speak in speeches]
    waiting = iter(liars)
    pool: Any = aegis._isolated.pool
    honest = pool.take
    pool.take = lambda: next(waiting, None) or honest()
    return liars


def garbage(world: Any, modules: int = 1) -> Callable[[Peer, Sequence[int]], None]:
    """Return a script that answers with invalid code."""

    def speak(peer: Peer, descriptors: Sequence[int]) -> None:
        os.pwrite(descriptors[1], bytes(range(256)) * 16 * modules, 0)
        peer.send(["done", None if world is None else [world, [4096] * modules], []])

    return speak


def test_a_worker_that_compiles_for_every_component_sees_that_module_alone(spy: Spy) -> None:
    seen: list[bytes] = []
    text = component(module(1), SHARED, SMALL)

    def speak(peer: Peer, descriptors: Sequence[int]) -> None:
        seen.append(os.pread(descriptors[0], 1 << 20, 0))
        assert len(descriptors) == 2
        garbage(None)(peer, descriptors)

    world = world_to_plain(runtime("in-process").load_wat(text).world)  # type: ignore[union-attr]
    aegis = isolated()
    compilers(aegis, garbage(world, 2), speak)
    aegis.load_wat(text)
    assert [len(data) > _APART_BYTES for data in seen] == [True]
    assert seen[0] == runtime("in-process").load_wat(f"(module {SHARED})").binary


def test_code_that_was_made_beside_other_modules_serves_that_component_alone(spy: Spy) -> None:
    evil, good = component(module(666), SMALL), component(SMALL, module(1))
    world = world_to_plain(runtime("in-process").load_wat(evil).world)  # type: ignore[union-attr]
    aegis = isolated()
    compilers(aegis, garbage(world, 2))
    aegis.load_wat(evil)
    with pytest.raises(AegisError):
        values(isolated(), evil)  # it comes from the cache, where it was compiled from the component's own bytes
    assert values(isolated(), good) == [8, 1]
    assert values(runtime("in-process", cache=True), evil) == [666, 8]


# -- how many ------------------------------------------------------------------------------------------------


def test_a_component_of_as_many_modules_as_a_worker_takes_runs(spy: Spy) -> None:
    text = component(*map(module, range(MAX_MODULES)))
    assert values(isolated(instances=None, cache=False), text) == list(range(MAX_MODULES))
    more = component(*map(module, range(MAX_MODULES + 1)))
    with pytest.raises(ArtifactError, match=r"too many core modules for a worker \(129/128\)"):
        isolated(instances=None, cache=False).load_wat(more)
    assert values(runtime("in-process", instances=None), more) == list(range(MAX_MODULES + 1))


def test_equal_modules_count_once(spy: Spy) -> None:
    text = component(*[SMALL] * (MAX_MODULES + 10))
    assert values(isolated(instances=None, cache=False), text) == [8] * (MAX_MODULES + 10)


def test_more_open_files_than_a_worker_takes_are_refused_with_a_remedy(spy: Spy, tmp_path: Path) -> None:
    files = []
    for n in range(MAX_DESCRIPTORS):
        path = tmp_path / f"file-{n}"
        path.write_text(str(n))
        files.append(f"{path}::/in/{n}")
    aegis = isolated(cache=False, filesystem=FilesystemCapability.read_only(*files))
    loaded = aegis.load_wat(component(SMALL))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(PolicyError, match="grant directories instead of single files"):
            aegis.sandbox(loaded)
    assert len(os.listdir("/proc/self/fd")) <= before
    aegis = isolated(cache=False, filesystem=FilesystemCapability.read_only(*files[:100]))
    assert values(aegis, component(*map(module, range(60)))) == list(range(60))


def test_threads_that_begin_at_once_send_one_description_of_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second file in its place would close the first, and another descriptor may have its number by then."""
    from aegis.isolation.parent import code as codes
    from tests.keyvalue_guest import guest

    made = Aegis(cache=False, isolation=True)
    with made:
        component = made.load_wat(guest())
        code = made._isolated.code(component, "the component")
        found: list[object] = []
        other = threading.Thread(target=lambda: found.append(code.shape(component)))
        dumps = codes.dumps

        def slow(value: object, protocol: int) -> bytes:
            monkeypatch.setattr(codes, "dumps", dumps)
            other.start()
            other.join(0.2)  # it ends by then unless it waits for this thread, as it should
            return dumps(value, protocol)

        monkeypatch.setattr(codes, "dumps", slow)
        first = code.shape(component)
        other.join()
        assert not isinstance(first, bytes)
        assert found == [first]
        assert first.size() > 0
