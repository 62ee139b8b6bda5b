"""Run untrusted WebAssembly with nothing granted, every limit on and every host call mediated.

The packages, lowest layer first; a module imports only from layers below its own:

    errors, limits, text, values, support     the standard library alone
    policy        grants and limits as pure data, and the policy file
    observe       events, outcomes, metrics and reports
    wasm          WebAssembly binaries as data; no engine
    dwarf         debugging information: the source lines of addresses
    wit           the types of WIT, worlds, and the WAVE text format
    bindgen       from WIT to Python source
    bindings      generated bindings of the WASI interfaces
    host          the only package with ambient authority: files, sockets, clocks, entropy, WASI
    engine        the only package that imports wasmtime: core WebAssembly
    component     the component model on core instances
    sandbox       one run of one guest
    isolation     the same sandbox in a worker process
    runtime       the class Aegis, which owns the engine and compiles artifacts
    serve         components that export an HTTP handler, as ASGI applications
    fuzz          campaigns against a guest
    testing       strategies, state machines and the pytest plugin
    attack        campaigns against Aegis itself
    cli           the command line
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from aegis.component.planning.artifact import Component as Component
    from aegis.engine import Module as Module
    from aegis.errors import AegisError as AegisError
    from aegis.errors import AegisInternalError as AegisInternalError
    from aegis.errors import ArtifactError as ArtifactError
    from aegis.errors import ArtifactNotFound as ArtifactNotFound
    from aegis.errors import CallError as CallError
    from aegis.errors import Cancelled as Cancelled
    from aegis.errors import CapabilityDenied as CapabilityDenied
    from aegis.errors import DeadlineExceeded as DeadlineExceeded
    from aegis.errors import ExportNotFound as ExportNotFound
    from aegis.errors import Frame as Frame
    from aegis.errors import GuestError as GuestError
    from aegis.errors import GuestExit as GuestExit
    from aegis.errors import GuestTrap as GuestTrap
    from aegis.errors import HostError as HostError
    from aegis.errors import LimitExceeded as LimitExceeded
    from aegis.errors import LinkError as LinkError
    from aegis.errors import MemoryExceeded as MemoryExceeded
    from aegis.errors import MissingImport as MissingImport
    from aegis.errors import OutOfFuel as OutOfFuel
    from aegis.errors import OutputExceeded as OutputExceeded
    from aegis.errors import PolicyError as PolicyError
    from aegis.errors import QuotaExceeded as QuotaExceeded
    from aegis.errors import ReaderGone as ReaderGone
    from aegis.errors import SandboxStateError as SandboxStateError
    from aegis.errors import StackExhausted as StackExhausted
    from aegis.errors import WorkerCrashed as WorkerCrashed
    from aegis.host.keyvalue.memory import MemoryStore as MemoryStore
    from aegis.limits import Limits as Limits
    from aegis.observe import CollectingSubscriber as CollectingSubscriber
    from aegis.observe import ExecutionReport as ExecutionReport
    from aegis.observe import JsonLinesWriter as JsonLinesWriter
    from aegis.observe import Metrics as Metrics
    from aegis.observe import MetricsSubscriber as MetricsSubscriber
    from aegis.observe import Outcome as Outcome
    from aegis.observe import Usage as Usage

    # [capabilities: public names of aegis.policy]
    from aegis.policy import ClockCapability as ClockCapability
    from aegis.policy import ConfigCapability as ConfigCapability
    from aegis.policy import EnvironmentCapability as EnvironmentCapability
    from aegis.policy import FilesystemCapability as FilesystemCapability
    from aegis.policy import Isolation as Isolation
    from aegis.policy import KeyValueCapability as KeyValueCapability
    from aegis.policy import KeyValueEntries as KeyValueEntries
    from aegis.policy import KeyValueStore as KeyValueStore
    from aegis.policy import LoggingCapability as LoggingCapability
    from aegis.policy import NetworkCapability as NetworkCapability
    from aegis.policy import PathGrant as PathGrant
    from aegis.policy import Policy as Policy
    from aegis.policy import RandomCapability as RandomCapability
    from aegis.policy import StdioCapability as StdioCapability
    from aegis.policy import dump_policy as dump_policy
    from aegis.policy import load_policy as load_policy
    from aegis.policy import parse_policy as parse_policy

    # [end]
    from aegis.runtime import Aegis as Aegis
    from aegis.runtime import Builder as Builder
    from aegis.runtime import run as run
    from aegis.sandbox.guest_state import Caller as Caller
    from aegis.sandbox.link_module import with_caller as with_caller
    from aegis.sandbox.sandbox import Sandbox as Sandbox
    from aegis.values import AnswerStep as AnswerStep
    from aegis.values import HostCall as HostCall
    from aegis.values import MemoryFault as MemoryFault
    from aegis.wit.streams import ByteStreamReader as ByteStreamReader
    from aegis.wit.streams import FutureReader as FutureReader
    from aegis.wit.streams import FutureWriter as FutureWriter
    from aegis.wit.streams import StreamReader as StreamReader
    from aegis.wit.streams import StreamWriter as StreamWriter
    from aegis.wit.values import Bound as Bound
    from aegis.wit.values import Err as Err
    from aegis.wit.values import Ok as Ok
    from aegis.wit.values import ResourceHandle as ResourceHandle
    from aegis.wit.values import Some as Some

__version__ = "0.1.0"

_HOMES = {
    "aegis.engine": ("Module",),
    "aegis.component.planning.artifact": ("Component",),
    "aegis.errors": (
        "AegisError", "AegisInternalError", "ArtifactError", "ArtifactNotFound", "CallError", "Cancelled",
        "CapabilityDenied", "DeadlineExceeded", "ExportNotFound", "Frame", "GuestError", "GuestExit", "GuestTrap",
        "HostError", "LimitExceeded", "LinkError", "MemoryExceeded", "MissingImport", "OutOfFuel", "OutputExceeded",
        "PolicyError", "QuotaExceeded", "ReaderGone", "SandboxStateError", "StackExhausted", "WorkerCrashed",
    ),
    "aegis.sandbox.guest_state": ("Caller",),
    "aegis.host.keyvalue.memory": ("MemoryStore",),
    "aegis.limits": ("Limits",),
    "aegis.sandbox.link_module": ("with_caller",),
    "aegis.observe": (
        "CollectingSubscriber", "ExecutionReport", "JsonLinesWriter", "Metrics", "MetricsSubscriber", "Outcome",
        "Usage",
    ),
    "aegis.policy": (
        # [capabilities: names]
        "ClockCapability", "ConfigCapability", "EnvironmentCapability", "FilesystemCapability", "Isolation",
        "KeyValueCapability", "KeyValueEntries", "KeyValueStore", "LoggingCapability", "NetworkCapability",
        "PathGrant", "Policy", "RandomCapability", "StdioCapability", "dump_policy", "load_policy", "parse_policy",
        # [end]
    ),
    "aegis.runtime": ("Aegis", "Builder", "run"),
    "aegis.sandbox.sandbox": ("Sandbox",),
    "aegis.values": ("AnswerStep", "HostCall", "MemoryFault"),
    "aegis.wit.streams": ("ByteStreamReader", "FutureReader", "FutureWriter", "StreamReader", "StreamWriter"),
    "aegis.wit.values": ("Bound", "Err", "Ok", "ResourceHandle", "Some"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    # [capabilities: names]
    "Aegis", "AegisError", "AegisInternalError", "AnswerStep", "ArtifactError", "ArtifactNotFound", "Bound",
    "Builder", "CallError", "Caller", "Cancelled", "CapabilityDenied", "ClockCapability", "CollectingSubscriber",
    "Component", "ConfigCapability", "DeadlineExceeded", "EnvironmentCapability", "Err", "ExecutionReport",
    "ExportNotFound", "FilesystemCapability", "Frame", "GuestError", "GuestExit", "GuestTrap", "HostCall",
    "HostError", "Isolation", "JsonLinesWriter", "KeyValueCapability", "KeyValueEntries", "KeyValueStore",
    "LimitExceeded", "Limits", "LinkError", "LoggingCapability", "MemoryExceeded", "MemoryFault", "MemoryStore",
    "Metrics", "MetricsSubscriber", "MissingImport", "Module", "NetworkCapability", "Ok", "OutOfFuel", "Outcome",
    "OutputExceeded", "PathGrant", "Policy", "PolicyError", "QuotaExceeded", "RandomCapability", "ReaderGone",
    "ResourceHandle", "Sandbox", "SandboxStateError", "Some", "StackExhausted", "StdioCapability", "Usage",
    "WorkerCrashed", "__version__", "dump_policy", "load_policy", "parse_policy", "run", "with_caller",
    # [end]
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``import aegis`` alone imports no submodule."""
    home = _HOME.get(name)
    if home is None and name != "errors":
        raise AttributeError(f"module 'aegis' has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        return import_module("aegis.errors")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
