"""The error codes of ``wasi:filesystem``, by their names in WIT, for each error of the system."""

from __future__ import annotations

import errno

__all__ = ["error_name"]

_NAMES = {
    errno.EACCES: "access", errno.EAGAIN: "would-block", errno.EALREADY: "already", errno.EBADF: "bad-descriptor",
    errno.EBUSY: "busy", errno.EDEADLK: "deadlock", errno.EEXIST: "exist", errno.EFBIG: "file-too-large",
    errno.EILSEQ: "illegal-byte-sequence", errno.EINPROGRESS: "in-progress", errno.EINTR: "interrupted",
    errno.EINVAL: "invalid", errno.EIO: "io", errno.EISDIR: "is-directory", errno.ELOOP: "loop",
    errno.EMLINK: "too-many-links", errno.EMSGSIZE: "message-size", errno.ENAMETOOLONG: "name-too-long",
    errno.ENODEV: "no-device", errno.ENOENT: "no-entry", errno.ENOLCK: "no-lock", errno.ENOMEM: "insufficient-memory",
    errno.EMFILE: "insufficient-memory", errno.ENFILE: "insufficient-memory", errno.ENOSPC: "insufficient-space",
    errno.ENOTDIR: "not-directory", errno.ENOTEMPTY: "not-empty", errno.ENOTSUP: "unsupported",
    errno.ENOSYS: "unsupported", errno.ENOTTY: "no-tty", errno.ENXIO: "no-such-device", errno.EOVERFLOW: "overflow",
    errno.EPERM: "not-permitted", errno.EPIPE: "pipe", errno.EROFS: "read-only", errno.ESPIPE: "invalid-seek",
    errno.ETXTBSY: "text-file-busy", errno.EXDEV: "cross-device",
}  # fmt: skip
for _name, _code in (("EDQUOT", "quota"), ("ENOTRECOVERABLE", "not-recoverable")):
    if hasattr(errno, _name):
        _NAMES[getattr(errno, _name)] = _code


def error_name(error: OSError) -> str:
    """Return the name of the code of an error of the system; ``io`` for one that has none."""
    return _NAMES.get(error.errno or 0, "io")
