"""Fixed frames: the encoding of a call whose parameters and results are scalars, and of its answer.

A general message is encoded and decoded value by value, which takes ten times as long as a small function runs. If all
parameters and results are numbers, bools, characters or enums, a call is a single ``struct`` instead:

    call    length (32 bits), ``c``, number of the call (32), number of the export (32), arguments
    answer  length (32 bits), ``r``, number of the call (32), account (:data:`ACCOUNT`), results

The length counts the bytes after it, as in every frame, so both kinds of messages can share a channel. Numbers are
little-endian and have the width of their type; a bool is a byte of 0 or 1, a character its code point, an enum the
index of its case in 8 or 32 bits. The first call of an export is a general message, which assigns its number.

The parent validates these answers as strictly as general messages: an answer must have exactly the length of its type
and the number of the pending call, and a value out of range raises :class:`ProtocolError`. Every bit pattern is valid
for an integer or a float, so only bools, characters and enums are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from aegis.isolation.protocol.frames import CALL, ProtocolError
from aegis.isolation.protocol.specs import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple, late

if TYPE_CHECKING:
    from aegis.wit import types
else:  # needed only for components
    types = late("aegis.wit.types")

__all__ = ["EXPORT", "KIND", "ScalarFrames", "are_scalars", "is_call"]

_ANSWER = b"r"
"""The kind of an answer. Plain data has neither this kind nor :data:`CALL` (:mod:`aegis.isolation.protocol.frames`)."""
KIND, EXPORT = slice(4, 5), slice(9, 13)
"""The positions of a frame's kind and of the export's number in a call."""
_CALL_HEAD, _ANSWER_HEAD, _ACCOUNT_HEAD = "<5sII", "<5sI" + ACCOUNT.format[1:], f"<5sI{ACCOUNT.size}s"
_LENGTH = Struct("<I")
_MAX_VALUES = 32
"""Maximum number of parameters, and of results, of a function that fixed frames can call."""


class _ScalarField(NamedTuple):
    """The encoding of one type in a frame.

    ``kind`` is the exact class of its Python values; ``lower`` and ``lift`` convert them unless they are ``None``.
    """

    format: str
    kind: type
    lower: Callable[[Any], int] | None = None
    lift: Callable[[int], Any] | None = None


def _code_point(value: str) -> int:
    point = ord(value)
    if 0xD800 <= point <= 0xDFFF:
        raise ValueError("a surrogate is not a Unicode scalar value")
    return point


def _character(point: int) -> str:
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise ProtocolError("invalid char in an answer")
    return chr(point)


def _truth(value: int) -> bool:
    if value > 1:
        raise ProtocolError("invalid bool in an answer")
    return value == 1


_INTEGERS = {
    "i32": "i", "i64": "q", "s8": "b", "s16": "h", "s32": "i", "s64": "q", "u8": "B", "u16": "H", "u32": "I",
    "u64": "Q",
}  # fmt: skip
_SCALARS: dict[Any, _ScalarField] = {
    **{name: _ScalarField(form, int) for name, form in _INTEGERS.items()},
    "f32": _ScalarField("f", float),
    "f64": _ScalarField("d", float),
    "bool": _ScalarField("B", bool, None, _truth),
    "char": _ScalarField("I", str, _code_point, _character),
}


def _enum(of: types.Enum) -> _ScalarField:
    assert of.python is not None
    members = [of.python(case) for case in of.cases]

    def lift(number: int) -> Any:
        if number >= len(members):
            raise ProtocolError("invalid enum case in an answer")
        return members[number]

    numbers = {member: n for n, member in enumerate(members)}
    return _ScalarField("B" if len(members) <= 256 else "I", of.python, numbers.__getitem__, lift)


def _scalar(of: Any) -> _ScalarField:
    return _SCALARS[of] if isinstance(of, str) else _enum(of)


def are_scalars(params: Sequence[Any], results: Sequence[Any]) -> bool:
    """Return whether fixed frames can call a function with these core or WIT types."""
    if max(len(params), len(results)) > _MAX_VALUES:
        return False
    return all(of in _SCALARS if isinstance(of, str) else isinstance(of, types.Enum) for of in (*params, *results))


class ScalarFrames:
    """The frames of a function with these types, for which :func:`are_scalars` must hold.

    ``kinds`` are the exact classes that arguments must have; calls with others use general messages.

    ``call`` packs :attr:`call_head`, the call's number, the export's number and the arguments. ``answer`` packs
    :attr:`answer_head`, the call's number, the counters of the account and the results. ``answer_with_account`` unpacks
    an answer without decoding the account.
    """

    __slots__ = (
        "answer",
        "answer_head",
        "answer_with_account",
        "call",
        "call_head",
        "kinds",
        "lift_params",
        "lift_results",
        "lower_params",
        "lower_results",
    )  # fmt: skip

    def __init__(self, param_types: Sequence[Any], result_types: Sequence[Any]) -> None:
        params, results = ([_scalar(of) for of in row] for row in (param_types, result_types))
        self.call = Struct(_CALL_HEAD + "".join(p.format for p in params))
        formats = "".join(r.format for r in results)
        self.answer, self.answer_with_account = Struct(_ANSWER_HEAD + formats), Struct(_ACCOUNT_HEAD + formats)
        self.call_head = _LENGTH.pack(self.call.size - _LENGTH.size) + CALL
        self.answer_head = _LENGTH.pack(self.answer.size - _LENGTH.size) + _ANSWER
        self.kinds = tuple(p.kind for p in params)
        self.lower_params, self.lower_results = (_each([of.lower for of in row]) for row in (params, results))
        self.lift_params, self.lift_results = (_each([of.lift for of in row]) for row in (params, results))


def _each(convert: Sequence[Callable[[Any], Any] | None]) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """Return the function that converts a row of values; ``None`` if no value needs conversion."""
    if not any(convert):
        return None
    return lambda row: [value if c is None else c(value) for c, value in zip(convert, row, strict=True)]


def is_call(data: bytes) -> bool:
    """Return whether the bytes that a worker received are exactly one frame with a call."""
    return data[KIND] == CALL and len(data) == _LENGTH.unpack_from(data)[0] + _LENGTH.size
