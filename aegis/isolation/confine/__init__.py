"""Confinement of a worker by the operating system: layers that a process applies to itself and cannot remove.

Theory of operation. The layers are independent. A layer that this system does not support (an older kernel, a
container, a missing privilege) is reported and not fatal; strict isolation rejects a report with a missing layer. The
order of ``LAYERS`` is forced by the kernel:

* Layers that need ``/proc`` or a path precede Landlock; layers that need a privilege precede its loss.
* Changing the user makes the process dumpable again, as ``fs.suid_dumpable`` says (prctl(2)), so ``no-dump`` follows.
* Landlock rules need file descriptors, so the limit on descriptors follows the rules.
* The seccomp filter is last, because it forbids most of the system calls that the other layers make.

A process confines itself while it has a single thread, because most layers affect only the calling thread, and after
importing all modules that it will need, because it cannot open files afterwards.

bpf, filter, numbers    the seccomp filter as a BPF program; which system calls it allows; their numbers
seccomp, landlock       loading the filter; Landlock rulesets
process                 the other layers: environment, descriptors, limits, namespaces, privileges
kernel, model           direct system calls; the plain data of a confinement
probe                   finds out which layers this system supports
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container

from aegis.isolation.confine.kernel import other_threads
from aegis.isolation.confine.landlock import restrict_files, restrict_net
from aegis.isolation.confine.model import Confinement, Layer, LayerUnavailable, Situation, describe
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
    raise_oom_score,
)
from aegis.isolation.confine.seccomp import assemble_filter, filter_calls
from aegis.policy.isolation import LAYERS

__all__ = [
    "LAYERS",
    "Confinement",
    "EarlyConfinement",
    "Layer",
    "LayerUnavailable",
    "assemble_filter",
    "available",
    "confine",
    "enter_empty_directory",
    "private_directory",
]

_STEPS: dict[str, Callable[[Confinement, Situation], str]] = {
    "private-tmp": leave_directories,
    "oom-score": raise_oom_score,
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


class EarlyConfinement:
    """Layers that a process applies early, before it knows its whole :class:`Confinement`."""

    def __init__(self, expected: Confinement, skip: Container[str] = ()) -> None:
        self._here = Situation(other_threads())
        # With a network, the environment is kept until the certificates that SSL_CERT_FILE names have been loaded.
        early = _EARLY if expected.network else (*_EARLY, "environment")
        self._layers = {name: _applied(name, expected, self._here) for name in early if name not in skip}
        if "unprivileged" not in skip and sys.platform == "linux":
            bound_capabilities(expected, self._here)

    def resume(self) -> tuple[dict[str, Layer], Situation]:
        """Return the layers already applied, and the state of the process."""
        self._here.other_threads = other_threads()
        return dict(self._layers), self._here


def confine(wanted: Confinement, *, skip: Container[str] = (), early: EarlyConfinement | None = None) -> list[Layer]:
    """Confine this process to ``wanted``, irreversibly; return the outcome of each layer, in order.

    ``skip`` names layers to omit; ``early`` are layers that were applied earlier. A layer that this system does not
    support or rejects is reported with the reason and raises nothing. Python objects that own a descriptor closed here
    must not exist or must never be finalised, because another file may then have its number.
    """
    done, here = ({}, Situation(other_threads())) if early is None else early.resume()
    return [
        Layer(name, False, "skipped on request") if name in skip else done.get(name) or _applied(name, wanted, here)
        for name in LAYERS
    ]


def _applied(name: str, wanted: Confinement, here: Situation) -> Layer:
    if os.name != "posix":
        return Layer(name, False, "not supported on this system: use Linux")
    try:
        return Layer(name, True, _STEPS[name](wanted, here))
    except LayerUnavailable as error:
        return Layer(name, False, str(error))
    except OSError as error:
        return Layer(name, False, describe(error))


def available() -> list[Layer]:
    """Return the layers that this system supports, determined by a child process that confines itself."""
    from aegis.isolation.confine.probe import probe  # not needed in workers, which import this module

    return probe(LAYERS)
