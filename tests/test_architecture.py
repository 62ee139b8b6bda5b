"""The architecture as a table: which room may import which, who has ambient authority, how large a module may be.

The tests walk the syntax trees of aegis/, including function bodies and type-checking blocks, so no import escapes
them. Each test holds one rule in all modules and lists every violation: a test per rule and module would be thousands
of tests whose collection and reports cost more than the rules.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "aegis"

# Floor by floor: a room's modules import only from lower floors, and from their own room.
# Rooms on one floor are siblings, which do not import each other.
FLOORS: list[dict[str, tuple[str, ...]]] = [
    {"values": ("errors", "limits", "support", "text", "values")},
    {"policy": ("policy",), "observe": ("observe",), "wasm": ("wasm",), "wit": ("wit",), "dwarf": ("dwarf",)},
    {"bindings": ("bindings",)},
    {"bindgen": ("bindgen",)},
    {"host": ("host",), "engine": ("engine",)},
    {"component": ("component",)},
    {"sandbox": ("sandbox",)},
    {"isolation": ("isolation",)},
    {"runtime": ("runtime",)},
    {"fuzz": ("fuzz",), "serve": ("serve",)},
    {"testing": ("testing",), "attack": ("attack",)},
    {"names": ("", "prelude")},  # aegis/__init__.py
    {"cli": ("cli", "__main__")},
]

# All files of the package root.
ROOT_FILES = {"__init__", "__main__", "errors", "limits", "runtime", "text", "values"}

# Functions that reach the world by name, or read state that no argument passes. Operations on a held descriptor
# (os.read, os.close) are not ambient; opening one is.
AMBIENT_IMPORTS = {
    "asyncio.subprocess", "fcntl", "ftplib", "glob", "http", "mmap", "multiprocessing", "pathlib", "pty", "random",
    "secrets", "select", "shutil", "signal", "smtplib", "socket", "socketserver", "ssl", "subprocess", "tempfile",
    "urllib.request",
}  # fmt: skip
AMBIENT_NAMES = {"compile", "eval", "exec", "input", "open", "print"}
AMBIENT_ATTRIBUTES = {
    "os": {
        "_exit", "access", "chdir", "chmod", "environ", "environb", "execv", "execve", "fork", "getcwd", "getenv",
        "getrandom", "kill", "link", "listdir", "lstat", "makedirs", "mkdir", "open", "popen", "posix_spawn", "putenv",
        "readlink", "remove", "rename", "replace", "rmdir", "scandir", "stat", "symlink", "system", "truncate", "umask",
        "unlink", "urandom", "utime", "walk",
    },
    "os.path": {"exists", "expanduser", "getsize", "isdir", "isfile", "islink", "lexists", "realpath"},
    "time": {"localtime", "strftime", "time", "time_ns"},
    "datetime.datetime": {"now", "today", "utcnow"},
    "sys": {"argv", "exit", "stderr", "stdin", "stdout"},
    "io": {"FileIO", "open"},
}  # fmt: skip
AMBIENT_ROOMS = {"host", "isolation", "fuzz", "testing", "attack", "cli"}

# Exceptions, with their reasons. The test fails for an exception that is no longer needed.
EXCEPTIONS: dict[str, tuple[str, set[str]]] = {
    "support/descriptors.py": (
        "opens nothing but /dev/null, in place of closed standard streams",
        {"fcntl", "os.open", "socket"},
    ),
    "support/module_archive.py": (
        "reads and writes compiled modules beside those of Python, before any other module is imported",
        {"open", "os.open", "os.path.isdir", "os.replace", "os.stat", "os.unlink"},
    ),
    "engine/compile/artifact.py": ("load_file reads the artifact that the embedder names", {"open"}),
    "engine/compile/cache.py": (
        "the compile cache: a private folder of the user's, its key, its files",
        {"fcntl", "os.environ", "os.open", "os.replace", "os.stat", "os.urandom"},
    ),
    "engine/compile/cache_upkeep.py": (
        "counts and removes the files in the private folder of the compile cache",
        {"os.listdir", "os.stat", "os.unlink"},
    ),
    "support/records.py": ("the source of a dataclass's __init__ is made from its fields alone", {"exec"}),
    "engine/call/caller.py": ("the source of a call path is made from a signature alone", {"exec"}),
    "component/conversion/construct.py": ("the source of a constructor is made from a class's fields alone", {"exec"}),
    "component/conversion/source.py": ("the source of a converter is made from a type alone", {"compile", "exec"}),
    "engine/call/door.py": ("waits for descriptors that the host opened, and for a cancellation", {"select"}),
    "engine/native/library.py": (
        "finds the library that the wasmtime package carries, and reads its version",
        {"mmap", "open", "os.listdir", "os.path.exists"},
    ),
    "engine/compile/private_folder.py": (
        "opens the folder of the compile cache, and examines each directory on the way to it",
        {"os.mkdir", "os.open", "os.readlink", "os.stat"},
    ),
    "engine/native/signals.py": ("keeps the engine's own signal handlers installed", {"signal"}),
    "engine/call/trampoline.py": ("the source of a callback is made from a signature alone", {"exec"}),
    "policy/positions.py": ("reads the embedder's policy files again, for the line of a mistake", {"open"}),
    "observe/append.py": (
        "appends to the log of events that the embedder names, and examines its last byte", {"fcntl", "os.open"},
    ),
    "serve/connection.py": ("the type of its end of a socket pair; it opens no other socket", {"socket"}),
    "sandbox/base_backend.py": ("the name of a run is unique among those of all processes", {"os.urandom"}),
    "observe/bus.py": ("an event says when it happened; no guest sees it", {"time.time"}),
    "sandbox/protected_paths.py": (
        "finds the folders that Python imports from, which no grant may reach", {"os.path.exists", "os.path.isdir"},
    ),
    "wit/wasm_tools.py": (
        "runs wasm-tools on the WIT that a developer names, at development time only, once it is known to be files",
        {"os.listdir", "os.path.isdir", "os.path.isfile", "os.stat", "subprocess"},
    ),
    "policy/file.py": (
        "load_policy reads the file that the embedder names, and those that it includes",
        {"open", "os.getcwd", "os.path.exists", "os.path.isfile"},
    ),
}  # fmt: skip

# Private names of other modules, with their reasons. The test fails for an exception that is no longer needed.
_HANDLES = "the state of a handle, which the handle tables of both places keep in it and an embedder must not see"
_PROCESSES = "before Python 3.14, an executor has no public way to end its processes"
PRIVATE: dict[str, tuple[str, set[str]]] = {
    "component/handles.py": (_HANDLES, {"_native", "_owner", "_type"}),
    "component/state.py": (_HANDLES, {"_native", "_type"}),
    "isolation/parent/handles.py": (_HANDLES, {"_native", "_owner", "_type"}),
    "isolation/parent/store.py": (_HANDLES, {"_native"}),
    "isolation/worker/component_host_calls.py": (_HANDLES, {"_native"}),
    "sandbox/run.py": (_HANDLES, {"_native", "_owner"}),
    "attack/campaign.py": (_PROCESSES, {"_processes"}),
    "fuzz/campaign.py": (_PROCESSES, {"_processes"}),
    "isolation/parent/forked.py": ("secrets in the environment are overwritten where they are", {"_data"}),
    "sandbox/link_component.py": ("before Python 3.13, typing has no public test for a protocol", {"_is_protocol"}),
    "support/records.py": ("its records are dataclasses for the standard library too", {"_FIELD", "_field_type"}),
}
PUBLIC_DESPITE_THEIR_NAME = {"_asdict", "_exit", "_fields", "_make", "_replace", "_value_"}
"""Documented names of the standard library."""
INTERNALS = {"__closure__", "__self__", "f_locals", "get_objects", "get_referents", "get_referrers"}
"""Attributes that reach the variables of a function or frame, or objects that nothing passed."""

LINES = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A source file: its dotted name, room, floor, syntax tree, and all nodes of the tree."""

    name: str
    path: str
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    room: str
    floor: int


def place(name: str) -> tuple[str, int]:
    """Return the room and floor of a dotted name."""
    first = name.partition(".")[2].partition(".")[0]
    for floor, rooms in enumerate(FLOORS):
        for room, members in rooms.items():
            if first in members:
                return room, floor
    raise AssertionError(f"{name} has no room: give it a place in FLOORS")


def dotted(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
"""Every module of the package."""


def parsed(name: str, path: str, text: str) -> Module:
    """Return the module with this source."""
    room, floor = place(name)
    tree = ast.parse(text)
    return Module(name=name, path=path, text=text, tree=tree, nodes=tuple(ast.walk(tree)), room=room, floor=floor)


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    return tuple(
        parsed(name, path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
        for name, path in FILES.items()
    )


@pytest.fixture(scope="module", autouse=True)
def the_trees_are_released() -> Iterator[None]:
    """Release the syntax trees after the last test: half a million nodes would slow each garbage collection."""
    yield
    modules.cache_clear()


def violations(rule: Callable[[Module], Iterator[str]]) -> list[str]:
    """Return all violations of a rule, each with the path of its module."""
    return [f"{module.path}:{found}" for module in modules() for found in rule(module)]


def line_of(node: ast.AST) -> int:
    """Return the line of a node; 0 for those without one, such as the module itself."""
    return int(getattr(node, "lineno", 0))


def imported(node: ast.AST, module: Module) -> list[str]:
    """Return the dotted names that an import statement requests, as precisely as it names them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module.path}:{node.lineno}: a relative import"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def within(name: str) -> str | None:
    """Return the module of the package that ``name`` is, or is a member of."""
    while name:
        if name in FILES:
            return name
        name = name.rpartition(".")[0]
    return None


def test_the_package_root_holds_the_modules_that_every_room_needs() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_FILES


def test_the_rooms_are_not_empty() -> None:
    found = {module.room for module in modules()}
    assert found == {room for rooms in FLOORS for room in rooms}


def imports_that_go_up(module: Module) -> Iterator[str]:
    """Yield imports from a higher floor, or from another room of the same floor."""
    for node in module.nodes:
        for name in imported(node, module):
            target = within(name)
            if target is None:
                continue
            room, floor = place(target)
            if floor >= module.floor and room != module.room:
                yield f"{line_of(node)}: {module.room} imports {target} of {room}"


def test_imports_go_down() -> None:
    assert violations(imports_that_go_up) == []


def uses_of_wasmtime(module: Module) -> Iterator[str]:
    """Yield imports of wasmtime, and calls that load it, outside the engine."""
    if module.room == "engine":
        return
    for node in module.nodes:
        for name in imported(node, module):
            if name.split(".")[0] == "wasmtime":
                yield f"{line_of(node)}: imports {name}"
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__", "CDLL"))
            and "wasmtime" in ast.unparse(node)
        ):
            yield f"{line_of(node)}: loads wasmtime"


def test_only_the_engine_knows_wasmtime() -> None:
    assert violations(uses_of_wasmtime) == []


def test_ctypes_is_for_those_who_need_it() -> None:
    users = {
        module.room
        for module in modules()
        for node in module.nodes
        for name in imported(node, module)
        if name.split(".")[0] in ("ctypes", "_ctypes")
    }
    assert users <= {"component", "engine", "host", "isolation"}


def addresses_as_integers(module: Module) -> Iterator[str]:
    """Yield uses of ``addressof``."""
    for node in module.nodes:
        named = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if named == "addressof" or any(name.endswith(".addressof") for name in imported(node, module)):
            yield f"{line_of(node)}: pass the buffer with pointer_into()"


def test_no_address_of_a_buffer_outlives_it() -> None:
    """An address as an integer does not keep its buffer alive; ``pointer_into``, ``byref`` and ``from_buffer`` do."""
    assert violations(addresses_as_integers) == []


def test_no_module_waits_for_itself() -> None:
    """Imports inside functions and for type checkers count: moving an import there hides a circle, but keeps it."""
    graph = {}
    for module in modules():
        targets = {within(name) for node in module.nodes for name in imported(node, module)}
        graph[module.name] = {t for t in targets if t and t != module.name and not module.name.startswith(t + ".")}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def excessive_length(module: Module) -> Iterator[str]:
    """Yield the length of a module with too many lines, unless it is generated: as long as its interface."""
    lines = module.text.count("\n")
    if lines > LINES and module.room != "bindings":
        yield f" {lines} lines: split it along what changes together"


def test_a_module_can_be_read_in_one_sitting() -> None:
    assert violations(excessive_length) == []


def work_left_undone(module: Module) -> Iterator[str]:
    """Yield words that mark unfinished code."""
    for word in ("TODO", "FIXME", "XXX", "HACK", "NotImplementedError"):
        if word in module.text:
            yield f" {word}: do it, or open an issue"


def test_nothing_is_left_undone() -> None:
    assert violations(work_left_undone) == []


def missing_head(module: Module) -> Iterator[str]:
    """Yield a missing docstring, and a missing import of annotations in a module that has some."""
    if not ast.get_docstring(module.tree):
        yield " no docstring"
    if (
        any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in module.nodes)
        and "from __future__ import annotations" not in module.text
    ):
        yield " no import of annotations"


def test_a_module_says_what_it_is_for() -> None:
    assert violations(missing_head) == []


def ambient(module: Module) -> Iterator[tuple[str, int]]:
    """Yield each use of ambient authority, with its line."""
    aliases = {}
    for node in module.nodes:
        for name in imported(node, module):
            owner, _, last = name.rpartition(".")
            if any(name == a or name.startswith(a + ".") for a in AMBIENT_IMPORTS):
                yield name.split(".")[0], line_of(node)
            elif last in AMBIENT_ATTRIBUTES.get(owner, ()):
                yield name, line_of(node)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                aliases[alias.asname or alias.name] = prefix + alias.name
    for node in module.nodes:
        if isinstance(node, ast.Name) and node.id in AMBIENT_NAMES and node.id not in aliases:
            yield node.id, node.lineno
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node.value).partition(".")
            owner = aliases.get(first, first) + (f".{rest}" if rest else "")
            if node.attr in AMBIENT_ATTRIBUTES.get(owner, ()):
                yield f"{owner}.{node.attr}", node.lineno


def misplaced_authority(module: Module) -> Iterator[str]:
    """Yield uses of ambient authority that EXCEPTIONS does not name, and exceptions without a use."""
    if module.room in AMBIENT_ROOMS:
        return
    _, known = EXCEPTIONS.get(module.path, ("", set()))
    used = set()
    for what, line in ambient(module):
        if what not in known:
            yield f"{line}: {what} belongs in host/, or in EXCEPTIONS with its reason"
        used.add(what)
    yield from (f" EXCEPTIONS names {what}, which is not used" for what in known - used)


def test_authority_has_one_address() -> None:
    assert violations(misplaced_authority) == []


def test_every_exception_is_of_a_module_that_exists() -> None:
    assert set(EXCEPTIONS) <= {module.path for module in modules() if module.room not in AMBIENT_ROOMS}


def own_names(module: Module) -> set[str]:
    """Return the names that a module defines: functions, classes, variables, and the attributes of its classes."""
    names = set()
    for node in module.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_itself(node.value):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            names |= set(ast.literal_eval(node.value))
    return names


def of_itself(node: ast.expr) -> bool:
    """Return whether an expression is the object or the class of the function that contains it."""
    text = ast.unparse(node)
    return text in ("self", "cls") or text.startswith("super(")


def through_walls(module: Module) -> Iterator[tuple[str, int]]:
    """Yield each use of a private name that another module defines, and of the internals of functions and frames."""
    own = own_names(module) | PUBLIC_DESPITE_THEIR_NAME
    for node in module.nodes:
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [] if of_itself(node.value) and node.attr not in INTERNALS else [node.attr]
        elif isinstance(node, ast.ImportFrom) and within(node.module or ""):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getattr") and len(node.args) > 1:
            names = [node.args[1].value] if isinstance(node.args[1], ast.Constant) else []  # type: ignore[list-item]
        for name in names:
            private = name.startswith("_") and not name.startswith("__") and name not in own
            if private or name in INTERNALS:
                yield name, line_of(node)


def foreign_private_names(module: Module) -> Iterator[str]:
    """Yield private names of other modules that PRIVATE does not name, and exceptions without a use."""
    _, known = PRIVATE.get(module.path, ("", set()))
    used = set()
    for name, line in through_walls(module):
        if name not in known:
            yield f"{line}: {name} belongs to another module: give it a public name"
        used.add(name)
    yield from (f" PRIVATE names {name}, which is not used" for name in known - used)


def test_no_module_uses_the_private_names_of_another() -> None:
    """A base class counts as the module's own: ``self._name`` is allowed everywhere."""
    assert violations(foreign_private_names) == []


def test_a_reach_through_a_wall_is_found() -> None:
    for text in (
        "def f(x): return x._secret", "from aegis.limits import _secret", "import sys\nsys._current_frames()",
        "def f(x): return getattr(x, '_secret')", "def f(g): return g.__self__", "def f(x): return x.tb_frame.f_locals",
    ):  # fmt: skip
        module = parsed("aegis.cli.x", "cli/x.py", text)
        assert list(through_walls(module)), text
    text = "class A:\n    def __init__(self, other):\n        self._mine = other._mine\n        super()._base()"
    module = parsed("aegis.cli.x", "cli/x.py", text)
    assert not list(through_walls(module))


def test_every_private_exception_is_of_a_module_that_exists() -> None:
    assert set(PRIVATE) <= {module.path for module in modules()}
