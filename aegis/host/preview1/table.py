"""The descriptor table: what a guest has open, by number, with its rights."""

from __future__ import annotations

from aegis.host.preview1.abi import Errno, Refused, Rights
from aegis.support.lean import TYPE_CHECKING, TypeVar, dataclass, field

if TYPE_CHECKING:
    from aegis.host.files.directory import Directory, Opened
    from aegis.host.host_quota import Holding
    from aegis.host.stdio import Input, Output

__all__ = ["Entry", "OpenDirectory", "OpenFile", "Stream", "Table"]


@dataclass(slots=True)
class Stream:
    """A standard stream."""

    source: Input | Output
    rights: int
    inheriting: int = 0


@dataclass(slots=True)
class OpenFile:
    """A regular file, kept open by ``opened``. ``writable`` tells that its grant writes, however it was opened."""

    opened: Opened
    descriptor: int
    rights: int
    writable: bool = False
    flags: int = 0
    position: int = 0
    inheriting: int = 0


@dataclass(slots=True)
class OpenDirectory:
    """A directory; ``name`` is how the guest finds a preopen, ``label`` where it lies, for reports."""

    directory: Directory
    rights: int
    inheriting: int
    label: str
    name: bytes | None = None
    listing: list[tuple[bytes, int, int]] = field(default_factory=list)
    holding: Holding | None = None

    @property
    def writable(self) -> bool:
        """Whether its grant writes."""
        return self.directory.writable


Entry = Stream | OpenFile | OpenDirectory


_Kind = TypeVar("_Kind", OpenFile, OpenDirectory)


def _able(entry: _Kind, rights: int) -> _Kind:
    if entry.rights & rights != rights:
        raise Refused(Errno.NOTCAPABLE)
    return entry


class Table:
    """Descriptors by number. A new one gets the lowest free number, as in POSIX."""

    def __init__(self, limit: int | None, *presets: Entry) -> None:
        """``presets`` are the streams, which no limit counts."""
        self._entries: dict[int, Entry] = dict(enumerate(presets))
        self._limit = limit
        self._free: list[int] = []
        self._next = len(presets)
        self._counted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def preset(self, entry: Entry) -> None:
        """Add a preopen, which no limit counts either."""
        self._entries[self._next] = entry
        self._next += 1

    def room(self) -> None:
        """Refuse (``MFILE``) when all that may be open is."""
        if self._limit is not None and self._counted >= self._limit:
            raise Refused(Errno.MFILE)

    def add(self, entry: Entry) -> int:
        """Add an opened file or directory and return its number."""
        if self._free:
            self._free.sort()
            number = self._free.pop(0)
        else:
            number, self._next = self._next, self._next + 1
        self._entries[number] = entry
        self._counted += 1
        return number

    def get(self, number: int) -> Entry:
        """Return what ``number`` stands for, or refuse with ``BADF``."""
        try:
            return self._entries[number]
        except KeyError:
            raise Refused(Errno.BADF) from None

    def file(self, number: int, rights: int) -> OpenFile:
        """Return the file of ``number`` if it has ``rights``."""
        entry = self.get(number)
        if not isinstance(entry, OpenFile):
            raise Refused(Errno.BADF)
        return _able(entry, rights)

    def directory(self, number: int, rights: int) -> OpenDirectory:
        """Return the directory of ``number`` if it has ``rights``."""
        entry = self.get(number)
        if not isinstance(entry, OpenDirectory):
            raise Refused(Errno.BADF)
        return _able(entry, rights)

    def close(self, number: int) -> None:
        """Close ``number``."""
        entry = self.get(number)
        del self._entries[number]
        self._free.append(number)
        self._release(entry)

    def renumber(self, source: int, target: int) -> None:
        """Let ``target`` stand for what ``source`` did, closing what it stood for."""
        moved, replaced = self.get(source), self.get(target)
        if source == target:
            return
        self._entries[target] = moved
        del self._entries[source]
        self._free.append(source)
        self._release(replaced)

    def _release(self, entry: Entry) -> None:
        if isinstance(entry, OpenFile):
            self._counted -= 1
            entry.opened.close(entry.descriptor)
        elif isinstance(entry, OpenDirectory):
            if entry.name is None:
                self._counted -= 1
            entry.directory.close()

    def close_all(self) -> None:
        """Close everything, as the sandbox ends."""
        entries, self._entries = self._entries, {}
        for entry in entries.values():
            if not isinstance(entry, Stream):
                self._release(entry)


STREAM_READ = Rights.FD_READ | Rights.POLL_FD_READWRITE | Rights.FD_FILESTAT_GET
STREAM_WRITE = Rights.FD_WRITE | Rights.POLL_FD_READWRITE | Rights.FD_FILESTAT_GET
