"""The exported interface, implemented on the imported one."""

import wit_world
from componentize_py_types import Err, Some
from wit_world import exports
from wit_world.exports import store as mine
from wit_world.imports import store as host


class Bucket(mine.Bucket):
    def __init__(self, name):
        self.inner = host.Bucket(name)
        self.seen = []

    def get(self, key):
        self.seen.append(key)
        return self.inner.get(key)

    def set(self, entry):
        wit_world.tell(wit_world.Verbosity.LOUD, f"set {entry.key}")
        if entry.key == "":
            raise Err(mine.Error_Denied("a key is never empty"))
        self.inner.set(host.Entry(entry.key, entry.value, entry.ttl))

    def drop(self):
        self.seen.clear()

    @classmethod
    def open_all(cls, names):
        return [cls(name) for name in names]


class Cursor(mine.Cursor):
    def __init__(self, keys):
        self.keys = list(keys)

    def next(self):
        return mine.Entry(self.keys.pop(0), b"v", Some(None)) if self.keys else None


class Store(exports.Store):
    def scan(self, of):
        return Cursor(of.seen)

    def merge(self, into, from_):
        into.seen += from_.seen
        return (len(into.seen), Err(mine.Error_Missing()))
