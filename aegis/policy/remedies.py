"""The option that would change a denial, for a person to run.

A denial is about text that a guest chose, and a worker that was taken over reports what it likes. So no option is made
by joining text: what was denied is parsed as a path of a grant or as a network pattern, the option is built from that
value, in the host's terms, and quoted for a shell. Where no option would help there is none.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from aegis.errors import CapabilityDenied, PolicyError
from aegis.policy.filesystem import FilesystemCapability, PathGrant
from aegis.policy.policy import Policy
from aegis.support.lean import replace
from aegis.text import printable, shell_word
from aegis.values import Decision

__all__ = ["NEEDS", "denied_reading", "explained", "leaves_its_grant"]

NEEDS = {
    "filesystem": ("files", "--allow-read PATH or --allow-write PATH; without, there are none"),
    "environment": ("environment", "--allow-env NAME; without, it is empty"),
    "clock": ("clock", "--allow-clock; without, a virtual one that starts at 1970"),
    "random": ("random", "--allow-random; without, a seeded stand-in"),
    "stdio": ("standard input", "--stdin inherit or --stdin FILE; without, it is empty"),
    "network": (
        "network",
        "--allow-net https://HOST or tcp://HOST:PORT, --listen; without, every address and request is denied",
    ),
    "logging": ("log", "--allow-logging; without, its lines are dropped"),
    "config": ("configuration", "--config-value KEY=VALUE; without, it is empty"),
    "keyvalue": ("key-value store", "--allow-keyvalue BUCKET or BUCKET=sqlite:FILE; without, every bucket is denied"),
}
"""For each capability that interfaces are about: its name for a person, the options that grant it, and the default."""
_MOST_CHARACTERS = 300
_READINGS = {"clock": "reading the clock", "random": "reading random bytes"}


def explained(policy: Policy, decision: Decision) -> Decision:
    """Return a decision as it may be shown: its target escaped, its remedy an option of the command line or empty.

    The host states in ``remedy`` what would have to be granted, in the guest's terms: a path, a network pattern or the
    name of a capability.
    """
    remedy, rule = "", decision.rule
    if not decision.allowed and decision.remedy and decision.capability in _REMEDIES:
        remedy = _REMEDIES[decision.capability](policy, decision)
    if not decision.allowed and decision.capability == "filesystem" and not remedy:
        rule = f"{_why(policy.filesystem, decision.target)}; no option permits that"
    return decision._replace(target=printable(decision.target, _MOST_CHARACTERS), rule=rule, remedy=remedy)


def denied_reading(capability: str) -> CapabilityDenied:
    """Return the error of a guest that reads a clock or random bytes which the policy denies."""
    what, remedy = _READINGS.get(capability), f"--allow-{capability}"
    if what is None:
        return CapabilityDenied("denied", capability=printable(capability), target="", remedy="")
    return CapabilityDenied(
        f"denied: {what} — grant it with {remedy}", capability=capability, target=capability, remedy=remedy
    )


def leaves_its_grant(path: str) -> bool:
    """Tell whether a path, as it is written, leads out of the directory that it is looked up in."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return path.startswith("/")


def _filesystem(policy: Policy, decision: Decision) -> str:
    """Widen the read-only grant that covers the path; a path that may be written and was denied leads elsewhere."""
    grant = _covering(policy.filesystem, decision.remedy)
    if grant is None or grant.write or decision.action != "write":
        return ""
    wider = replace(grant, write=True)
    try:
        _ = policy.filesystem + FilesystemCapability(paths=(wider,))
    except PolicyError:
        return ""  # another grant forbids it, such as a read-only one beneath
    for text in (wider.guest, f"{wider.host}::{wider.guest}"):
        if _reads_as(text, wider):
            return _option("--allow-write", text)
    return ""


def _why(granted: FilesystemCapability, target: str) -> str:
    """Return why a request for a path was denied that no grant would allow."""
    holds = [grant.guest for grant in granted.paths if _holds(grant.guest, target)]
    if not holds:
        return "no grant holds this path"
    guest = max(holds, key=len)
    if leaves_its_grant(target if guest == "." else target[len(guest) :].lstrip("/")):
        return f"the path leaves {printable(guest)}"
    return f"the path or a link in it leads out of {printable(guest)}, or another grant or the system forbids it"


def _covering(granted: FilesystemCapability, path: str) -> PathGrant | None:
    """Return the grant with the longest guest path that holds ``path``."""
    path = posixpath.normpath(path)
    holds = [grant for grant in granted.paths if _holds(grant.guest, path) and not leaves_its_grant(path.lstrip("/"))]
    return max(holds, key=lambda grant: len(grant.guest), default=None)


def _holds(folder: str, path: str) -> bool:
    if folder == ".":
        return not path.startswith("/")
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _reads_as(text: str, grant: PathGrant) -> bool:
    try:
        return PathGrant.parse(text, write=True) == grant
    except PolicyError:
        return False


def _network(policy: Policy, decision: Decision) -> str:
    """Allow the one host or address; a name such as ``public``, which a pattern reads as a class, gets no option."""
    from aegis.policy.patterns import NetworkPattern

    if decision.rule.startswith("deny "):
        return ""
    try:
        pattern = NetworkPattern.parse(decision.remedy)
    except PolicyError:
        return ""
    if pattern.method is not None or pattern.kind not in ("name", "network") or "/" in pattern.host:
        return ""
    return _option("--listen" if decision.action == "listen at" else "--allow-net", str(pattern))


def _reading(policy: Policy, decision: Decision) -> str:
    return f"--allow-{decision.capability}"


def _keyvalue(policy: Policy, decision: Decision) -> str:
    """Grant the one bucket in memory; a name that the option would read as a name and a store gets none."""
    from aegis.policy.keyvalue import KeyValueCapability

    name = decision.remedy
    try:
        capability = KeyValueCapability.parse(name)
    except PolicyError:
        return ""
    return _option("--allow-keyvalue", name) if capability.store_of(name) == "memory" else ""


def _option(flag: str, value: str) -> str:
    return f"{flag}{'=' if value.startswith('-') else ' '}{shell_word(value)}"


_REMEDIES: dict[str, Callable[[Policy, Decision], str]] = {
    "filesystem": _filesystem, "network": _network, "clock": _reading, "random": _reading,
    "keyvalue": _keyvalue,
}  # fmt: skip
