"""For any numbers that a guest passes, every function returns an error number or raises an Aegis error."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis.errors import AegisError
from aegis.host.preview1.abi import SIGNATURES
from tests.host.harness import ALL, NAMES, PAGES, AegisDriver, Memory

END = PAGES * 65536
DATA = 0x100  # valid paths, vectors and subscriptions begin here

words = st.one_of(
    st.sampled_from((0, 1, 2, 3, 4, 5, 6, 99, DATA, DATA + 8, DATA + 64, END - 8, END - 1, END, -1)),
    st.integers(0, 64),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
longs = st.one_of(
    st.sampled_from((0, 1, ALL, -1, -(1 << 63), (1 << 63) - 1, 1 << 32, 1_000_000_000)),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
calls = st.sampled_from(sorted(set(SIGNATURES) - {"proc_exit"})).flatmap(
    lambda name: st.tuples(
        st.just(name), st.tuples(*(words if kind == "i32" else longs for kind in SIGNATURES[name].params))
    )
)
PIECES = (b"file", b"d/", b"/", b"..", b"link", b"\0", b"\xff", DATA.to_bytes(4, "little"))
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
)


@given(plan=st.lists(calls, min_size=1, max_size=12), content=contents)
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_argument_makes_a_function_fail(plan: list[tuple[str, tuple[int, ...]]], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        (root / "d").mkdir(parents=True)
        (root / "file").write_bytes(b"hello")
        (root / "link").symlink_to("file")
        with closing(AegisDriver(root)) as guest:
            guest.opened("file")
            guest.opened("d", 2, ALL & ~64)
            for name, args in plan:
                guest.poke(DATA, content)
                try:
                    number = guest.call(name, *args)
                except AegisError:
                    continue
                assert number in NAMES, f"{name}{args}"
        assert [p.name for p in Path(folder).iterdir()] == ["root"]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_a_guest_without_memory_is_answered_too(name: str, tmp_path: Path) -> None:
    with closing(AegisDriver(tmp_path)) as guest:
        guest.memory.data.clear()
        assert isinstance(guest.memory, Memory)
        try:
            assert guest.call(name, *(1 for _ in SIGNATURES[name].params)) in NAMES
        except AegisError:
            assert name == "proc_exit"
