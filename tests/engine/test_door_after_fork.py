"""Locks of the door in a forked child, where the parent's threads do not exist to release them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from aegis.engine.call import door
from aegis.limits import Limits
mine = door.Door(Limits())
door._waking.acquire()  # as another thread has, that wakes or closes a wait of its own
child = os.fork()
if not child:
    mine.cancel()
    mine._new_pipe()
    mine.close()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent_that_held_the_lock_of_wake_ups() -> None:
    """Oracle: the child cancels, waits and closes, and exits with 7, although the lock was held at the fork."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.strip(), ended.stderr) == ("7", "")
