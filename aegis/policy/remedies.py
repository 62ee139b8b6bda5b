"""Build the command-line option that would allow a denied request.

The user may copy the option into a shell, but its text comes from the guest, or from a compromised worker. So an option
is never built by joining text: Aegis parses the denied target as a path of a grant or as a network pattern, builds the
option from the parsed value and quotes it. If no option would allow the request, the remedy is empty.
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
    "filesystem": ("files", "--allow-read PATH or --allow-write PATH; without a grant there are none"),
    "environment": ("environment", "--allow-env NAME; without a grant it is empty"),
    "clock": ("clock", "--allow-clock; without a grant a virtual clock starts at 1970"),
    "random": ("random", "--allow-random; without a grant a seeded generator is used"),
    "stdio": ("standard input", "--stdin inherit or --stdin FILE; without either it is empty"),
    "network": (
        "network",
        "--allow-net https://HOST or tcp://HOST:PORT, --listen; without a grant every address and request is denied",
    ),
    "logging": ("log", "--allow-logging; without a grant log lines are discarded"),
    "config": ("configuration", "--config-value KEY=VALUE; without a value it is empty"),
    "keyvalue": (
        "key-value store", "--allow-keyvalue BUCKET or BUCKET=sqlite:FILE; without a grant every bucket is denied"
    ),
}  # fmt: skip
"""For each capability that interfaces need: its name for a person, the options that grant it, and the default."""
_MAX_TARGET_CHARACTERS = 300
_READINGS = {"clock": "reading the clock", "random": "reading random bytes"}


def explained(policy: Policy, decision: Decision) -> Decision:
    """Return a raw decision in a form that is safe to show: target escaped, remedy a quoted option or empty.

    In a raw decision ``remedy`` is the missing grant in the guest's terms: a path, a network pattern or the name of a
    capability.
    """
    remedy, rule = "", decision.rule
    if not decision.allowed and decision.remedy and decision.capability in _REMEDIES:
        remedy = _REMEDIES[decision.capability](policy, decision)
    if not decision.allowed and decision.capability == "filesystem" and not remedy:
        rule = f"{_why(policy.filesystem, decision.target)}; no option allows that"
    return decision._replace(target=printable(decision.target, _MAX_TARGET_CHARACTERS), rule=rule, remedy=remedy)


def denied_reading(capability: str) -> CapabilityDenied:
    """Return the error for a guest that reads a clock or random bytes without the capability."""
    what, remedy = _READINGS.get(capability), f"--allow-{capability}"
    if what is None:
        return CapabilityDenied("denied", capability=printable(capability), target="", remedy="")
    return CapabilityDenied(
        f"denied: {what} — grant it with {remedy}", capability=capability, target=capability, remedy=remedy
    )


def leaves_its_grant(path: str) -> bool:
    """Return whether a path is absolute, or leads out of its directory with ``..`` segments."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return path.startswith("/")


def _filesystem(policy: Policy, decision: Decision) -> str:
    """Return the option that makes the covering read-only grant writable, or ``""``.

    A denied path in a writable grant leads out of it through a symbolic link, which no option allows.
    """
    grant = _covering(policy.filesystem, decision.remedy)
    if grant is None or grant.write or decision.action != "write":
        return ""
    wider = replace(grant, write=True)
    try:
        _ = policy.filesystem + FilesystemCapability(paths=(wider,))
    except PolicyError:
        return ""  # the wider grant would conflict with another one, such as a read-only grant inside it
    for text in (wider.guest, f"{wider.host}::{wider.guest}"):
        if _reads_as(text, wider):
            return _option("--allow-write", text)
    return ""


def _why(granted: FilesystemCapability, target: str) -> str:
    """Return the reason why a request was denied for a path that no option would allow."""
    holds = [grant.guest for grant in granted.paths if _holds(grant.guest, target)]
    if not holds:
        return "no grant contains this path"
    guest = max(holds, key=len)
    if leaves_its_grant(target if guest == "." else target[len(guest) :].lstrip("/")):
        return f"the path leaves {printable(guest)}"
    return f"the path or a link in it leads out of {printable(guest)}, or another grant or the system denies it"


def _covering(granted: FilesystemCapability, path: str) -> PathGrant | None:
    """Return the grant with the longest guest path that contains ``path``."""
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
    """Return the option that allows the one host or address, or ``""``.

    A host named ``public`` gets no option, because the pattern would allow the whole class.
    """
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
