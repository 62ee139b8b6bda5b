"""Columns of scalars in the caller's buffers: check buffers against types, and copy ranges of rows.

A column holds one argument of every row, contiguous or strided, as the buffer protocol describes it. Elements are
copied as bytes, so no Python object is created for an element. Each buffer stays exported while the call may use it,
so the caller cannot resize it. Other threads may still change its elements; the row then gets the old value or the
new one.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from struct import pack_into

from aegis.errors import AegisError, CallError
from aegis.support.lean import Any, NamedTuple
from aegis.text import count, shown

__all__ = ["SCALARS", "ColumnBatch", "Scalar", "bad_element"]


class Scalar(NamedTuple):
    """A type of fixed size: its WIT or core name, core value type, width in bytes and family of element formats.

    ``code`` is the type code of the :mod:`array` for results.
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
"""The core value types, whose integers have no signedness, and the primitives of WIT except ``string``."""

_SIGNED, _UNSIGNED = "bhilqn", "BHILQN"
_FORMATS = {
    "integer": _SIGNED + _UNSIGNED, "signed": _SIGNED, "unsigned": _UNSIGNED, "float": "fd", "bool": "?B",
    "char": _UNSIGNED + "wu",
}  # fmt: skip
"""The format characters of :mod:`struct` and :mod:`array` that each family accepts, given the right item size."""
_NATIVE_ORDER = "@=<" if sys.byteorder == "little" else "@=>!"
_ORDERS = frozenset("@=<>!")
_UTF_32 = f"utf-32-{sys.byteorder[0]}e"
_MAX_ROWS = sys.maxsize
_WRITTEN = frozenset("bBhHiIlLqQnNfd?")
"""The formats in which memoryview can assign elements."""
_CHECKED_ROWS = 1 << 16
"""Elements that one step checks, which bounds the size of the temporary copy."""


def bad_element(of: Scalar, data: Any) -> int | None:
    """Return the index of the first invalid element of ``data``, or ``None`` if all are valid values of ``of``.

    A bool must be 0 or 1, a char a Unicode scalar value. In the other types every bit pattern is valid.
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
    """One exported buffer: elements of one type."""

    __slots__ = ("_bytes", "judged", "of", "view", "what")

    def __init__(self, buffer: Any, of: Scalar, what: str) -> None:
        self.of, self.what = of, what
        try:
            self.view = view = memoryview(buffer)
        except Exception as error:  # an exporter may raise anything, such as NumPy's ValueError for datetime64
            reason = "" if isinstance(error, TypeError) else f" that exports no buffer ({shown(error, 200, str)})"
            raise CallError(
                f"{what} must be an {_wanted(of)}, or a memoryview or NumPy array of the same element type, "
                f"not {type(buffer).__name__}{reason}"
            ) from None
        try:
            self._check(view)
        except BaseException:
            view.release()
            raise
        self._bytes: memoryview | None = None
        with suppress(TypeError, ValueError):  # not contiguous, or in a format that memoryview does not support
            self._bytes = view.cast("B")
        self.judged = of.family == "char" or (of.family == "bool" and "?" not in view.format)
        """Whether some bit patterns are invalid, so that elements must be checked."""

    def _check(self, view: memoryview) -> None:
        what, of = self.what, self.of
        if view.ndim != 1:
            raise CallError(f"{what} has {count(view.ndim, 'dimension')} instead of 1: flatten it")
        order, code = ("@", view.format) if view.format[:1] not in _ORDERS else (view.format[:1], view.format[1:])
        if len(code) != 1 or code not in _FORMATS[of.family] or view.itemsize != of.width:
            given = f"elements of format {shown(view.format, 40)} and {count(view.itemsize, 'byte')}"
            raise CallError(f"{what} has {given}, but {of.name} needs the elements of an {_wanted(of)}")
        if of.width > 1 and order not in _NATIVE_ORDER:
            raise CallError(f"{what} has elements in another byte order than this machine: swap their bytes")

    def __len__(self) -> int:
        return len(self.view)

    def piece(self, first: int, number: int) -> Any:
        """Return the bytes of ``number`` elements from index ``first`` on."""
        if self._bytes is not None:
            width = self.of.width
            return self._bytes[first * width : (first + number) * width]
        return self.view[first : first + number].tobytes()

    def check_values(self) -> None:
        """Raise ``CallError`` for the first invalid element."""
        for first in range(0, len(self) if self.judged else 0, _CHECKED_ROWS):
            self.check_piece(first, self.piece(first, min(_CHECKED_ROWS, len(self) - first)))

    def check_piece(self, first: int, data: Any) -> None:
        """Raise ``CallError`` if ``data``, the bytes of the elements from ``first`` on, has an invalid element."""
        bad = bad_element(self.of, data) if self.judged else None
        if bad is not None:
            raise CallError(f"{self.what}: the element of row {first + bad:,} is not a valid {self.of.name}")

    def release(self) -> None:
        """Release the export, so that the caller can resize the buffer."""
        with suppress(BufferError):  # a thread left behind at the deadline may still hold a view of it
            if self._bytes is not None:
                self._bytes.release()
            self.view.release()


class _OutColumn(_Column):
    """An exported writable buffer for results."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Any, of: Scalar) -> None:
        super().__init__(buffer, of, "out")
        self._buffer = buffer
        view = self.view
        try:
            if view.readonly:
                raise CallError(f"out is read-only: give a writable buffer, such as an {_wanted(of)}")
            if self._bytes is None and not view.c_contiguous and view.format not in _WRITTEN:
                raise CallError(
                    f"out is not contiguous and has elements of format {shown(view.format, 40)}: make it contiguous"
                )
        except BaseException:
            self.release()
            raise

    def put(self, first: int, data: Any) -> None:
        """Store ``data``, the bytes of the elements from index ``first`` on."""
        width = self.of.width
        if self._bytes is not None:
            self._bytes[first * width : first * width + len(data)] = data
        elif self.view.c_contiguous:
            # memoryview assigns to a format such as '<i' only from a view of that format, and cast() cannot create one.
            pack_into(f"{len(data)}s", self._buffer, first * width, bytes(data))
        else:
            number = len(data) // width
            self.view[first : first + number] = memoryview(data).cast("B").cast(self.view.format)  # type: ignore[call-overload]

    def release(self) -> None:
        """Release the export; a thread left behind at the deadline can no longer write to the buffer."""
        self._buffer = None
        super().release()


def _wanted(of: Scalar) -> str:
    alternative = {"integer": f" or array({of.code.upper()!r})", "bool": " of 0 and 1"}.get(of.family, "")
    return f"array({of.code!r}){alternative}{' of code points' if of.family == 'char' else ''}"


class ColumnBatch:
    """One call over columns: the arguments of all rows, and the results so far.

    ``what`` returns the function's signature for messages; ``params`` are the names and types of its parameters.
    ``out`` is the buffer for results, or ``None``. ``done`` is the number of rows whose results are stored; ``begun``
    is set before the guest is entered. Raise :class:`~aegis.errors.CallError` for a buffer that does not fit.
    """

    __slots__ = ("_columns", "_located", "_made", "_out", "begun", "done", "out", "params", "result", "rows")

    def __init__(
        self, what: Callable[[], str], params: Sequence[tuple[str, Scalar]], result: Scalar | None,
        columns: Any, out: Any, rows: int | None = None,
    ) -> None:  # fmt: skip
        self.params, self.result = tuple(of for _, of in params), result
        self._columns: list[_Column] = []
        self._out: _OutColumn | None = None
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
            raise CallError(
                f"the function takes {count(len(params), 'column')}, one for each parameter, not {len(columns)}"
            )
        for n, (buffer, (name, of)) in enumerate(zip(columns, params, strict=True), 1):
            self._columns.append(_Column(buffer, of, f"column {n} ({name})" if name else f"column {n}"))

    def _count(self, rows: Any, out: Any) -> int:
        lengths = [(column.what, len(column)) for column in self._columns]
        if rows is not None:
            if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= _MAX_ROWS:
                raise CallError(f"rows must be an int from 0 to {_MAX_ROWS:,}, not {shown(rows, 40)}")
            lengths.insert(0, ("rows", rows))
        elif not lengths:
            if out is None:
                raise CallError("the function has no parameters, so no column gives the number of rows: pass rows=")
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
                raise CallError("the function has no result to store in out: omit out")
            self.rows = max(self.rows, 0)
            self.out = None
            return
        if out is None:
            try:
                out = self._made = array(of.code, bytes(of.width)) * self.rows
            except (MemoryError, OverflowError):
                raise CallError(f"out of memory for the results of {self.rows:,} rows: call with fewer rows") from None
        self.out = out
        self._out = _OutColumn(out, of)
        if self.rows < 0:
            self.rows = len(self._out)
        elif len(self._out) != self.rows:
            raise CallError(
                f"out has {count(len(self._out), 'row')}, but the columns have {self.rows:,}: pass out of that length"
            )

    @property
    def row_bytes(self) -> int:
        """Return the bytes of the arguments and the result of one row."""
        return sum(of.width for of in self.params) + (0 if self.result is None else self.result.width)

    @property
    def result_bytes(self) -> int:
        """Return the bytes of the result of one row."""
        return 0 if self.result is None else self.result.width

    def load(self, first: int, number: int, targets: Sequence[memoryview]) -> None:
        """Copy the arguments of ``number`` rows from ``first`` on into ``targets``, one target per column.

        Check the copy, because another thread may have changed the buffer since the first check; raise
        :class:`~aegis.errors.CallError` for an invalid element.
        """
        for column, target in zip(self._columns, targets, strict=True):
            target[:] = column.piece(first, number)
            column.check_piece(first, target)

    def pieces(self, first: int, number: int) -> Iterable[bytes]:
        """Yield, for each column, a checked copy of ``number`` rows from ``first`` on; see :meth:`load`."""
        for column in self._columns:
            data = bytes(column.piece(first, number))
            column.check_piece(first, data)
            yield data

    def store(self, number: int, data: Any) -> None:
        """Store the results of the next ``number`` rows."""
        if self._out is not None:
            self._out.put(self.done, data)
        self.done += number

    def locate(self, error: BaseException) -> None:
        """Add the failed row and the results before it to the error that ended the call; once for each error."""
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
        """Release all buffers, so that the caller can resize them."""
        self._located = None
        for column in (*self._columns, self._out):
            if column is not None:
                column.release()
