"""What the operating system lets a worker do: layers that a process puts on itself and cannot take off.

Each layer stands for itself. One that is missing here (an older kernel, a container, no privilege) is
reported, not fatal; who insists on all of them looks at the report. See ``LAYERS`` for the order:

* what needs ``/proc`` or a path comes before Landlock, and what needs a privilege before it is dropped;
* changes of identity make the process dumpable again as the system says, so ``no-dump`` follows them;
* rules need descriptors, so the limit on those follows the rules;
* the filter of system calls comes last: it forbids most of what the others do.

A process confines itself while it has one thread, and with everything imported that it will need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container

from aegis.isolation.confine.kernel import other_threads
from aegis.isolation.confine.landlock import restrict_files, restrict_net
from aegis.isolation.confine.model import Confinement, Layer, Situation, Unavailable, describe
from aegis.isolation.confine.process import (
    bound_capabilities,
    clear_environment,
    close_descriptors,
    drop_privileges,
    enter_empty_directory,
    enter_namespaces,
    forbid_dumps,
    forbid_privileges,
    leave_directories,
    limit_resources,
    private_directory,
    volunteer_for_killing,
)
from aegis.isolation.confine.seccomp import assemble_filter, filter_calls
from aegis.policy.isolation import LAYERS

__all__ = [
    "LAYERS",
    "Begun",
    "Confinement",
    "Layer",
    "Unavailable",
    "assemble_filter",
    "available",
    "confine",
    "enter_empty_directory",
    "private_directory",
]

_STEPS: dict[str, Callable[[Confinement, Situation], str]] = {
    "private-tmp": leave_directories,
    "oom-score": volunteer_for_killing,
    "environment": clear_environment,
    "descriptors": close_descriptors,
    "namespaces": enter_namespaces,
    "unprivileged": drop_privileges,
    "no-dump": forbid_dumps,
    "no-new-privs": forbid_privileges,
    "landlock-files": restrict_files,
    "landlock-net": restrict_net,
    "rlimits": limit_resources,
    "seccomp": filter_calls,
}

_EARLY = ("private-tmp", "oom-score", "namespaces")


class Begun:
    """What a process confined itself with already, for a :class:`Confinement` that it did not know whole."""

    def __init__(self, expected: Confinement, skip: Container[str] = ()) -> None:
        self._here = Situation(other_threads())
        # Where there is a network, the environment says where its roots of trust are, until they are read.
        early = _EARLY if expected.network else (*_EARLY, "environment")
        self._layers = {name: _applied(name, expected, self._here) for name in early if name not in skip}
        if "unprivileged" not in skip and sys.platform == "linux":
            bound_capabilities(expected, self._here)

    def resume(self) -> tuple[dict[str, Layer], Situation]:
        """Return the layers that need not be applied again, and how the process is."""
        self._here.other_threads = other_threads()
        return dict(self._layers), self._here


def confine(wanted: Confinement, *, skip: Container[str] = (), begun: Begun | None = None) -> list[Layer]:
    """Confine this process to ``wanted``, for good, and return what became of each layer, in order.

    ``skip`` names layers to leave out; ``begun`` is what was done beforehand. A layer that this system lacks or
    refuses is reported with the reason; it raises nothing. Python objects that own a descriptor which is closed here
    must be gone or never be finalised: another file may have its number then.
    """
    done, here = ({}, Situation(other_threads())) if begun is None else begun.resume()
    return [
        Layer(name, False, "left out on request") if name in skip else done.get(name) or _applied(name, wanted, here)
        for name in LAYERS
    ]


def _applied(name: str, wanted: Confinement, here: Situation) -> Layer:
    if os.name != "posix":
        return Layer(name, False, "this system has nothing of the kind; Linux has")
    try:
        return Layer(name, True, _STEPS[name](wanted, here))
    except Unavailable as error:
        return Layer(name, False, str(error))
    except OSError as error:
        return Layer(name, False, describe(error))


def available() -> list[Layer]:
    """Return what this system can apply, as a process started for the purpose found by confining itself."""
    from aegis.isolation.confine.probe import probe  # a worker, which confines itself, has no use for it

    return probe(LAYERS)
