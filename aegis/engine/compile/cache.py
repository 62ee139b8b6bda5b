"""Compiled code on disk. An entry that is wrong in any way counts as absent: the code is compiled again.

Loading altered code can run anything (the table "What kills the host"), so an entry counts only if a keyed digest
over all of it is right, and the key and the entries lie in a folder that nobody else can change or replace
(:mod:`aegis.engine.compile.private_folder`). Entries are written to a temporary name and renamed, so a reader never
sees half of one. Everything is opened from the folder's descriptor, without following links.

Large code lies in a file of its own, which the engine maps instead of reading it. A digest over it would cost
more than everything else: its entry authenticates the file's identity instead (device, inode, size, times of
change). No byte of a file changes, and no further name is given to it, without a new change time, which no system
call can set.

The name of an entry is a digest of all that decides what runs: the artifact's bytes, the engine's version, the
machine, the configuration and the limits of compiling. The keyed digest covers the name.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

# Both are what hashlib and hmac give; those two load the system's cryptography besides.
from _blake2 import blake2b
from _operator import _compare_digest as compare_digest
from collections.abc import Iterator

from aegis.engine.compile.private_folder import NotPrivate, open_private
from aegis.engine.native.library import lib
from aegis.wasm.digest import sha256_hex

__all__ = ["Cache", "default_folder"]

_MAGIC = b"aegis-code-2\n"
_STAMP = b"aegis-file-2\n"
_MAPPED = 1 << 20
_TAG = 32
_KEY = "key"
_ENTRIES_KEPT = 512
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def default_folder() -> str | None:
    """Return the user's cache folder for compiled code, which need not exist; ``None`` if the user has no home.

    ``XDG_CACHE_HOME`` and ``HOME`` count only if they are absolute, as the XDG Base Directory Specification asks: a
    relative one would make the folder part of whatever directory the process was started in.
    """
    base = None if sys.platform == "darwin" else _absolute(os.environ.get("XDG_CACHE_HOME"))
    if base is None:
        home = _absolute(os.environ.get("HOME")) or _home_of_user()
        if home is None:
            return None
        base = os.path.join(home, "Library", "Caches") if sys.platform == "darwin" else os.path.join(home, ".cache")
    return os.path.join(base, "aegis", "code")


def _absolute(path: str | None) -> str | None:
    return path if path and os.path.isabs(path) else None


def _home_of_user() -> str | None:
    """Return the home directory that the user database names."""
    try:
        import pwd

        return _absolute(pwd.getpwuid(os.geteuid()).pw_dir)
    except (ImportError, KeyError):
        return None


class Cache:
    """A folder of compiled code; a method that finds anything wrong returns ``None`` or does nothing.

    ``folder`` is the absolute path, ``None`` if there is no place for a cache.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = os.path.abspath(folder) if folder else default_folder()

    def name(self, digest: str, fingerprint: str) -> str:
        """Return the entry's file name for an artifact's digest and a configuration."""
        machine = os.uname().machine if hasattr(os, "uname") else ""
        return sha256_hex(f"{digest} {lib.version} {sys.platform} {machine} {fingerprint}".encode())

    def get(self, name: str) -> bytes | None:
        """Return the code kept under ``name`` if it is untouched."""
        try:
            with self._opened() as folder:
                data, secret = _read(folder, name), _read_key(folder)
        except OSError:
            return None
        return _unsealed(_MAGIC, secret, name, data)

    def mapped(self, name: str) -> int | None:
        """Open the code kept under ``name`` in a file of its own, if it is untouched; the caller closes it."""
        try:
            with self._opened() as folder:
                data, secret = _read(folder, name, 4096), _read_key(folder)
                stamp = _unsealed(_STAMP, secret, name, data)
                if stamp is None:
                    return None
                code = os.open(f"{name}.code", _READ, dir_fd=folder)
        except OSError:
            return None
        if not compare_digest(stamp, _stamp(os.fstat(code))):
            os.close(code)
            return None
        return code

    def put(self, name: str, code: bytes) -> None:
        """Keep ``code`` under ``name``; a full disk or a read-only folder is no error."""
        with contextlib.suppress(OSError), self._opened(create=True) as folder:
            secret = _read_key(folder) or _make_key(folder)
            if len(code) >= _MAPPED:
                self._write(folder, f"{name}.code", code)
                code, magic = _stamp(os.stat(f"{name}.code", dir_fd=folder, follow_symlinks=False)), _STAMP
            else:
                magic = _MAGIC
            self._write(folder, name, magic + _seal(magic, secret, name, code) + code)
            _prune(folder)

    def drop(self, name: str) -> None:
        """Forget an entry that turned out to be of no use."""
        with contextlib.suppress(OSError), self._opened() as folder:
            _remove(folder, name)
            _remove(folder, f"{name}.code")

    def entries(self) -> int | None:
        """Return the number of files kept, ``None`` while there is no folder; raise ``OSError`` for one of no use."""
        try:
            with self._opened() as folder:
                if not os.access(".", os.W_OK, dir_fd=folder):
                    raise PermissionError(f"{self.folder} cannot be written")
                return len([name for name in os.listdir(folder) if name != _KEY])
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[int]:
        if self.folder is None:
            raise NotPrivate("this user has no home directory")
        folder = open_private(self.folder, create=create)
        try:
            yield folder
        finally:
            os.close(folder)

    @staticmethod
    def _write(folder: int, name: str, data: bytes) -> None:
        with _new_file(folder, data) as temporary:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _prune(folder: int) -> None:
    """Keep the newest entries only, so that the folder stays bounded."""
    names = [n for n in os.listdir(folder) if n != _KEY]
    if len(names) > _ENTRIES_KEPT:
        names.sort(key=lambda n: os.stat(n, dir_fd=folder, follow_symlinks=False).st_mtime)
        for name in names[: len(names) - _ENTRIES_KEPT]:
            _remove(folder, name)


def _stamp(status: os.stat_result) -> bytes:
    """Return what identifies a file and its last change."""
    if not stat.S_ISREG(status.st_mode):
        return b""
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return repr(identity).encode()


def _seal(magic: bytes, secret: bytes, name: str, body: bytes) -> bytes:
    digest = blake2b(magic, key=secret, digest_size=_TAG)
    digest.update(bytes.fromhex(name))
    digest.update(body)
    return digest.digest()


def _unsealed(magic: bytes, secret: bytes, name: str, data: bytes) -> bytes | None:
    """Return what an entry holds, if it is of this kind and its keyed digest is right."""
    tag, body = data[len(magic) : len(magic) + _TAG], data[len(magic) + _TAG :]
    if not secret or not data.startswith(magic) or not compare_digest(tag, _seal(magic, secret, name, body)):
        return None
    return body


def _read(folder: int, name: str, most: int = -1) -> bytes:
    with os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(name)
        return file.read(most)


def _read_key(folder: int) -> bytes:
    """Return the secret, or nothing if there is none that only this user can know.

    A key with a second name may be known wherever that name is granted, so it does not count.
    """
    try:
        descriptor = os.open(_KEY, _READ, dir_fd=folder)
    except FileNotFoundError:
        return b""
    try:
        status = os.fstat(descriptor)
        ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077 and status.st_nlink == 1
        if not ours or not stat.S_ISREG(status.st_mode) or status.st_size != _TAG:
            return b""
        return os.read(descriptor, _TAG)
    finally:
        os.close(descriptor)


def _make_key(folder: int) -> bytes:
    """Write a new secret. Of two processes that come here at once, the second uses the first one's."""
    import fcntl

    fcntl.flock(folder, fcntl.LOCK_EX)  # released when the folder is closed
    secret = _read_key(folder)
    if not secret:
        secret = os.urandom(_TAG)
        with _new_file(folder, secret) as temporary:
            os.replace(temporary, _KEY, src_dir_fd=folder, dst_dir_fd=folder)
    return secret


@contextlib.contextmanager
def _new_file(folder: int, data: bytes) -> Iterator[str]:
    """Make a private file under a new name, which is removed unless it was renamed."""
    name = f"tmp-{os.getpid()}-{os.urandom(8).hex()}"
    descriptor = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield name
    finally:
        _remove(folder, name)


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
