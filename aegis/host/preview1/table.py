"""The descriptor table: a guest's open files, directories and streams by number, with their rights."""

from __future__ import annotations

from aegis.host.files.open_file import OpenFileCount
from aegis.host.preview1.abi import Errno, Refused, Rights
from aegis.support.lean import TYPE_CHECKING, TypeVar, dataclass, field

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle, FileHandle
    from aegis.host.host_quota import QuotaReservation
    from aegis.host.stdio import StandardInput, StandardOutput

__all__ = ["DirectoryDescriptor", "Entry", "FileDescriptor", "StreamDescriptor", "Table"]


@dataclass(slots=True)
class StreamDescriptor:
    """The descriptor of a standard stream."""

    source: StandardInput | StandardOutput
    rights: int
    inheriting: int = 0


@dataclass(slots=True)
class FileDescriptor:
    """The descriptor of a regular file: its handle, ``fdflags``, position, and ``label``, its path for reports."""

    file: FileHandle
    rights: int
    flags: int
    position: int
    inheriting: int
    label: str

    @property
    def writable(self) -> bool:
        """Whether the grant allows changes, in whichever mode the file was opened."""
        return self.file.writable


@dataclass(slots=True)
class DirectoryDescriptor:
    """The descriptor of a directory. ``name`` is the guest's name of a preopen, ``label`` its path for reports."""

    directory: DirectoryHandle
    rights: int
    inheriting: int
    label: str
    name: bytes | None = None
    listing: list[tuple[bytes, int, int]] = field(default_factory=list)
    reservation: QuotaReservation | None = None

    @property
    def writable(self) -> bool:
        """Whether the grant allows changes."""
        return self.directory.writable


Entry = StreamDescriptor | FileDescriptor | DirectoryDescriptor


_Kind = TypeVar("_Kind", FileDescriptor, DirectoryDescriptor)


def _able(entry: _Kind, rights: int) -> _Kind:
    if entry.rights & rights != rights:
        raise Refused(Errno.NOTCAPABLE)
    return entry


class Table:
    """Descriptors by number. A new descriptor gets the lowest free number, as in POSIX."""

    def __init__(self, limit: int | None, *presets: Entry) -> None:
        """``presets`` are the streams, which do not count against ``open_files``."""
        self._entries: dict[int, Entry] = dict(enumerate(presets))
        self._count = OpenFileCount(limit)
        self._free: list[int] = []
        self._next = len(presets)

    def __len__(self) -> int:
        return len(self._entries)

    def preset(self, entry: Entry) -> None:
        """Add a preopen, which does not count against ``open_files``."""
        self._entries[self._next] = entry
        self._next += 1

    def room(self) -> None:
        """Raise ``EMFILE`` if no further file may be opened."""
        self._count.check()

    def add(self, entry: Entry) -> int:
        """Add an opened file or directory and return its number."""
        if self._free:
            self._free.sort()
            number = self._free.pop(0)
        else:
            number, self._next = self._next, self._next + 1
        self._entries[number] = entry
        self._count.used += 1  # even at the limit: room() was asked before the file was opened
        return number

    def get(self, number: int) -> Entry:
        """Return the entry of ``number``; raise ``BADF`` without one."""
        try:
            return self._entries[number]
        except KeyError:
            raise Refused(Errno.BADF) from None

    def file(self, number: int, rights: int) -> FileDescriptor:
        """Return the file of ``number``; raise ``BADF`` for another kind, ``NOTCAPABLE`` without ``rights``."""
        entry = self.get(number)
        if not isinstance(entry, FileDescriptor):
            raise Refused(Errno.BADF)
        return _able(entry, rights)

    def directory(self, number: int, rights: int) -> DirectoryDescriptor:
        """Return the directory of ``number``; raise ``BADF`` for another kind, ``NOTCAPABLE`` without ``rights``."""
        entry = self.get(number)
        if not isinstance(entry, DirectoryDescriptor):
            raise Refused(Errno.BADF)
        return _able(entry, rights)

    def close(self, number: int) -> None:
        """Close ``number``."""
        entry = self.get(number)
        del self._entries[number]
        self._free.append(number)
        self._release(entry)

    def renumber(self, source: int, target: int) -> None:
        """Move the entry of ``source`` to ``target``, and close the entry that ``target`` had."""
        moved, replaced = self.get(source), self.get(target)
        if source == target:
            return
        self._entries[target] = moved
        del self._entries[source]
        self._free.append(source)
        self._release(replaced)

    def _release(self, entry: Entry) -> None:
        if isinstance(entry, FileDescriptor):
            self._count.release()
            entry.file.close()
        elif isinstance(entry, DirectoryDescriptor):
            if entry.name is None:
                self._count.release()
            entry.directory.close()

    def close_all(self) -> None:
        """Close all entries, when the sandbox ends."""
        entries, self._entries = self._entries, {}
        for entry in entries.values():
            if not isinstance(entry, StreamDescriptor):
                self._release(entry)


STREAM_READ = Rights.FD_READ | Rights.POLL_FD_READWRITE | Rights.FD_FILESTAT_GET
STREAM_WRITE = Rights.FD_WRITE | Rights.POLL_FD_READWRITE | Rights.FD_FILESTAT_GET
