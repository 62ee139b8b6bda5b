"""Compiled code on disk. A cache that is wrong in any way is as good as none: the code is built again.

Deserialising altered bytes can run anything (the table "What kills the host"), so an entry counts only if
a keyed digest over all of it is right, and key and entries lie in a directory that only this user can
enter. Entries are written to a temporary name and renamed, so nobody ever reads half of one.

Large code lies in a file of its own, which the engine maps instead of reading it. A digest over it would cost
more than everything else: its entry seals the file's identity instead (device, inode, size, times of change),
and no byte of a file changes without its change time, which nobody can set back.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

# Both are what hashlib and hmac give; those two load the system's cryptography besides.
from _blake2 import blake2b
from _operator import _compare_digest as compare_digest
from collections.abc import Callable

from aegis.engine.digest import sha256_hex
from aegis.engine.native import lib

__all__ = ["Cache", "default_folder"]

_MAGIC = b"aegis-code-1\n"
_STAMP = b"aegis-file-1\n"
_MAPPED = 1 << 20
_TAG = 32
_KEY = "key"
_ENTRIES_KEPT = 512


def default_folder() -> str:
    """Return the user's cache folder for compiled code; it need not exist."""
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.join(base, "aegis", "code")


class Cache:
    """A folder of compiled modules; every method answers "nothing" rather than fail."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder or default_folder()
        self._secret: bytes | None = None

    def name(self, digest: str, fingerprint: str) -> str:
        """Return the entry's file name: the wasm's digest, the engine's version, the configuration."""
        machine = os.uname().machine if hasattr(os, "uname") else ""
        return sha256_hex(f"{digest} {lib.version} {sys.platform} {machine} {fingerprint}".encode())

    def get(self, name: str) -> bytes | None:
        """Return the code kept under ``name`` if it is untouched."""
        try:
            secret = self._key()
            with open(os.path.join(self.folder, name), "rb") as file:
                data = file.read()
        except OSError:
            return None
        body = data[len(_MAGIC) + _TAG :]
        tag = data[len(_MAGIC) : len(_MAGIC) + _TAG]
        if data[: len(_MAGIC)] != _MAGIC or not compare_digest(tag, _seal(secret, name, body)):
            return None
        return body

    def mapped(self, name: str) -> str | None:
        """Return the path of the code kept under ``name`` in a file of its own, if it is untouched."""
        path = os.path.join(self.folder, f"{name}.code")
        try:
            secret = self._key()
            with open(os.path.join(self.folder, name), "rb") as file:
                data = file.read(4096)
            stamp = _stamp(path)
        except OSError:
            return None
        if data[: len(_STAMP)] != _STAMP or not compare_digest(data[len(_STAMP) :], _seal(secret, name, stamp)):
            return None
        return path

    def put(self, name: str, code: bytes) -> None:
        """Keep ``code`` under ``name``; a full disk or a read-only folder is no error."""
        if len(code) < _MAPPED:
            self._write(name, code, lambda secret: _MAGIC + _seal(secret, name, code))
            return
        self._write(f"{name}.code", code, lambda secret: b"")
        with contextlib.suppress(OSError):
            stamp = _stamp(os.path.join(self.folder, f"{name}.code"))
            self._write(name, b"", lambda secret: _STAMP + _seal(secret, name, stamp))

    def _write(self, name: str, code: bytes, head: Callable[[bytes], bytes]) -> None:
        temporary = None
        try:
            secret = self._key()
            descriptor, temporary = _new_file(self.folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(head(secret))
                file.write(code)
            os.replace(temporary, os.path.join(self.folder, name))
            temporary = None
            self._prune()
        except OSError:
            pass
        finally:
            if temporary is not None:
                _remove(temporary)

    def drop(self, name: str) -> None:
        """Forget an entry that turned out to be of no use."""
        _remove(os.path.join(self.folder, name))
        _remove(os.path.join(self.folder, f"{name}.code"))

    def _key(self) -> bytes:
        """Return the secret, made at first use; raise ``OSError`` when the folder is not ours alone."""
        if self._secret is None:
            _private_folder(self.folder)
            path = os.path.join(self.folder, _KEY)
            secret = _read_key(path)
            if len(secret) != _TAG:
                secret = _make_key(self.folder, path)
            self._secret = secret
        return self._secret

    def _prune(self) -> None:
        """Keep the newest entries only, so that the folder stays bounded."""
        names = [n for n in os.listdir(self.folder) if n != _KEY]
        if len(names) > _ENTRIES_KEPT:
            paths = sorted((os.path.join(self.folder, n) for n in names), key=lambda p: os.stat(p).st_mtime)
            for path in paths[: len(names) - _ENTRIES_KEPT]:
                _remove(path)


def _stamp(path: str) -> bytes:
    """Return what identifies a file and the last change of it."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(path)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return repr(identity).encode()


def _seal(secret: bytes, name: str, code: bytes) -> bytes:
    return blake2b(code, key=secret, digest_size=_TAG, person=bytes.fromhex(name)[:16]).digest()


def _private_folder(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(path)
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        if status.st_uid != os.getuid():
            raise PermissionError(path)
        os.chmod(path, 0o700)


def _read_key(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return b""
    try:
        status = os.fstat(descriptor)
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
            return b""
        return os.read(descriptor, _TAG + 1)
    finally:
        os.close(descriptor)


def _make_key(folder: str, path: str) -> bytes:
    """Write a new secret. Of two processes that meet here one wins, and both use the winner's."""
    descriptor, temporary = _new_file(folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_TAG))
        if _read_key(path):
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                if not _read_key(path):
                    os.replace(temporary, path)
    finally:
        _remove(temporary)
    secret = _read_key(path)
    if len(secret) != _TAG:
        raise OSError("the cache's key cannot be made")
    return secret


def _new_file(folder: str) -> tuple[int, str]:
    """Make an empty private file under a name that nobody else has."""
    path = os.path.join(folder, f"tmp-{os.getpid()}-{os.urandom(8).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600), path


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
