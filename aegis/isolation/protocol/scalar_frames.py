"""Fixed frames: how a call whose parameters and results are scalars crosses, and its answer.

A general message is built and read value by value, which takes ten times as long as the guest needs for a small
function. Where all parameters and results are numbers, bools, characters or enums, a call is one ``struct`` instead:

    call    length (32 bits), ``c``, number of the call (32), number of the export (32), arguments
    answer  length (32 bits), ``r``, number of the call (32), account (:data:`ACCOUNT`), results

The length counts the bytes after it, as in every frame, so both kinds share a conversation. Numbers are little-endian
and have their type's width; a bool is a byte of 0 or 1, a character its code point, an enum the number of its case in 8
or 32 bits. An export has a number once it was called by a general message that says which.

The parent believes no more here than elsewhere: an answer has exactly the length of its type, and the number of the
call that waits for it; a value that its type does not have raises :class:`Broken`. A width holds nothing else than its
integers, so only bools, characters and enums need a look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from aegis.isolation.protocol.frames import CALL, Broken
from aegis.isolation.protocol.setup import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple, late

if TYPE_CHECKING:
    from aegis.wit import types
else:  # of components alone
    types = late("aegis.wit.types")

__all__ = ["EXPORT", "KIND", "ScalarFrames", "are_scalars", "is_call"]

_ANSWER = b"r"
"""The kind of an answer; no value is of this kind, nor of :data:`CALL` (:mod:`aegis.isolation.protocol.frames`)."""
KIND, EXPORT = slice(4, 5), slice(9, 13)
"""Where a frame has its kind, and a call the number of its export."""
_CALL_HEAD, _ANSWER_HEAD, _TOLD_HEAD = "<5sII", "<5sI" + ACCOUNT.format[1:], f"<5sI{ACCOUNT.size}s"
_LENGTH = Struct("<I")
_MAX_VALUES = 32
"""Parameters, and results, of a function that is called by fixed frames."""


class _Scalar(NamedTuple):
    """How values of one type lie in a frame. ``kind`` is their exact class; without functions they pass as they are."""

    format: str
    kind: type
    lower: Callable[[Any], int] | None = None
    lift: Callable[[int], Any] | None = None


def _code_point(value: str) -> int:
    point = ord(value)
    if 0xD800 <= point <= 0xDFFF:
        raise ValueError("a surrogate is no character")
    return point


def _character(point: int) -> str:
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise Broken("something other than the char that was due")
    return chr(point)


def _truth(value: int) -> bool:
    if value > 1:
        raise Broken("something other than the bool that was due")
    return value == 1


_INTEGERS = {
    "i32": "i", "i64": "q", "s8": "b", "s16": "h", "s32": "i", "s64": "q", "u8": "B", "u16": "H", "u32": "I",
    "u64": "Q",
}  # fmt: skip
_SCALARS: dict[Any, _Scalar] = {
    **{name: _Scalar(form, int) for name, form in _INTEGERS.items()},
    "f32": _Scalar("f", float),
    "f64": _Scalar("d", float),
    "bool": _Scalar("B", bool, None, _truth),
    "char": _Scalar("I", str, _code_point, _character),
}


def _enum(of: types.Enum) -> _Scalar:
    assert of.python is not None
    members = [of.python(case) for case in of.cases]

    def lift(number: int) -> Any:
        if number >= len(members):
            raise Broken("something other than the case that was due")
        return members[number]

    numbers = {member: n for n, member in enumerate(members)}
    return _Scalar("B" if len(members) <= 256 else "I", of.python, numbers.__getitem__, lift)


def _scalar(of: Any) -> _Scalar:
    return _SCALARS[of] if isinstance(of, str) else _enum(of)


def are_scalars(params: Sequence[Any], results: Sequence[Any]) -> bool:
    """Tell whether a function with these core or WIT types can be called by fixed frames."""
    if max(len(params), len(results)) > _MAX_VALUES:
        return False
    return all(of in _SCALARS if isinstance(of, str) else isinstance(of, types.Enum) for of in (*params, *results))


class ScalarFrames:
    """The frames of a function with these types, for which :func:`are_scalars` holds.

    ``kinds`` are the exact classes of arguments that pass; others go the general way.

    ``call`` packs :attr:`call_head`, the call's number, the export's number and the arguments; ``answer`` packs
    :attr:`answer_head`, the call's number, the counters of the account and the results. ``told`` unpacks an answer with
    its account in one piece.
    """

    __slots__ = (
        "answer", "answer_head", "call", "call_head", "kinds", "lift_params", "lift_results", "lower_params",
        "lower_results", "told",
    )  # fmt: skip

    def __init__(self, param_types: Sequence[Any], result_types: Sequence[Any]) -> None:
        params, results = ([_scalar(of) for of in row] for row in (param_types, result_types))
        self.call = Struct(_CALL_HEAD + "".join(p.format for p in params))
        self.answer, self.told = (Struct(h + "".join(r.format for r in results)) for h in (_ANSWER_HEAD, _TOLD_HEAD))
        self.call_head = _LENGTH.pack(self.call.size - _LENGTH.size) + CALL
        self.answer_head = _LENGTH.pack(self.answer.size - _LENGTH.size) + _ANSWER
        self.kinds = tuple(p.kind for p in params)
        self.lower_params, self.lower_results = (_each([of.lower for of in row]) for row in (params, results))
        self.lift_params, self.lift_results = (_each([of.lift for of in row]) for row in (params, results))


def _each(convert: Sequence[Callable[[Any], Any] | None]) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """Return the function that converts a row of values; ``None`` if they all pass as they are."""
    if not any(convert):
        return None
    return lambda row: [value if c is None else c(value) for c, value in zip(convert, row, strict=True)]


def is_call(data: bytes) -> bool:
    """Tell whether what a worker received is one frame, and a call."""
    return data[KIND] == CALL and len(data) == _LENGTH.unpack_from(data)[0] + _LENGTH.size
