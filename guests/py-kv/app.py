"""A library in Python: a key-value store with resources on top of the host's, and a text pipeline."""

import wit_world
from componentize_py_types import Err
from store import Store

__all__ = ["Store", "WitWorld"]


class WitWorld(wit_world.WitWorld):
    def summary(self, entries, how):
        if not entries:
            raise Err("there is nothing to summarise")
        words = sorted(word.lower() for entry in entries for word in entry.value.decode().split())
        return f"{how.name}: {len(entries)} entries, {len(set(words))} words, first {words[0] if words else '-'}"

    def ping(self):
        pass
