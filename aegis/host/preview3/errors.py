"""``error-code`` of ``wasi:filesystem`` for each error of the system."""

from __future__ import annotations

from aegis.bindings.wasi_filesystem_types_0_3 import ERROR_CODE, ErrorCode, ErrorCodeIllegalByteSequence, ErrorCodeOther
from aegis.host.answering import answering_with
from aegis.host.files.error_names import error_name

__all__ = ["answering", "code_of"]

assert ERROR_CODE.python is not None
_CLASSES = dict(zip((name for name, _ in ERROR_CODE.cases), ERROR_CODE.python, strict=True))


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system: ``io`` for one that has none, ``other`` for one of WASI 0.2 alone."""
    name = error_name(error)
    made: ErrorCode = _CLASSES[name]() if name in _CLASSES else ErrorCodeOther(name)
    return made


answering = answering_with(code_of, {UnicodeEncodeError: ErrorCodeIllegalByteSequence()})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""
