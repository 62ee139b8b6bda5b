"""The command ``aegis serve``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.click_options import FileCommand, with_options
from aegis.cli.command_line import CommandOption, OptionKind
from aegis.cli.denials import denial_line
from aegis.cli.guest_log import show_guest_log, show_warnings
from aegis.cli.input_files import read_artifact
from aegis.cli.options import ENABLE, grants, limits, make_policy, refuse_second_reader
from aegis.cli.output import Output
from aegis.cli.progress import working
from aegis.errors import PolicyError
from aegis.policy import Policy
from aegis.runtime import Aegis
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module

__all__ = ["command"]

_ADDRESS = "127.0.0.1:8080"
_COUNTS = range(1, (1 << 20) + 1)
_MAX_PORT = 65535
_MAX_KEPT_DENIALS = 100
"""Different denials that are printed; the same one is printed once."""

_OPTIONS = (
    CommandOption(
        ("--address",), f"Listen at this address, {_ADDRESS} unless given. Port 0 takes a free one.",
        metavar="HOST:PORT",
    ),
    CommandOption(("--max-concurrent",), "Requests served at once, 32 unless given.", metavar="N"),
    CommandOption(
        ("--requests-per-sandbox",), "Requests that one sandbox serves in turn, 1 unless given.", metavar="N"
    ),
    *grants(),
    ENABLE,
    *limits(),
    CommandOption(("--no-cache",), "Do not read or write compiled code on disk.", OptionKind.FLAG),
)  # fmt: skip


@click.command("serve", cls=FileCommand, reads_policy=True)
@with_options(_OPTIONS)
@click.argument("component")
@click.pass_obj
def command(output: Output, /, component: str, **options: Any) -> int:
    """Answer HTTP requests with COMPONENT, which exports wasi:http/incoming-handler or wasi:http/handler.

    Each request has a sandbox of its own, with the grants and limits of the options. The address is printed when the
    server listens. SIGINT and SIGTERM end it: requests under way are completed, and the exit code is 0.
    """
    from aegis.cli.server import Server  # needs the extra serve

    refuse_second_reader(output.config, [component], options.get("stdin", ()))
    host, port = _address(options["address"] or _ADDRESS)
    numbers = {name: _count(name, options[name]) for name in ("max_concurrent", "requests_per_sandbox")}
    policy = make_policy(output.config, options, capture=output.json)
    if policy.logging.enabled:
        show_guest_log()
    show_warnings(output.say)
    with Aegis(policy, cache=not options["no_cache"]) as runtime, Server(host, port) as server:
        data = read_artifact(component, policy.limits)
        with working(output, "compiling", component):
            artifact = runtime.load(data, component, check=_check)
        with runtime.sandbox(artifact) as sandbox:  # its errors end the command, with their exit codes
            output.note_layers(sandbox.layers, policy.isolation)
        report = _Reports(output, policy)
        settings = {name: number for name, number in numbers.items() if number is not None}
        server.run(runtime, artifact, settings, report, lambda address: _announce(output, address))
    return 0


def _check(artifact: Module | Component) -> None:
    """Reject an artifact that serves no requests, before it is compiled."""
    from aegis.sandbox.serving import handler_of

    handler_of(artifact)


def _address(text: str) -> tuple[str, int]:
    """Return host and port of ``--address``; raise ``PolicyError``."""
    host, mark, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not mark or not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > _MAX_PORT:
        raise PolicyError(f"--address {printable(text, 80)!r} is no address: write HOST:PORT, such as {_ADDRESS}")
    return host, int(port)


def _count(name: str, text: str | None) -> int | None:
    """Return the value of an option that counts requests; raise ``PolicyError``."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) not in _COUNTS:
        flag = f"--{name.replace('_', '-')}"
        raise PolicyError(f"{flag} {printable(text, 40)} is out of range: give a number from 1 to {_COUNTS[-1]:,}")
    return int(text)


def _announce(output: Output, address: str) -> None:
    output.result({"address": address, "pid": os.getpid()}, f"listening on {address}")
    output.flush()


class _Reports:
    """Prints a line for each request that the guest did not answer wholly; with ``-v`` for each request."""

    def __init__(self, output: Output, policy: Policy) -> None:
        self._output, self._policy = output, policy
        self._denials: set[str] = set()

    def __call__(self, request: Any) -> None:
        if request.reason or self._output.verbose:
            status = "-" if request.status is None else str(request.status)
            why = f": {request.reason}" if request.reason else ""
            line = f"{printable(request.method, 40)} {printable(request.target, 200)}"
            self._output.say(f"{line} {status} {request.seconds * 1000:.0f} ms{why}")
        for decision in () if request.outcome is None else request.outcome.denials:
            line = denial_line(decision, self._policy)
            if line not in self._denials and len(self._denials) < _MAX_KEPT_DENIALS:
                self._denials.add(line)
                self._output.say(line)
