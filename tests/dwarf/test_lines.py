"""Line tables: every row that a line number program describes is found again, and hostile bytes end in a table."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.dwarf.lines import LineTable, SourceLine, read_lines
from tests.dwarf.line_programs import (
    LINE_BASE,
    LINE_RANGE,
    OPCODE_BASE,
    OPERANDS,
    Row,
    Sequence,
    custom,
    program,
    unit,
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Sequence], int]:
    """Return sequences that do not overlap, and the number of files."""
    files = draw(st.integers(1, 5))
    rows = st.lists(
        st.builds(Row, st.integers(0, 3000), st.integers(1, files), st.integers(1, 100_000)), min_size=1, max_size=12
    )
    at, made = 1, []
    for _ in range(draw(st.integers(0, 4))):
        at += draw(st.integers(0, 5000))
        sequence = Sequence(at, draw(rows), draw(st.integers(1, 300)))
        made.append(sequence)
        at += sum(row.advance for row in sequence.rows) + sequence.last + 1
    return made, files


@given(tables(), st.integers(2, 5), st.booleans(), st.booleans(), st.randoms())
def test_every_address_has_the_line_that_the_program_gives_it(
    table: tuple[list[Sequence], int], version: int, wide: bool, special: bool, rng: object
) -> None:
    """Property: decoding is the inverse of encoding, for all addresses within and around the sequences."""
    sequences, count = table
    files = [(f"f{n}.c", n % 2) for n in range(count)]
    if version >= 5:
        files.insert(0, ("f0.c", 0))  # file 0 and file 1 are the same by custom
    shuffled = list(sequences)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    code = program(shuffled, special=special)
    found = read_lines({".debug_line": unit(version, files, ["/src", "/lib"], code, wide=wide)})
    expected: dict[int, SourceLine] = {}
    for sequence in sequences:
        at = sequence.start
        for row, after in zip(sequence.rows, [*sequence.rows[1:], Row(sequence.last, 0, 0)], strict=True):
            at += row.advance
            name, place = files[row.file if version >= 5 else row.file - 1]
            path = name if place == 0 else f"/lib/{name}"
            for address in {at, at + after.advance // 2, at + after.advance - 1} if after.advance else ():
                expected[address] = SourceLine(path, row.line)
        assert found.at(at + sequence.last) is None
    for address, line in expected.items():
        assert found.at(address) == line
    assert found.at(0) is None


def test_strings_may_be_in_their_own_sections() -> None:
    head = bytes((1, 1, 1, LINE_BASE & 0xFF, LINE_RANGE, OPCODE_BASE)) + OPERANDS
    head += b"\x01\x01\x1f\x02" + (0).to_bytes(4, "little") + (5).to_bytes(4, "little")
    head += b"\x02\x01\x0e\x02\x0f\x02" + (2).to_bytes(4, "little") + b"\0" + (2).to_bytes(4, "little") + b"\x01"
    code = program([Sequence(5, [Row(0, 1, 9)], 4)], special=True)
    inner = b"\x05\0\x04\0" + len(head).to_bytes(4, "little") + head + code
    sections = {
        ".debug_line": len(inner).to_bytes(4, "little") + inner,
        ".debug_line_str": b"/src\0/inc\0",
        ".debug_str": b"x\0part.h\0",
    }
    assert read_lines(sections).at(6) == SourceLine("/inc/part.h", 9)


def test_functions_that_the_linker_removed_are_ignored() -> None:
    code = program([Sequence(0, [Row(0, 1, 5)], 9), Sequence(7, [Row(0, 1, 6)], 9)], special=True)
    code += b"\0\x05\x02\xff\xff\xff\xff" + program([], special=True) + b"\x01\x02\x04\0\x01\x01"
    table = read_lines({".debug_line": unit(4, [("a.c", 0)], ["/"], code, wide=False)})
    assert [(start, end, str(line)) for start, end, line in table.rows()] == [(7, 16, "a.c:6")]


def test_a_malformed_unit_does_not_hide_the_next_one() -> None:
    good = unit(4, [("a.c", 0)], ["/"], program([Sequence(8, [Row(0, 1, 3)], 2)], special=True), wide=False)
    bad = unit(4, [("b.c", 0)], ["/"], program([Sequence(4, [Row(0, 1, 1)], 2)], special=True)[:-3], wide=False)
    table = read_lines({".debug_line": bad + good})
    assert (table.at(4), table.at(8)) == (None, SourceLine("a.c", 3))


# -- hostile input -----------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.integers(0, 6), st.booleans())
def test_any_bytes_end_in_a_table(body: bytes, version: int, framed: bool) -> None:
    data = body
    if framed:
        inner = version.to_bytes(2, "little") + body
        data = len(inner).to_bytes(4, "little") + inner
    table = read_lines({".debug_line": data, ".debug_str": b"ab\0", ".debug_line_str": b""})
    everything(table)


@given(st.data(), st.integers(2, 5))
def test_a_changed_table_ends_in_a_table(data: st.DataObject, version: int) -> None:
    code = program([Sequence(5, [Row(0, 1, 9), Row(3, 1, 11)], 4)], special=True)
    whole = bytearray(unit(version, [("a.c", 0)], ["/"], code, wide=False))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    everything(read_lines({".debug_line": bytes(whole)}))


def everything(table: LineTable) -> None:
    """Use all that a table has: its rows are in order, and each row is found by its address or hidden by another."""
    for start, end, line in table.rows():
        assert 0 < start < end <= 1 << 32
        assert 0 < line.line < 1 << 31
        assert len(line.path) <= 2 * 1024 + 1
        table.at(start)


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\xff\xff\xff\xff\x0f",  # 4 G directories without a format
        b"\x01\x01\x21\xff\xff\xff\xff\x0f",  # of a form that takes no bytes
        b"\xff" + b"\x01\x08" * 255 + b"\xff\xff\xff\xff\x0f",
    ],
)
def test_a_count_that_promises_more_than_the_bytes_is_rejected(head: bytes) -> None:
    fields = bytes((1, 1, 1, LINE_BASE & 0xFF, LINE_RANGE, OPCODE_BASE)) + OPERANDS + head
    inner = b"\x05\0\x04\0" + len(fields).to_bytes(4, "little") + fields
    assert len(read_lines({".debug_line": len(inner).to_bytes(4, "little") + inner})) == 0


def test_time_is_linear_in_the_size() -> None:
    """Oracle: ten times as many rows, files and units take less than forty times as long."""

    def seconds(count: int) -> float:
        code = program([Sequence(5, [Row(1, 1 + n % 7, 1 + n) for n in range(count)], 4)], special=True)
        one = unit(4, [(f"{n}.c", 0) for n in range(count)], ["/"], code, wide=False)
        small = unit(4, [("a.c", 0)], ["/"], program([Sequence(9, [Row(0, 1, 1)], 1)], special=True), wide=False)
        data = one + small * count
        best = 9.0
        for _ in range(3):
            began = time.process_time()
            table = read_lines({".debug_line": data})
            for _ in table.rows():
                pass
            best = min(best, time.process_time() - began)
        return best

    assert seconds(10_000) < 40 * seconds(1000)


# -- against LLVM ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("llvm-dwarfdump") is None, reason="needs llvm-dwarfdump")
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_rows_agree_with_llvm(version: int, tmp_path: Path) -> None:
    """Oracle: llvm-dwarfdump on a module with the same section."""
    rows = [Row(n * 7 % 40, 1 + n % 2, 1 + n * n % 97) for n in range(200)]
    files = [("a.c", 0), ("b.h", 1)] if version < 5 else [("a.c", 0), ("a.c", 0), ("b.h", 1)]
    code = program([Sequence(9, rows, 5), Sequence(60_000, rows[::-1], 5)], special=True)
    data = unit(version, files, ["/src", "/inc"], code, wide=False)
    module = tmp_path / "m.wasm"
    module.write_bytes(b"\0asm\1\0\0\0" + custom(".debug_line", data))
    shown = subprocess.run(["llvm-dwarfdump", "--debug-line", str(module)], capture_output=True, text=True, check=True)
    theirs = [
        (int(words[0], 16), int(words[1])) for line in shown.stdout.splitlines()
        if (words := line.split()) and words[0].startswith("0x") and "end_sequence" not in line
    ]  # fmt: skip
    assert len(theirs) == 400
    table = read_lines({".debug_line": data})
    last = dict(theirs)  # of several rows at one address, the last one counts
    for address, line in last.items():
        found = table.at(address)
        assert found == SourceLine(found.path if found else "", line)
