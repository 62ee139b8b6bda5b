"""The pytest plugin of Aegis: a sandbox for each test, guests by a marker, guests built from source.

It comes with the extra ``aegis-wasm[fuzz]`` and is registered by entry point; ``-p aegis.testing.plugin`` has it too::

    @pytest.mark.guest("guests/parser.wasm", timeout="5s", fuel=1_000_000)
    def test_an_endless_text_is_refused(sandbox):
        outcome = sandbox.run("parse", "[" * 100_000)
        assert outcome.exceeded("fuel")

    def test_a_guest_from_source(guest_build, fresh_sandbox):
        path = guest_build('(module (func (export "f") unreachable))')
        assert fresh_sandbox(path).run("f").trapped("unreachable")

``aegis_runtime``
    The runtime: that of the default policy, changed by the keywords of the test's marker. A fixture of the same name in
    a ``conftest.py`` replaces it, for example with ``Aegis.from_config(…)``; keywords of markers are then refused.

``sandbox``
    A sandbox of the marked guest, one for each test.

``fresh_sandbox``
    A function that makes sandboxes of the marked guest, or of the one that it is given; all are closed after the test.
    Hypothesis runs one test many times and refuses fixtures that would be the same each time: take this one, and
    ``@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])``, or call ``sandbox.reset()`` first::

        @pytest.mark.guest("parser.wasm")
        @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.text())
        def test_no_text_traps(fresh_sandbox, text):
            with fresh_sandbox() as sandbox:
                assert not sandbox.run("parse", text).trapped()

``guest_build``
    A function that builds a guest and returns its path: from text of WebAssembly, a ``.wat`` file, or a source and the
    command that compiles it. What was built is kept in pytest's cache, by a digest of all that went into it.

``@pytest.mark.guest(path, *, imports=…, args=…, isolate=…, **keywords)``
    On a function, class or module; the nearest counts. ``path`` is relative to the test's file, or to pytest's root.
    ``keywords`` are those of :class:`aegis.Aegis`: limits and capabilities.

Assertions read an outcome: ``outcome.trapped("unreachable")``, ``outcome.denied("net")``, ``outcome.exceeded("fuel")``,
``outcome.exited(3)``, ``outcome.returned(5)`` say what happened instead where they fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pytest

from aegis.errors import AegisError
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["GuestBuild", "aegis_runtime", "fresh_sandbox", "guest_build", "pytest_configure", "sandbox"]

GuestBuild = Callable[..., Path]
_OURS = pytest.StashKey[Any]()
_OF_SANDBOX = ("imports", "args", "isolate")
_MARK = "guest(path, *, imports=None, args=(), isolate=None, **keywords): the guest of `sandbox`, and its policy"


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the marker."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def aegis_runtime(request: pytest.FixtureRequest) -> Iterator[Aegis]:
    """A runtime under the default policy, and what the test's marker says of it."""
    from aegis.runtime import Aegis

    try:
        runtime = Aegis(**_policy(_marker(request)))
    except (TypeError, AegisError) as error:
        pytest.fail(f"@pytest.mark.guest: {printable(str(error), 500)}", pytrace=False)
    request.node.stash[_OURS] = runtime
    with runtime:
        yield runtime


@pytest.fixture
def fresh_sandbox(request: pytest.FixtureRequest, aegis_runtime: Aegis) -> Iterator[Callable[..., Sandbox]]:
    """A function that makes sandboxes: ``fresh_sandbox(path=None, *, imports=…, args=…, isolate=…)``."""
    marker = _marker(request)
    if _policy(marker) and request.node.stash.get(_OURS, None) is not aegis_runtime:
        pytest.fail("@pytest.mark.guest: its policy counts for nothing, for aegis_runtime is replaced", pytrace=False)
    loaded: dict[Path, Any] = {}
    given = {name: value for name, value in _keywords(marker).items() if name in _OF_SANDBOX}
    made: WeakSet[Sandbox] = WeakSet()

    def make(path: str | os.PathLike[str] | None = None, **options: Any) -> Sandbox:
        found = _guest(request, marker) if path is None else _found(request, os.fspath(path))
        if found not in loaded:
            loaded[found] = aegis_runtime.load_file(found)
        sandbox = aegis_runtime.sandbox(loaded[found], **(given | options))
        made.add(sandbox)
        return sandbox

    yield make
    for sandbox in list(made):
        sandbox.close()


@pytest.fixture
def sandbox(fresh_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A sandbox of the guest that ``@pytest.mark.guest(path)`` names; hypothesis needs ``fresh_sandbox``."""
    return fresh_sandbox()


@pytest.fixture
def guest_build(request: pytest.FixtureRequest) -> GuestBuild:
    """A function that builds guests: ``guest_build(source, command=None, *, inputs=(), suffix=".wasm")``.

    ``source`` is text of WebAssembly, or a path. Without ``command`` it is WebAssembly text; with one, a sequence of
    words in which ``{source}`` and ``{output}`` stand for paths, run in the folder of the test's file. ``inputs`` are
    files that the build reads besides. A build that fails is a failure of the test, in the compiler's words.
    """
    from aegis.testing.guests import Builder

    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("aegis-guests") if cache is not None else request.getfixturevalue("tmp_path")
    builder = Builder(folder, request.path.parent)

    def build(
        source: str | os.PathLike[str], command: Sequence[str] | None = None, *,
        inputs: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:  # fmt: skip
        try:
            return builder.build(source, command, inputs=inputs)
        except (AegisError, OSError) as error:
            pytest.fail(f"the guest was not built: {error}", pytrace=False)

    return build


# -- markers -----------------------------------------------------------------------------------------------


def _marker(request: pytest.FixtureRequest) -> pytest.Mark | None:
    return request.node.get_closest_marker("guest")  # type: ignore[no-any-return]


def _keywords(marker: pytest.Mark | None) -> Mapping[str, Any]:
    return {} if marker is None else marker.kwargs


def _policy(marker: pytest.Mark | None) -> dict[str, Any]:
    return {name: value for name, value in _keywords(marker).items() if name not in (*_OF_SANDBOX, "path")}


def _guest(request: pytest.FixtureRequest, marker: pytest.Mark | None) -> Path:
    if marker is None:
        pytest.fail('which guest? mark the test with @pytest.mark.guest("path.wasm"), or name one', pytrace=False)
    names = [*marker.args, *([marker.kwargs["path"]] if "path" in marker.kwargs else [])]
    if len(names) != 1:
        pytest.fail(f"@pytest.mark.guest takes one path, not {len(names)}", pytrace=False)
    return _found(request, os.fspath(names[0]))


def _found(request: pytest.FixtureRequest, name: str) -> Path:
    """Return the guest's file: beside the test's, else below pytest's root."""
    places = [request.path.parent / name, request.config.rootpath / name]
    for path in places:
        if path.is_file():
            return path
    looked = " or ".join(dict.fromkeys(str(path.parent) for path in places))
    pytest.fail(f"there is no guest {printable(name)!r} in {looked}", pytrace=False)
