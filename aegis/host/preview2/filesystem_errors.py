"""``error-code`` of ``wasi:filesystem`` for each error of the system."""

from __future__ import annotations

import errno

from aegis.bindings.wasi_filesystem_types import ErrorCode
from aegis.host.preview2.answering import answering_with
from aegis.host.preview2.io import Failed, IoError

__all__ = ["answering", "code_of", "failed"]

_CODES = {
    errno.EACCES: ErrorCode.ACCESS, errno.EAGAIN: ErrorCode.WOULD_BLOCK, errno.EALREADY: ErrorCode.ALREADY,
    errno.EBADF: ErrorCode.BAD_DESCRIPTOR, errno.EBUSY: ErrorCode.BUSY, errno.EDEADLK: ErrorCode.DEADLOCK,
    errno.EEXIST: ErrorCode.EXIST, errno.EFBIG: ErrorCode.FILE_TOO_LARGE,
    errno.EILSEQ: ErrorCode.ILLEGAL_BYTE_SEQUENCE, errno.EINPROGRESS: ErrorCode.IN_PROGRESS,
    errno.EINTR: ErrorCode.INTERRUPTED, errno.EINVAL: ErrorCode.INVALID, errno.EIO: ErrorCode.IO,
    errno.EISDIR: ErrorCode.IS_DIRECTORY, errno.ELOOP: ErrorCode.LOOP, errno.EMLINK: ErrorCode.TOO_MANY_LINKS,
    errno.EMSGSIZE: ErrorCode.MESSAGE_SIZE, errno.ENAMETOOLONG: ErrorCode.NAME_TOO_LONG,
    errno.ENODEV: ErrorCode.NO_DEVICE, errno.ENOENT: ErrorCode.NO_ENTRY, errno.ENOLCK: ErrorCode.NO_LOCK,
    errno.ENOMEM: ErrorCode.INSUFFICIENT_MEMORY, errno.EMFILE: ErrorCode.INSUFFICIENT_MEMORY,
    errno.ENFILE: ErrorCode.INSUFFICIENT_MEMORY, errno.ENOSPC: ErrorCode.INSUFFICIENT_SPACE,
    errno.ENOTDIR: ErrorCode.NOT_DIRECTORY, errno.ENOTEMPTY: ErrorCode.NOT_EMPTY,
    errno.ENOTSUP: ErrorCode.UNSUPPORTED, errno.ENOSYS: ErrorCode.UNSUPPORTED, errno.ENOTTY: ErrorCode.NO_TTY,
    errno.ENXIO: ErrorCode.NO_SUCH_DEVICE, errno.EOVERFLOW: ErrorCode.OVERFLOW, errno.EPERM: ErrorCode.NOT_PERMITTED,
    errno.EPIPE: ErrorCode.PIPE, errno.EROFS: ErrorCode.READ_ONLY, errno.ESPIPE: ErrorCode.INVALID_SEEK,
    errno.ETXTBSY: ErrorCode.TEXT_FILE_BUSY, errno.EXDEV: ErrorCode.CROSS_DEVICE,
}  # fmt: skip
for _name, _code in (("EDQUOT", ErrorCode.QUOTA), ("ENOTRECOVERABLE", ErrorCode.NOT_RECOVERABLE)):
    if hasattr(errno, _name):
        _CODES[getattr(errno, _name)] = _code


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system; ``io`` for one that has none."""
    return _CODES.get(error.errno or 0, ErrorCode.IO)


def failed(error: OSError) -> Failed:
    """Return the failure of a stream; ``filesystem-error-code`` returns its code."""
    code = code_of(error)
    return Failed(IoError(code.value, code))


answering = answering_with(code_of, {UnicodeEncodeError: ErrorCode.ILLEGAL_BYTE_SEQUENCE})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""
