"""The cache of compiled code on disk. A missing, damaged or altered entry is a miss: the code is compiled again.

Loading altered native code executes it (engine facts, "What kills the host"). An entry therefore counts only if its
keyed digest is correct, and the key and all entries are in a folder that no other user can change or replace
(:mod:`aegis.engine.compile.private_folder`). Writers create a temporary file and rename it, so readers never see a
partial entry. All files are opened relative to the folder's descriptor, without following symbolic links.

Large code has a file of its own, which the engine maps instead of reading. Computing a digest of it would cost more
than everything else, so the entry authenticates the identity of the file instead: device, inode, size, modification
time and status change time. The kernel updates the status change time whenever a byte of the file changes or the file
gets another name, and no system call can set it (inode(7)).

The name of an entry is a digest of everything that determines the code: the bytes of the artifact, the engine's
version, the machine, the configuration and the compile limits. The keyed digest covers the name.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

# The functions behind hashlib.blake2b and hmac.compare_digest; importing hashlib and hmac would also load OpenSSL.
from _blake2 import blake2b
from _operator import _compare_digest as compare_digest
from collections.abc import Iterator

from aegis.engine.compile.cache_upkeep import CODE, KEY, CacheUse, clear, prune, remove, use
from aegis.engine.compile.private_folder import NotPrivate, open_private
from aegis.engine.native.library import lib
from aegis.limits import MIB, format_bytes, parse_bytes
from aegis.support.keywords import DEFAULT
from aegis.support.lean import Any
from aegis.wasm.digest import sha256_hex

__all__ = ["DEFAULT_SIZE", "SIZE_VARIABLE", "Cache", "default_folder"]

DEFAULT_SIZE = 512 * MIB
"""Bytes that a cache may take on disk."""
SIZE_VARIABLE = "AEGIS_CACHE_SIZE"
"""The environment variable that replaces the default size; ``none`` lifts all bounds, those on numbers too."""

_MAGIC = b"aegis-code-2\n"
_STAMP = b"aegis-file-2\n"
_MIN_MAPPED_BYTES = 1 << 20
"""Code of at least this size is stored in a separate file."""
_TAG_BYTES = 32
_MAX_FILES = 512
"""Entries kept whose code is in the entry; the oldest are removed first."""
_MAX_MAPPED_FILES = 64
"""Entries kept that have a separate file. They took seconds to compile, so many small entries do not displace them."""
_TRIAL_BYTES = 1 << 16
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def default_folder() -> str | None:
    """Return the user's cache folder for compiled code, which may not exist; ``None`` without a home directory.

    Relative values of ``XDG_CACHE_HOME`` and ``HOME`` are ignored, as the XDG Base Directory Specification requires:
    they would place the folder in the current directory.
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
    """Return the home directory from the user database (passwd(5))."""
    try:
        import pwd

        return _absolute(pwd.getpwuid(os.geteuid()).pw_dir)
    except (ImportError, KeyError):
        return None


class Cache:
    """A folder of compiled code. Reading and storing return ``None`` or do nothing if it or an entry is unusable.

    ``folder`` is its absolute path, or ``None`` if the user has no home directory. ``size`` is the number of bytes that
    the entries may take, of which the newest stay; ``None`` lifts the limit. Raise
    :class:`~aegis.errors.PolicyError` for an invalid size.
    """

    def __init__(self, folder: str | None = None, *, size: int | str | None = DEFAULT) -> None:
        self.folder = os.path.abspath(folder) if folder else default_folder()
        self.size = _size(size)
        self.fault: str | None = None
        """Why the latest code was not read or stored; ``None`` while the cache works."""

    def name(self, digest: str, fingerprint: str) -> str:
        """Return the entry's file name for an artifact's digest and a configuration."""
        machine = os.uname().machine if hasattr(os, "uname") else ""
        return sha256_hex(f"{digest} {lib.version} {sys.platform} {machine} {fingerprint}".encode())

    def get(self, name: str) -> bytes | None:
        """Return the code of the entry ``name`` if the entry is authentic."""
        try:
            with self._opened() as folder:
                data, secret = _read(folder, name), _read_key(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note(error)
            return None
        return _unsealed(_MAGIC, secret, name, data)

    def mapped(self, name: str) -> int | None:
        """Open the code file of the entry ``name`` if it is authentic; the caller closes the descriptor."""
        try:
            with self._opened() as folder:
                data, secret = _read(folder, name, 4096), _read_key(folder)
                stamp = _unsealed(_STAMP, secret, name, data)
                if stamp is None:
                    return None
                code = os.open(name + CODE, _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note(error)
            return None
        if not compare_digest(stamp, _stamp(os.fstat(code))):
            os.close(code)
            return None
        return code

    def put(self, name: str, code: bytes) -> None:
        """Store ``code`` as the entry ``name``; an error such as a full disk or a read-only folder is a ``fault``."""
        if self.size is not None and len(code) > self.size:
            self.fault = f"code of {format_bytes(len(code))} is larger than the cache ({format_bytes(self.size)})"
            return
        try:
            with self._opened(create=True) as folder:
                secret = _read_key(folder) or _make_key(folder)
                if len(code) >= _MIN_MAPPED_BYTES:
                    self._write(folder, name + CODE, code)
                    code, magic = _stamp(os.stat(name + CODE, dir_fd=folder, follow_symlinks=False)), _STAMP
                else:
                    magic = _MAGIC
                self._write(folder, name, magic + _seal(magic, secret, name, code) + code)
                if self.size is not None:
                    prune(folder, self.size, large=_MAX_MAPPED_FILES, small=_MAX_FILES)
        except OSError as error:
            self._note(error)

    def drop(self, name: str) -> None:
        """Remove an entry."""
        with contextlib.suppress(OSError), self._opened() as folder:
            remove(folder, name)
            remove(folder, name + CODE)

    # -- the cache as a whole ------------------------------------------------------------------

    def use(self) -> CacheUse:
        """Return the number and size of the entries; raise ``OSError`` if the folder is unusable."""
        try:
            with self._opened() as folder:
                return use(folder)
        except FileNotFoundError:
            return CacheUse(0, 0, 0)

    def try_out(self) -> None:
        """Create the folder and store and remove a file; raise ``OSError`` with the reason why code is not stored."""
        with self._opened(create=True) as folder:
            if not _read_key(folder):
                _make_key(folder)
            with _new_file(folder, bytes(_TRIAL_BYTES)) as name:
                file = os.open(name, _READ, dir_fd=folder)
                try:
                    os.fsync(file)  # some file systems report a full disk only when they allocate the blocks
                finally:
                    os.close(file)

    def clear(self) -> tuple[CacheUse, list[str]]:
        """Remove all entries; return their number and size, and the names of files of other origin, which remain.

        The key remains too, because other processes may be using it. Raise ``OSError`` if the folder is unusable.
        """
        try:
            with self._opened() as folder:
                return clear(folder)
        except FileNotFoundError:
            return CacheUse(0, 0, 0), []

    def explained(self, error: OSError) -> str:
        """Return the reason why the cache is unusable, in words."""
        return str(error) if error.errno is None else f"{(error.strerror or 'error').lower()}: {self.folder}"

    def _note(self, error: OSError) -> None:
        self.fault = self.explained(error)

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


def _size(given: Any) -> int | None:
    """Return the size in bytes: ``given``, or that of the environment, or the default."""
    if given is not DEFAULT:
        return None if given is None else parse_bytes(given, "cache_size")
    text = os.environ.get(SIZE_VARIABLE)
    if not text:
        return DEFAULT_SIZE
    return None if text == "none" else parse_bytes(text, SIZE_VARIABLE)


def _stamp(status: os.stat_result) -> bytes:
    """Return the identity of a file and of its last change, as bytes; empty for anything but a regular file."""
    if not stat.S_ISREG(status.st_mode):
        return b""
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return repr(identity).encode()


def _seal(magic: bytes, secret: bytes, name: str, body: bytes) -> bytes:
    digest = blake2b(magic, key=secret, digest_size=_TAG_BYTES)
    digest.update(bytes.fromhex(name))
    digest.update(body)
    return digest.digest()


def _unsealed(magic: bytes, secret: bytes, name: str, data: bytes) -> bytes | None:
    """Return the content of an entry if it begins with ``magic`` and its keyed digest is correct."""
    tag, body = data[len(magic) : len(magic) + _TAG_BYTES], data[len(magic) + _TAG_BYTES :]
    if not secret or not data.startswith(magic) or not compare_digest(tag, _seal(magic, secret, name, body)):
        return None
    return body


def _read(folder: int, name: str, most: int = -1) -> bytes:
    with os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(name)
        return file.read(most)


def _read_key(folder: int) -> bytes:
    """Return the secret key, or ``b""`` if it does not exist or another user or a guest may know it.

    A key file with a second hard link is rejected: the other name may lie in a directory granted to a guest.
    """
    try:
        descriptor = os.open(KEY, _READ, dir_fd=folder)
    except FileNotFoundError:
        return b""
    try:
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077 and status.st_nlink == 1
        if not private or not stat.S_ISREG(status.st_mode) or status.st_size != _TAG_BYTES:
            return b""
        return os.read(descriptor, _TAG_BYTES)
    finally:
        os.close(descriptor)


def _make_key(folder: int) -> bytes:
    """Create the secret key and return it. If two processes create one at the same time, both use the first."""
    import fcntl

    fcntl.flock(folder, fcntl.LOCK_EX)  # closing the folder's descriptor releases the lock
    secret = _read_key(folder)
    if not secret:
        secret = os.urandom(_TAG_BYTES)
        with _new_file(folder, secret) as temporary:
            os.replace(temporary, KEY, src_dir_fd=folder, dst_dir_fd=folder)
    return secret


@contextlib.contextmanager
def _new_file(folder: int, data: bytes) -> Iterator[str]:
    """Create a file of mode 0600 under a random name and yield the name; remove it at the end unless it was renamed."""
    name = f"tmp-{os.getpid()}-{os.urandom(8).hex()}"
    descriptor = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield name
    finally:
        remove(folder, name)
