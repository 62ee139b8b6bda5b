"""Settings for all tests: default signals, a cache of their own, and property tests that ignore the machine's load.

Environment: ``CI`` makes property tests deterministic. ``AEGIS_EXAMPLES=10`` runs ten times as many examples, and
``AEGIS_EXAMPLES=0.1``, the default of ``scripts/test``, a tenth of them. ``AEGIS_LONG=1``, which
``scripts/test --long`` sets, runs the tests marked ``long`` too, all parameters of those marked ``usual``, and those
with a fixture of :data:`SAMPLED` once for each of its parameters.
"""

from __future__ import annotations

import gc
import os
import signal
import zlib
from collections.abc import Generator, Iterator
from fnmatch import fnmatchcase
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

from aegis.engine.compile.cache_upkeep import prune
from tests.directories import IMPLEMENTATIONS, Folder, in_memory

PROFILE = "aegis"
FEWEST_EXAMPLES = 10
MAX_CACHE_BYTES, MAX_LARGE_FILES, MAX_SMALL_FILES = 4 << 30, 256, 10_000
CACHE = "aegis-tests"
"""The folder of the cache of compiled code, beside that of the user."""
SAMPLED = ("entries", "ways")
"""Fixtures that repeat the tests of a module. Each test has one of their parameters, and each parameter many tests."""
USUAL = (
    "usual(*patterns, every=n, one_of=name): of the tests of a function, those that usual runs have; others are long"
)
IGNORED_BY_SHELLS = ("SIGQUIT", "SIGHUP", "SIGTERM", "SIGCHLD", "SIGUSR1", "SIGUSR2")


def keep_compiled_code() -> None:
    """Use a cache of compiled code for tests alone, without a limit of its size, in this process and its children.

    The code of the large guests, in all configurations that the tests use, exceeds the default size of a cache. In the
    user's own, each run would compile for minutes the code that the previous run, or another checkout, displaced.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(base) and os.path.basename(base) != CACHE:  # workers of pytest-xdist inherit it
        os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", os.path.join(base, "zig"))
        os.environ["XDG_CACHE_HOME"] = os.path.join(base, CACHE)
    os.environ.setdefault("AEGIS_CACHE_SIZE", "none")


def _deterministic() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


# The duration of an example depends on the load, and so does ``data_too_large``: a slow draw counts as one.
settings.register_profile(
    PROFILE, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=_deterministic(),
)  # fmt: skip
settings.load_profile(PROFILE)


def restore_signals() -> None:
    """Undo signal settings inherited from the parent, so that this process's children have the defaults.

    A shell without job control starts background commands with SIGINT and SIGQUIT ignored, nohup with SIGHUP, some
    daemons with SIGCHLD; a parent may also block signals. All of this is inherited across fork and exec, except that a
    signal with a handler has its default action after exec. So an ignored signal gets a handler that does nothing,
    which still protects this process from it. SIGINT gets its usual handler, because some tests raise it.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in IGNORED_BY_SHELLS:
        number = getattr(signal, name)
        if signal.getsignal(number) == signal.SIG_IGN:
            # With a handler, SIGCHLD no longer makes the kernel discard the exit statuses of children.
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


keep_compiled_code()
if os.name == "posix":
    restore_signals()


def pytest_xdist_auto_num_workers() -> int:
    """Return three processes for two cores: some wait for a deadline or a process that they started."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


def is_long() -> bool:
    """Return whether long tests run, and all repetitions of the others."""
    return os.environ.get("AEGIS_LONG", "") not in ("", "0")


def _is_sampled(item: pytest.Item) -> bool:
    """Return whether a usual run has a test with these parameters of the fixtures that repeat the tests of a module."""
    call = getattr(item, "callspec", None)
    for name in SAMPLED:
        if call is not None and name in call.params:
            base = item.nodeid.replace(call.params[name], "")  # the same for all parameters of the fixture
            return call.indices[name] == zlib.crc32(base.encode()) % 2
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``usual``."""
    config.addinivalue_line("markers", USUAL)


def _with_one_of(function: str, name: str, cases: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with one value of the parameter ``name`` for each combination of the other parameters."""
    by_value: dict[str, list[pytest.Item]] = {}
    for case in cases:
        call = getattr(case, "callspec", None)
        if call is None or name not in call.params:
            return cases
        by_value.setdefault(repr(call.params[name]), []).append(case)
    if len({len(same) for same in by_value.values()}) > 1:
        return cases
    combinations = zip(*by_value.values(), strict=True)
    return [same[zlib.crc32(f"{function} {number}".encode()) % len(same)] for number, same in enumerate(combinations)]


def mark_repetitions(items: list[pytest.Item]) -> None:
    """Mark tests ``long`` that repeat a rule for other parameters, as the marker ``usual`` of their function says.

    Usual are those with one value of the parameter ``one_of``, every ``every``-th of these, and those whose identifier
    matches one of the patterns. Raise ``pytest.UsageError`` for a pattern that matches no test: a renamed parameter
    would drop a test silently.
    """
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("usual") is not None:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for function, cases in tests.items():
        markers = list(cases[0].iter_markers("usual"))
        kept = list(filter(_is_sampled, cases))
        for name in {marker.kwargs["one_of"] for marker in markers if "one_of" in marker.kwargs}:
            kept = _with_one_of(function, name, kept)
        patterns, every = markers[0].args, markers[0].kwargs.get("every", 1)
        usual = set(kept[::every]) if every > 1 or not patterns else set()
        for pattern in patterns:
            matching = {case for case in cases if fnmatchcase(_parameters(case), pattern)}
            if not matching:
                raise pytest.UsageError(f"{function}: no test matches {pattern!r}: correct its marker 'usual'")
            usual |= matching
        for case in cases:
            if case not in usual:
                case.add_marker(pytest.mark.long)


def _parameters(case: pytest.Item) -> str:
    return case.nodeid.partition("[")[2].removesuffix("]")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long tests to ``AEGIS_LONG`` unless they are named, and set the number of random examples."""
    named = any("::" in path for path in config.args)
    if not named:
        mark_repetitions(items)
    if not is_long() and not named:
        left = [item for item in items if item.get_closest_marker("long") or not _is_sampled(item)]
        if left:
            config.hook.pytest_deselected(items=left)
            items[:] = [item for item in items if item not in set(left)]
    _multiply_examples(items)


def _multiply_examples(items: list[pytest.Item]) -> None:
    """Multiply the number of examples of property tests by ``AEGIS_EXAMPLES``; keep the first ``FEWEST_EXAMPLES``."""
    times = float(os.environ.get("AEGIS_EXAMPLES") or 1)
    if times == 1:
        return
    seen = set()
    for item in items:
        function = getattr(item, "obj", None)
        chosen = getattr(function, "_hypothesis_internal_use_settings", None)
        if function is not None and chosen is not None and function not in seen:
            seen.add(function)  # once per test function, not per parameter
            count = max(min(chosen.max_examples, FEWEST_EXAMPLES), round(chosen.max_examples * times))
            function._hypothesis_internal_use_settings = settings(chosen, max_examples=count)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Bound the cache of the tests once a run, in the process that collects the results.

    Random modules of each run are added to it; the newest stay.
    """
    folder = os.path.join(os.environ["XDG_CACHE_HOME"], "aegis") if "XDG_CACHE_HOME" in os.environ else ""
    if not hasattr(session.config, "workerinput") and os.path.isdir(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            prune(descriptor, MAX_CACHE_BYTES, large=MAX_LARGE_FILES, small=MAX_SMALL_FILES)
        finally:
            os.close(descriptor)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without garbage collections, which would visit each of them many times."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection.

    They are a million objects that live until the end. Without this, each full collection takes half a second, both
    those of tests that count what is left, and those of the children that tests fork, which would copy these pages.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=IMPLEMENTATIONS)
def either_folder(request: pytest.FixtureRequest) -> Iterator[Folder]:
    """An empty directory of each implementation: a test that takes it holds both to the same rule."""
    if request.param == "host":
        yield request.getfixturevalue("tmp_path")
        return
    with in_memory() as folder:
        yield folder
