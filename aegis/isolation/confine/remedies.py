"""How to make each layer of the confinement available: kernel settings, and options of container runtimes."""

from __future__ import annotations

__all__ = ["REMEDIES"]

_LINUX = "run on Linux 5.13 or later"
_LANDLOCK = (
    "use a kernel with Landlock in its parameter lsm= (lsm=landlock,...); in a container, use a seccomp profile that "
    "allows the landlock_ calls (docker run --security-opt seccomp=PROFILE)"
)

REMEDIES = {
    "private-tmp": "let this user create directories in TMPDIR or /tmp (docker run --tmpfs /tmp)",
    "oom-score": "mount /proc writable for the process (docker run --security-opt systempaths=unconfined)",
    "environment": "mount /proc, so that a worker can overwrite its initial environment",
    "descriptors": "mount /proc, or use a kernel with close_range (Linux 5.9 or later)",
    "namespaces": (
        "allow unprivileged user namespaces: sysctl -w user.max_user_namespaces=10000, on Debian "
        "kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; in a container, "
        "use a seccomp profile that allows unshare (docker run --security-opt seccomp=PROFILE), or --cap-add SYS_ADMIN"
    ),
    "unprivileged": "start Aegis as a user other than root (docker run --user 1000), or keep CAP_SETUID and CAP_SETGID",
    "no-dump": _LINUX,
    "no-new-privs": _LINUX,
    "landlock-files": _LANDLOCK,
    "landlock-net": f"use Linux 6.7 or later, whose Landlock restricts ports; {_LANDLOCK}",
    "rlimits": "raise the hard limits of the process to those of a worker (docker run --ulimit nofile=1024)",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64; in a container, allow the call seccomp",
}
"""By the name of the layer (:data:`aegis.policy.isolation.LAYERS`)."""
