# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:filesystem/types@0.2.12``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.bindings.wasi_clocks_wall_clock import DATETIME, Datetime
from aegis.bindings.wasi_io_streams import ERROR, INPUT_STREAM, OUTPUT_STREAM, Error, InputStream, OutputStream
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
)
from aegis.wit.values import BitFlags, Err

__all__ = [
    "ADVICE",
    "DATETIME",
    "DESCRIPTOR",
    "DESCRIPTOR_FLAGS",
    "DESCRIPTOR_STAT",
    "DESCRIPTOR_TYPE",
    "DIRECTORY_ENTRY",
    "DIRECTORY_ENTRY_STREAM",
    "ERROR",
    "ERROR_CODE",
    "FILESIZE",
    "INPUT_STREAM",
    "INTERFACE",
    "LINK_COUNT",
    "METADATA_HASH_VALUE",
    "NEW_TIMESTAMP",
    "OPEN_FLAGS",
    "OUTPUT_STREAM",
    "PATH_FLAGS",
    "Advice",
    "Datetime",
    "Descriptor",
    "DescriptorFlags",
    "DescriptorStat",
    "DescriptorType",
    "DirectoryEntry",
    "DirectoryEntryStream",
    "Error",
    "ErrorCode",
    "Filesize",
    "Host",
    "InputStream",
    "LinkCount",
    "MetadataHashValue",
    "NewTimestamp",
    "NewTimestampNoChange",
    "NewTimestampNow",
    "NewTimestampTimestamp",
    "OpenFlags",
    "OutputStream",
    "PathFlags",
]

Filesize: TypeAlias = int


class DescriptorType(enum.Enum):
    """The enum ``descriptor-type``."""

    UNKNOWN = "unknown"
    BLOCK_DEVICE = "block-device"
    CHARACTER_DEVICE = "character-device"
    DIRECTORY = "directory"
    FIFO = "fifo"
    SYMBOLIC_LINK = "symbolic-link"
    REGULAR_FILE = "regular-file"
    SOCKET = "socket"


class DescriptorFlags(BitFlags):
    """The flags ``descriptor-flags``."""

    READ = 1 << 0
    WRITE = 1 << 1
    FILE_INTEGRITY_SYNC = 1 << 2
    DATA_INTEGRITY_SYNC = 1 << 3
    REQUESTED_WRITE_SYNC = 1 << 4
    MUTATE_DIRECTORY = 1 << 5


class PathFlags(BitFlags):
    """The flags ``path-flags``."""

    SYMLINK_FOLLOW = 1 << 0


class OpenFlags(BitFlags):
    """The flags ``open-flags``."""

    CREATE = 1 << 0
    DIRECTORY = 1 << 1
    EXCLUSIVE = 1 << 2
    TRUNCATE = 1 << 3


LinkCount: TypeAlias = int


@dataclass(frozen=True, slots=True)
class DescriptorStat:
    """The record ``descriptor-stat``."""

    type_: DescriptorType
    link_count: LinkCount
    size: Filesize
    data_access_timestamp: Datetime | None
    data_modification_timestamp: Datetime | None
    status_change_timestamp: Datetime | None


@dataclass(frozen=True, slots=True)
class NewTimestampNoChange:
    """``no-change`` of ``new-timestamp``."""


@dataclass(frozen=True, slots=True)
class NewTimestampNow:
    """``now`` of ``new-timestamp``."""


@dataclass(frozen=True, slots=True)
class NewTimestampTimestamp:
    """``timestamp`` of ``new-timestamp``."""

    value: Datetime


NewTimestamp: TypeAlias = NewTimestampNoChange | NewTimestampNow | NewTimestampTimestamp


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """The record ``directory-entry``."""

    type_: DescriptorType
    name: str


class ErrorCode(enum.Enum):
    """The enum ``error-code``."""

    ACCESS = "access"
    WOULD_BLOCK = "would-block"
    ALREADY = "already"
    BAD_DESCRIPTOR = "bad-descriptor"
    BUSY = "busy"
    DEADLOCK = "deadlock"
    QUOTA = "quota"
    EXIST = "exist"
    FILE_TOO_LARGE = "file-too-large"
    ILLEGAL_BYTE_SEQUENCE = "illegal-byte-sequence"
    IN_PROGRESS = "in-progress"
    INTERRUPTED = "interrupted"
    INVALID = "invalid"
    IO = "io"
    IS_DIRECTORY = "is-directory"
    LOOP = "loop"
    TOO_MANY_LINKS = "too-many-links"
    MESSAGE_SIZE = "message-size"
    NAME_TOO_LONG = "name-too-long"
    NO_DEVICE = "no-device"
    NO_ENTRY = "no-entry"
    NO_LOCK = "no-lock"
    INSUFFICIENT_MEMORY = "insufficient-memory"
    INSUFFICIENT_SPACE = "insufficient-space"
    NOT_DIRECTORY = "not-directory"
    NOT_EMPTY = "not-empty"
    NOT_RECOVERABLE = "not-recoverable"
    UNSUPPORTED = "unsupported"
    NO_TTY = "no-tty"
    NO_SUCH_DEVICE = "no-such-device"
    OVERFLOW = "overflow"
    NOT_PERMITTED = "not-permitted"
    PIPE = "pipe"
    READ_ONLY = "read-only"
    INVALID_SEEK = "invalid-seek"
    TEXT_FILE_BUSY = "text-file-busy"
    CROSS_DEVICE = "cross-device"


class Advice(enum.Enum):
    """The enum ``advice``."""

    NORMAL = "normal"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    WILL_NEED = "will-need"
    DONT_NEED = "dont-need"
    NO_REUSE = "no-reuse"


@dataclass(frozen=True, slots=True)
class MetadataHashValue:
    """The record ``metadata-hash-value``."""

    lower: int
    upper: int


class Descriptor(Protocol):
    """The resource ``descriptor``."""

    def read_via_stream(self, offset: Filesize) -> InputStream | Err[ErrorCode]: ...

    def write_via_stream(self, offset: Filesize) -> OutputStream | Err[ErrorCode]: ...

    def append_via_stream(self) -> OutputStream | Err[ErrorCode]: ...

    def advise(self, offset: Filesize, length: Filesize, advice: Advice) -> Err[ErrorCode] | None: ...

    def sync_data(self) -> Err[ErrorCode] | None: ...

    def get_flags(self) -> DescriptorFlags | Err[ErrorCode]: ...

    def get_type(self) -> DescriptorType | Err[ErrorCode]: ...

    def set_size(self, size: Filesize) -> Err[ErrorCode] | None: ...

    def set_times(
        self,
        data_access_timestamp: NewTimestamp,
        data_modification_timestamp: NewTimestamp,
    ) -> Err[ErrorCode] | None: ...

    def read(self, length: Filesize, offset: Filesize) -> tuple[bytes, bool] | Err[ErrorCode]: ...

    def write(self, buffer: bytes, offset: Filesize) -> Filesize | Err[ErrorCode]: ...

    def read_directory(self) -> DirectoryEntryStream | Err[ErrorCode]: ...

    def sync(self) -> Err[ErrorCode] | None: ...

    def create_directory_at(self, path: str) -> Err[ErrorCode] | None: ...

    def stat(self) -> DescriptorStat | Err[ErrorCode]: ...

    def stat_at(self, path_flags: PathFlags, path: str) -> DescriptorStat | Err[ErrorCode]: ...

    def set_times_at(
        self,
        path_flags: PathFlags,
        path: str,
        data_access_timestamp: NewTimestamp,
        data_modification_timestamp: NewTimestamp,
    ) -> Err[ErrorCode] | None: ...

    def link_at(
        self,
        old_path_flags: PathFlags,
        old_path: str,
        new_descriptor: Descriptor,
        new_path: str,
    ) -> Err[ErrorCode] | None: ...

    def open_at(
        self,
        path_flags: PathFlags,
        path: str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Descriptor | Err[ErrorCode]: ...

    def readlink_at(self, path: str) -> str | Err[ErrorCode]: ...

    def remove_directory_at(self, path: str) -> Err[ErrorCode] | None: ...

    def rename_at(self, old_path: str, new_descriptor: Descriptor, new_path: str) -> Err[ErrorCode] | None: ...

    def symlink_at(self, old_path: str, new_path: str) -> Err[ErrorCode] | None: ...

    def unlink_file_at(self, path: str) -> Err[ErrorCode] | None: ...

    def is_same_object(self, other: Descriptor) -> bool: ...

    def metadata_hash(self) -> MetadataHashValue | Err[ErrorCode]: ...

    def metadata_hash_at(self, path_flags: PathFlags, path: str) -> MetadataHashValue | Err[ErrorCode]: ...


class DirectoryEntryStream(Protocol):
    """The resource ``directory-entry-stream``."""

    def read_directory_entry(self) -> DirectoryEntry | Err[ErrorCode] | None: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def filesystem_error_code(self, err: Error) -> ErrorCode | None: ...


_NAME = "wasi:filesystem/types@0.2.12"

FILESIZE = "u64"
DESCRIPTOR_TYPE = Enum(
    "descriptor-type",
    ("unknown", "block-device", "character-device", "directory", "fifo", "symbolic-link", "regular-file", "socket"),
    python=DescriptorType,
    owner=_NAME,
)
DESCRIPTOR_FLAGS = Flags(
    "descriptor-flags",
    ("read", "write", "file-integrity-sync", "data-integrity-sync", "requested-write-sync", "mutate-directory"),
    python=DescriptorFlags,
    owner=_NAME,
)
PATH_FLAGS = Flags("path-flags", ("symlink-follow",), python=PathFlags, owner=_NAME)
OPEN_FLAGS = Flags("open-flags", ("create", "directory", "exclusive", "truncate"), python=OpenFlags, owner=_NAME)
LINK_COUNT = "u64"
DESCRIPTOR_STAT = Record(
    "descriptor-stat",
    (
        ("type", DESCRIPTOR_TYPE),
        ("link-count", LINK_COUNT),
        ("size", FILESIZE),
        ("data-access-timestamp", Option(DATETIME)),
        ("data-modification-timestamp", Option(DATETIME)),
        ("status-change-timestamp", Option(DATETIME)),
    ),
    python=DescriptorStat,
    owner=_NAME,
)
NEW_TIMESTAMP = Variant(
    "new-timestamp",
    (("no-change", None), ("now", None), ("timestamp", DATETIME)),
    python=(NewTimestampNoChange, NewTimestampNow, NewTimestampTimestamp),
    owner=_NAME,
)
DIRECTORY_ENTRY = Record(
    "directory-entry",
    (("type", DESCRIPTOR_TYPE), ("name", "string")),
    python=DirectoryEntry,
    owner=_NAME,
)
ERROR_CODE = Enum(
    "error-code",
    (
        "access",
        "would-block",
        "already",
        "bad-descriptor",
        "busy",
        "deadlock",
        "quota",
        "exist",
        "file-too-large",
        "illegal-byte-sequence",
        "in-progress",
        "interrupted",
        "invalid",
        "io",
        "is-directory",
        "loop",
        "too-many-links",
        "message-size",
        "name-too-long",
        "no-device",
        "no-entry",
        "no-lock",
        "insufficient-memory",
        "insufficient-space",
        "not-directory",
        "not-empty",
        "not-recoverable",
        "unsupported",
        "no-tty",
        "no-such-device",
        "overflow",
        "not-permitted",
        "pipe",
        "read-only",
        "invalid-seek",
        "text-file-busy",
        "cross-device",
    ),
    python=ErrorCode,
    owner=_NAME,
)
ADVICE = Enum(
    "advice",
    ("normal", "sequential", "random", "will-need", "dont-need", "no-reuse"),
    python=Advice,
    owner=_NAME,
)
METADATA_HASH_VALUE = Record(
    "metadata-hash-value",
    (("lower", "u64"), ("upper", "u64")),
    python=MetadataHashValue,
    owner=_NAME,
)
DESCRIPTOR = Resource("descriptor", python=Descriptor, owner=_NAME)
DIRECTORY_ENTRY_STREAM = Resource("directory-entry-stream", python=DirectoryEntryStream, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[method]descriptor.read-via-stream": Function(
            (("self", Borrow(DESCRIPTOR)), ("offset", FILESIZE)),
            Result(Own(INPUT_STREAM), ERROR_CODE),
        ),
        "[method]descriptor.write-via-stream": Function(
            (("self", Borrow(DESCRIPTOR)), ("offset", FILESIZE)),
            Result(Own(OUTPUT_STREAM), ERROR_CODE),
        ),
        "[method]descriptor.append-via-stream": Function(
            (("self", Borrow(DESCRIPTOR)),),
            Result(Own(OUTPUT_STREAM), ERROR_CODE),
        ),
        "[method]descriptor.advise": Function(
            (("self", Borrow(DESCRIPTOR)), ("offset", FILESIZE), ("length", FILESIZE), ("advice", ADVICE)),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.sync-data": Function((("self", Borrow(DESCRIPTOR)),), Result(None, ERROR_CODE)),
        "[method]descriptor.get-flags": Function((("self", Borrow(DESCRIPTOR)),), Result(DESCRIPTOR_FLAGS, ERROR_CODE)),
        "[method]descriptor.get-type": Function((("self", Borrow(DESCRIPTOR)),), Result(DESCRIPTOR_TYPE, ERROR_CODE)),
        "[method]descriptor.set-size": Function(
            (("self", Borrow(DESCRIPTOR)), ("size", FILESIZE)),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.set-times": Function(
            (
                ("self", Borrow(DESCRIPTOR)),
                ("data-access-timestamp", NEW_TIMESTAMP),
                ("data-modification-timestamp", NEW_TIMESTAMP),
            ),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.read": Function(
            (("self", Borrow(DESCRIPTOR)), ("length", FILESIZE), ("offset", FILESIZE)),
            Result(Tuple((List("u8"), "bool")), ERROR_CODE),
        ),
        "[method]descriptor.write": Function(
            (("self", Borrow(DESCRIPTOR)), ("buffer", List("u8")), ("offset", FILESIZE)),
            Result(FILESIZE, ERROR_CODE),
        ),
        "[method]descriptor.read-directory": Function(
            (("self", Borrow(DESCRIPTOR)),),
            Result(Own(DIRECTORY_ENTRY_STREAM), ERROR_CODE),
        ),
        "[method]descriptor.sync": Function((("self", Borrow(DESCRIPTOR)),), Result(None, ERROR_CODE)),
        "[method]descriptor.create-directory-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path", "string")),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.stat": Function((("self", Borrow(DESCRIPTOR)),), Result(DESCRIPTOR_STAT, ERROR_CODE)),
        "[method]descriptor.stat-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path-flags", PATH_FLAGS), ("path", "string")),
            Result(DESCRIPTOR_STAT, ERROR_CODE),
        ),
        "[method]descriptor.set-times-at": Function(
            (
                ("self", Borrow(DESCRIPTOR)),
                ("path-flags", PATH_FLAGS),
                ("path", "string"),
                ("data-access-timestamp", NEW_TIMESTAMP),
                ("data-modification-timestamp", NEW_TIMESTAMP),
            ),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.link-at": Function(
            (
                ("self", Borrow(DESCRIPTOR)),
                ("old-path-flags", PATH_FLAGS),
                ("old-path", "string"),
                ("new-descriptor", Borrow(DESCRIPTOR)),
                ("new-path", "string"),
            ),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.open-at": Function(
            (
                ("self", Borrow(DESCRIPTOR)),
                ("path-flags", PATH_FLAGS),
                ("path", "string"),
                ("open-flags", OPEN_FLAGS),
                ("flags", DESCRIPTOR_FLAGS),
            ),
            Result(Own(DESCRIPTOR), ERROR_CODE),
        ),
        "[method]descriptor.readlink-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path", "string")),
            Result("string", ERROR_CODE),
        ),
        "[method]descriptor.remove-directory-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path", "string")),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.rename-at": Function(
            (
                ("self", Borrow(DESCRIPTOR)),
                ("old-path", "string"),
                ("new-descriptor", Borrow(DESCRIPTOR)),
                ("new-path", "string"),
            ),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.symlink-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("old-path", "string"), ("new-path", "string")),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.unlink-file-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path", "string")),
            Result(None, ERROR_CODE),
        ),
        "[method]descriptor.is-same-object": Function(
            (("self", Borrow(DESCRIPTOR)), ("other", Borrow(DESCRIPTOR))),
            "bool",
        ),
        "[method]descriptor.metadata-hash": Function(
            (("self", Borrow(DESCRIPTOR)),),
            Result(METADATA_HASH_VALUE, ERROR_CODE),
        ),
        "[method]descriptor.metadata-hash-at": Function(
            (("self", Borrow(DESCRIPTOR)), ("path-flags", PATH_FLAGS), ("path", "string")),
            Result(METADATA_HASH_VALUE, ERROR_CODE),
        ),
        "[method]directory-entry-stream.read-directory-entry": Function(
            (("self", Borrow(DIRECTORY_ENTRY_STREAM)),),
            Result(Option(DIRECTORY_ENTRY), ERROR_CODE),
        ),
        "filesystem-error-code": Function((("err", Borrow(ERROR)),), Option(ERROR_CODE)),
    },
    types={
        "input-stream": INPUT_STREAM,
        "output-stream": OUTPUT_STREAM,
        "error": ERROR,
        "datetime": DATETIME,
        "filesize": FILESIZE,
        "descriptor-type": DESCRIPTOR_TYPE,
        "descriptor-flags": DESCRIPTOR_FLAGS,
        "path-flags": PATH_FLAGS,
        "open-flags": OPEN_FLAGS,
        "link-count": LINK_COUNT,
        "descriptor-stat": DESCRIPTOR_STAT,
        "new-timestamp": NEW_TIMESTAMP,
        "directory-entry": DIRECTORY_ENTRY,
        "error-code": ERROR_CODE,
        "advice": ADVICE,
        "metadata-hash-value": METADATA_HASH_VALUE,
        "descriptor": DESCRIPTOR,
        "directory-entry-stream": DIRECTORY_ENTRY_STREAM,
    },
)
