"""The pytest plugin of Aegis: a sandbox per test, guests selected by a marker, guests built from source.

It needs the extra ``aegis-wasm[fuzz]`` and is registered as an entry point; ``-p aegis.testing.plugin`` loads it too::

    @pytest.mark.guest("guests/parser.wasm", timeout="5s", fuel=1_000_000)
    def test_a_deeply_nested_text_exhausts_its_fuel(sandbox):
        outcome = sandbox.run("parse", "[" * 100_000)
        assert outcome.exceeded("fuel")

    def test_a_guest_from_source(guest_build, fresh_sandbox):
        path = guest_build('(module (func (export "f") unreachable))')
        assert fresh_sandbox(path).run("f").trapped("unreachable")

``aegis_runtime``
    The runtime. Its policy is the default policy with the keywords of the test's marker. Define a fixture of the same
    name in ``conftest.py`` to replace it, for example by ``Aegis.from_config(…)``; markers may then set no policy.

``sandbox``
    A sandbox of the marked guest, new for each test.

``fresh_sandbox``
    A function that creates sandboxes of the marked guest, or of the path passed to it. They are closed after the test.
    Hypothesis runs a test function many times, but creates its fixtures once, and rejects function-scoped fixtures. Use
    ``fresh_sandbox`` with ``@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])``, or ``sandbox``
    with a call of ``sandbox.reset()`` at the start::

        @pytest.mark.guest("parser.wasm")
        @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.text())
        def test_no_text_traps(fresh_sandbox, text):
            with fresh_sandbox() as sandbox:
                assert not sandbox.run("parse", text).trapped()

``guest_build``
    A function that builds a guest and returns its path: from WebAssembly text, a ``.wat`` file, or a source file with
    the command that compiles it. Results are kept in pytest's cache, keyed by a digest of all inputs of the build.

``@pytest.mark.guest(path, *, imports=…, args=…, isolate=…, **keywords)``
    Selects the guest, for a function, class or module; the innermost marker applies. ``path`` is relative to the test
    file or to pytest's root directory. ``keywords`` are those of :class:`aegis.Aegis`: limits and capabilities.

Assert on outcomes with ``outcome.trapped("unreachable")``, ``outcome.denied("net")``, ``outcome.exceeded("fuel")``,
``outcome.exited(3)`` and ``outcome.returned(5)``: a failing assertion shows how the call actually ended.
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
_DEFAULT_RUNTIME = pytest.StashKey[Any]()
"""The runtime of the plugin's own fixture. It differs from ``aegis_runtime`` if the user replaces the fixture."""
_SANDBOX_OPTIONS = ("imports", "args", "isolate")
_MARK = "guest(path, *, imports=None, args=(), isolate=None, **keywords): the guest of `sandbox`, and its policy"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def aegis_runtime(request: pytest.FixtureRequest) -> Iterator[Aegis]:
    """Provide a runtime with the default policy and the keywords of the test's marker."""
    from aegis.runtime import Aegis

    try:
        runtime = Aegis(**_policy(_marker(request)))
    except (TypeError, AegisError) as error:
        pytest.fail(f"@pytest.mark.guest: {printable(str(error), 500)}", pytrace=False)
    request.node.stash[_DEFAULT_RUNTIME] = runtime
    with runtime:
        yield runtime


@pytest.fixture
def fresh_sandbox(request: pytest.FixtureRequest, aegis_runtime: Aegis) -> Iterator[Callable[..., Sandbox]]:
    """Provide a function that creates sandboxes: ``fresh_sandbox(path=None, *, imports=…, args=…, isolate=…)``."""
    marker = _marker(request)
    if _policy(marker) and request.node.stash.get(_DEFAULT_RUNTIME, None) is not aegis_runtime:
        pytest.fail(
            "@pytest.mark.guest: policy keywords have no effect, because the fixture aegis_runtime is replaced: "
            "set the policy in that fixture",
            pytrace=False,
        )
    loaded: dict[Path, Any] = {}
    given = {name: value for name, value in _keywords(marker).items() if name in _SANDBOX_OPTIONS}
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
    """Provide a sandbox of the guest that ``@pytest.mark.guest(path)`` selects.

    A hypothesis test needs a new sandbox for each example: use ``fresh_sandbox`` there.
    """
    return fresh_sandbox()


@pytest.fixture
def guest_build(request: pytest.FixtureRequest) -> GuestBuild:
    """Provide a function that builds guests: ``guest_build(source, command=None, *, inputs=())``.

    ``source`` is WebAssembly text, or a path. ``command`` is a sequence of words in which ``{source}`` and ``{output}``
    are replaced by paths; it runs in the directory of the test file. Without it, the source is assembled as WebAssembly
    text. ``inputs`` are further files that the build reads. A failed build fails the test with the compiler's output.
    """
    from aegis.testing.guests import GuestBuilder

    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("aegis-guests") if cache is not None else request.getfixturevalue("tmp_path")
    builder = GuestBuilder(folder, request.path.parent)

    def build(
        source: str | os.PathLike[str], command: Sequence[str] | None = None, *,
        inputs: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:  # fmt: skip
        try:
            return builder.build(source, command, inputs=inputs)
        except (AegisError, OSError) as error:
            pytest.fail(f"guest build failed: {error}", pytrace=False)

    return build


# -- markers -----------------------------------------------------------------------------------------------


def _marker(request: pytest.FixtureRequest) -> pytest.Mark | None:
    return request.node.get_closest_marker("guest")  # type: ignore[no-any-return]


def _keywords(marker: pytest.Mark | None) -> Mapping[str, Any]:
    return {} if marker is None else marker.kwargs


def _policy(marker: pytest.Mark | None) -> dict[str, Any]:
    return {name: value for name, value in _keywords(marker).items() if name not in (*_SANDBOX_OPTIONS, "path")}


def _guest(request: pytest.FixtureRequest, marker: pytest.Mark | None) -> Path:
    if marker is None:
        pytest.fail(
            'no guest selected: mark the test with @pytest.mark.guest("path.wasm"), or pass a path to fresh_sandbox',
            pytrace=False,
        )
    names = [*marker.args, *([marker.kwargs["path"]] if "path" in marker.kwargs else [])]
    if len(names) != 1:
        pytest.fail(f"@pytest.mark.guest takes one path, not {len(names)}", pytrace=False)
    return _found(request, os.fspath(names[0]))


def _found(request: pytest.FixtureRequest, name: str) -> Path:
    """Return the path of a guest file: relative to the test file, else to pytest's root directory."""
    places = [request.path.parent / name, request.config.rootpath / name]
    for path in places:
        if path.is_file():
            return path
    looked = " or ".join(dict.fromkeys(str(path.parent) for path in places))
    pytest.fail(f"guest {printable(name)!r} not found in {looked}", pytrace=False)
