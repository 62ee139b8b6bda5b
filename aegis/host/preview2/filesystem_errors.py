"""``error-code`` of ``wasi:filesystem`` for each error of the system."""

from __future__ import annotations

from aegis.bindings.wasi_filesystem_types import ErrorCode
from aegis.host.answering import answering_with
from aegis.host.files.error_names import error_name
from aegis.host.preview2.io import Failed, IoError

__all__ = ["answering", "code_of", "failed"]


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system; ``io`` for one that has none."""
    return ErrorCode(error_name(error))


def failed(error: OSError) -> Failed:
    """Return the failure of a stream; ``filesystem-error-code`` returns its code."""
    code = code_of(error)
    return Failed(IoError(code.value, code))


answering = answering_with(code_of, {UnicodeEncodeError: ErrorCode.ILLEGAL_BYTE_SEQUENCE})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""
