"""Rows of scalars in the caller's buffers: which buffers fit which type, and copies of a part of them.

A column holds one argument of every row, one element after the other, as the buffer protocol describes it. Elements
are copied as bytes: no Python object is made for one. A buffer stays exported as long as the call may use it, so that
it cannot be resized meanwhile; other threads may change what it holds, and then either value is the row's.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from struct import pack_into
from typing import Any, NamedTuple

from aegis.errors import AegisError, CallError
from aegis.text import count, shown

__all__ = ["SCALARS", "Batch", "Scalar", "bad_element"]


class Scalar(NamedTuple):
    """A type whose values are numbers of a fixed size: its name, core type, bytes, and which elements hold it.

    ``code`` is the code of :mod:`array` that results have.
    """

    name: str
    core: str
    width: int
    family: str
    code: str


SCALARS = {
    of.name: of
    for of in (
        Scalar("i32", "i32", 4, "integer", "i"),
        Scalar("i64", "i64", 8, "integer", "q"),
        Scalar("f32", "f32", 4, "float", "f"),
        Scalar("f64", "f64", 8, "float", "d"),
        Scalar("s8", "i32", 1, "signed", "b"),
        Scalar("u8", "i32", 1, "unsigned", "B"),
        Scalar("s16", "i32", 2, "signed", "h"),
        Scalar("u16", "i32", 2, "unsigned", "H"),
        Scalar("s32", "i32", 4, "signed", "i"),
        Scalar("u32", "i32", 4, "unsigned", "I"),
        Scalar("s64", "i64", 8, "signed", "q"),
        Scalar("u64", "i64", 8, "unsigned", "Q"),
        Scalar("bool", "i32", 1, "bool", "B"),
        Scalar("char", "i32", 4, "char", "I"),
    )
}
"""Core value types, whose integers have no sign, and the primitives of WIT but ``string``."""

_SIGNED, _UNSIGNED = "bhilqn", "BHILQN"
_FORMATS = {
    "integer": _SIGNED + _UNSIGNED, "signed": _SIGNED, "unsigned": _UNSIGNED, "float": "fd", "bool": "?B",
    "char": _UNSIGNED + "wu",
}  # fmt: skip
"""Format characters of :mod:`struct` and :mod:`array` that each family admits, if the elements have the width."""
_NATIVE_ORDER = "@=<" if sys.byteorder == "little" else "@=>!"
_ORDERS = frozenset("@=<>!")
_UTF_32 = f"utf-32-{sys.byteorder[0]}e"
_MOST_ROWS = sys.maxsize
_WRITTEN = frozenset("bBhHiIlLqQnNfd?")
"""Formats that memoryview writes elements of."""
_PIECE = 1 << 16
"""Elements that are looked at in one step."""


def bad_element(of: Scalar, data: Any) -> int | None:
    """Return the index of the first element in ``data`` that is no value of ``of``; ``None`` if all are.

    A bool is 0 or 1, a character a code point that is no surrogate. Every pattern of bits is a value of other types.
    """
    if of.family == "bool":
        wrong = bytes(data).translate(None, b"\0\1")
        return bytes(data).index(wrong[0]) if wrong else None
    if of.family == "char":
        try:
            str(data, _UTF_32)
        except UnicodeDecodeError as error:
            return error.start // of.width
    return None


class _Column:
    """One buffer, exported: so many elements of one type in a row."""

    __slots__ = ("_bytes", "judged", "of", "view", "what")

    def __init__(self, buffer: Any, of: Scalar, what: str) -> None:
        self.of, self.what = of, what
        try:
            self.view = view = memoryview(buffer)
        except Exception as error:  # the exporter's own, such as NumPy's ValueError for dates
            reason = "" if isinstance(error, TypeError) else f" that gives no buffer ({shown(error, 200, str)})"
            raise CallError(
                f"{what} must be an {_wanted(of)}, or a memoryview or NumPy array of such, "
                f"not {type(buffer).__name__}{reason}"
            ) from None
        try:
            self._check(view)
        except BaseException:
            view.release()
            raise
        self._bytes: memoryview | None = None
        with suppress(TypeError, ValueError):  # not contiguous, or of a format that memoryview does not know
            self._bytes = view.cast("B")
        self.judged = of.family == "char" or (of.family == "bool" and "?" not in view.format)
        """Whether there are elements that are no values."""

    def _check(self, view: memoryview) -> None:
        what, of = self.what, self.of
        if view.ndim != 1:
            raise CallError(f"{what} has {count(view.ndim, 'dimension')}, and one is admitted: flatten it")
        order, code = ("@", view.format) if view.format[:1] not in _ORDERS else (view.format[:1], view.format[1:])
        if len(code) != 1 or code not in _FORMATS[of.family] or view.itemsize != of.width:
            given = f"elements of format {shown(view.format, 40)} and {count(view.itemsize, 'byte')}"
            raise CallError(f"{what} has {given}, and {of.name} takes those of an {_wanted(of)}")
        if of.width > 1 and order not in _NATIVE_ORDER:
            raise CallError(f"{what} has the bytes of its elements in another order than this machine: swap them")

    def __len__(self) -> int:
        return len(self.view)

    def piece(self, first: int, number: int) -> Any:
        """Return the bytes of so many elements."""
        if self._bytes is not None:
            width = self.of.width
            return self._bytes[first * width : (first + number) * width]
        return self.view[first : first + number].tobytes()

    def check_values(self) -> None:
        """Raise ``CallError`` for the first element that is no value."""
        for first in range(0, len(self) if self.judged else 0, _PIECE):
            self.check_piece(first, self.piece(first, min(_PIECE, len(self) - first)))

    def check_piece(self, first: int, data: Any) -> None:
        """Do the same for the elements from ``first`` on, of which ``data`` are the bytes."""
        bad = bad_element(self.of, data) if self.judged else None
        if bad is not None:
            raise CallError(f"{self.what}: the element of row {first + bad:,} is no {self.of.name}")

    def release(self) -> None:
        """Let the buffer be resized again."""
        with suppress(BufferError):  # a thread that did not return still reads it
            if self._bytes is not None:
                self._bytes.release()
            self.view.release()


class _Out(_Column):
    """A buffer for results."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Any, of: Scalar) -> None:
        super().__init__(buffer, of, "out")
        self._buffer = buffer
        view = self.view
        try:
            if view.readonly:
                raise CallError(f"out is read-only: give a writable buffer, such as an {_wanted(of)}")
            if self._bytes is None and not view.c_contiguous and view.format not in _WRITTEN:
                raise CallError(f"out has gaps, and elements of format {shown(view.format, 40)}: make it contiguous")
        except BaseException:
            self.release()
            raise

    def put(self, first: int, data: Any) -> None:
        """Store the bytes of elements from ``first`` on."""
        width = self.of.width
        if self._bytes is not None:
            self._bytes[first * width : first * width + len(data)] = data
        elif self.view.c_contiguous:
            # memoryview writes to formats such as '<i' only from views of the same format, which cannot be made.
            pack_into(f"{len(data)}s", self._buffer, first * width, bytes(data))
        else:
            number = len(data) // width
            self.view[first : first + number] = memoryview(data).cast("B").cast(self.view.format)  # type: ignore[call-overload]

    def release(self) -> None:
        """Let the buffer be resized again; a thread that did not return writes to it no more."""
        self._buffer = None
        super().release()


def _wanted(of: Scalar) -> str:
    alternative = {"integer": f" or array({of.code.upper()!r})", "bool": " of 0 and 1"}.get(of.family, "")
    return f"array({of.code!r}){alternative}{' of code points' if of.family == 'char' else ''}"


class Batch:
    """One call over columns: the arguments of its rows, and the results so far.

    ``what`` returns the function's signature, for messages; ``params`` are the names and types of its parameters.
    ``out`` is ``None`` or the buffer for results. Raise :class:`~aegis.errors.CallError` for buffers that do not fit.
    ``done`` are the rows whose results are stored, the first ones; ``begun`` tells that the guest may be entered.
    """

    __slots__ = ("_columns", "_located", "_made", "_out", "begun", "done", "out", "params", "result", "rows")

    def __init__(
        self, what: Callable[[], str], params: Sequence[tuple[str, Scalar]], result: Scalar | None,
        columns: Any, out: Any, rows: int | None = None,
    ) -> None:  # fmt: skip
        self.params, self.result = tuple(of for _, of in params), result
        self._columns: list[_Column] = []
        self._out: _Out | None = None
        self._made: array[Any] | None = None
        self.done = 0
        self.begun = False
        self._located: BaseException | None = None
        try:
            self._take_columns(params, columns)
            self.rows = self._count(rows, out)
            for column in self._columns:
                column.check_values()
            self._take_out(out)
        except CallError as error:
            self.close()
            raise CallError(f"{what()}: {error}") from None
        except BaseException:
            self.close()
            raise

    def _take_columns(self, params: Sequence[tuple[str, Scalar]], columns: Any) -> None:
        if not isinstance(columns, list | tuple):
            raise CallError(f"columns must be a list of buffers, one for each parameter, not {type(columns).__name__}")
        columns = tuple(columns)
        if len(columns) != len(params):
            raise CallError(f"it takes {count(len(params), 'column')}, one for each parameter, not {len(columns)}")
        for n, (buffer, (name, of)) in enumerate(zip(columns, params, strict=True), 1):
            self._columns.append(_Column(buffer, of, f"column {n} ({name})" if name else f"column {n}"))

    def _count(self, rows: Any, out: Any) -> int:
        lengths = [(column.what, len(column)) for column in self._columns]
        if rows is not None:
            if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= _MOST_ROWS:
                raise CallError(f"rows must be a count of at most {_MOST_ROWS:,} rows, not {shown(rows, 40)}")
            lengths.insert(0, ("rows", rows))
        elif not lengths:
            if out is None:
                raise CallError("it has no parameters, so no column says how many rows there are: give rows=")
            return -1
        first, wanted = lengths[0]
        for what, length in lengths[1:]:
            if length != wanted:
                raise CallError(f"columns of unequal length: {first} has {wanted:,} rows, {what} has {length:,}")
        return wanted

    def _take_out(self, out: Any) -> None:
        of = self.result
        if of is None:
            if out is not None:
                raise CallError("it has no result, so there is nothing to put into out: leave it away")
            self.rows = max(self.rows, 0)
            self.out = None
            return
        if out is None:
            try:
                out = self._made = array(of.code, bytes(of.width)) * self.rows
            except (MemoryError, OverflowError):
                raise CallError(f"there is no memory for the results of {self.rows:,} rows: call for fewer") from None
        self.out = out
        self._out = _Out(out, of)
        if self.rows < 0:
            self.rows = len(self._out)
        elif len(self._out) != self.rows:
            raise CallError(
                f"out has {count(len(self._out), 'row')}, and the columns have {self.rows:,}: make it equal"
            )

    @property
    def row_bytes(self) -> int:
        """Return how many bytes the arguments and the result of one row have."""
        return sum(of.width for of in self.params) + (0 if self.result is None else self.result.width)

    def load(self, first: int, number: int, targets: Sequence[memoryview]) -> None:
        """Copy the arguments of so many rows, column by column.

        Elements that another thread changed may be no values any more; these raise :class:`~aegis.errors.CallError`.
        """
        for column, target in zip(self._columns, targets, strict=True):
            target[:] = column.piece(first, number)
            column.check_piece(first, target)

    def pieces(self, first: int, number: int) -> Iterable[bytes]:
        """Return copies of the arguments of so many rows, column by column, checked as :meth:`load` does."""
        for column in self._columns:
            data = bytes(column.piece(first, number))
            column.check_piece(first, data)
            yield data

    def store(self, number: int, data: Any) -> None:
        """Keep the results of so many rows more."""
        if self._out is not None:
            self._out.put(self.done, data)
        self.done += number

    def locate(self, error: BaseException) -> None:
        """Say in what ended the call which row was under way, and keep the results before it; once for each error."""
        if not self.begun or error is self._located:
            return
        self._located = error
        if isinstance(error, AegisError):
            error.row = self.done
            error.partial = None if self._made is None else self._made[: self.done]
            error.args = (f"in row {self.done:,}: {error}", *error.args[1:])
        else:
            error.add_note(f"in row {self.done:,} of a call over columns")

    def close(self) -> None:
        """Let the caller resize its buffers again."""
        self._located = None
        for column in (*self._columns, self._out):
            if column is not None:
                column.release()
