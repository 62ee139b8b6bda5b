"""The values of a state machine: members of an interface, drawn handles, and the world whose sandboxes it creates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aegis.fuzz.stubs import ImportStubs
from aegis.observe.outcome import Outcome
from aegis.policy import Policy
from aegis.testing.script import PythonScript
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Borrow, Function, Own

if TYPE_CHECKING:
    from types import ModuleType

    from aegis.component.planning.artifact import Component
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Check", "DrivenWorld", "Member", "Pick"]

Check = Callable[[str, Sequence[Any], Outcome], object]
"""A check of one call: it takes the function's name, the arguments and the outcome.

It fails the test by returning ``False`` or raising ``AssertionError``.
"""


@dataclass(frozen=True, slots=True)
class Pick:
    """A placeholder for a handle in drawn arguments: live handle number ``number`` from the end, modulo their count."""

    of: Own | Borrow
    number: int


@dataclass(frozen=True, slots=True)
class Member:
    """A function that the machine calls: its WIT name and its type."""

    name: str
    type: Function

    @property
    def method(self) -> bool:
        return self.name.startswith("[method]")

    @property
    def makes(self) -> bool:
        """Whether this is a constructor."""
        return self.name.startswith("[constructor]")

    @property
    def python(self) -> str:
        """The Python expression for the function, relative to ``api`` or, for a method, to a handle."""
        kind, mark, rest = self.name.partition("]")
        resource, _, own = rest.partition(".")
        if not mark:
            return snake(self.name)
        return pascal(resource) if kind == "[constructor" else snake(own) if self.method else _static(resource, own)

    @property
    def rule(self) -> str:
        return snake(self.name.replace("]", "_").replace("[", "").replace(".", "_"))


def _static(resource: str, own: str) -> str:
    return f"{pascal(resource)}.{snake(own)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenWorld:
    """The component that a machine calls, with everything needed to create a sandbox of it."""

    runtime: Aegis
    component: Component
    path: str | None
    interface: str
    bindings: ModuleType | None
    imports: Mapping[str, Any] | None
    stubs: ImportStubs | None
    checks: tuple[Check, ...]

    def api(self, sandbox: Sandbox) -> Any:
        """Return the object whose attributes are the members."""
        if self.bindings is not None:
            return sandbox.bind(self.bindings.INTERFACE)
        return sandbox.exports[self.interface] if self.interface else sandbox.exports

    def head(self, script: PythonScript, numbers: Sequence[int]) -> str:
        """Return the first lines of the script, which create the sandbox and ``api``."""
        lines = []
        if self.runtime.policy == Policy():
            script.need("aegis", "Aegis")
            lines.append("runtime = Aegis()")
        else:
            lines.append("# runtime: the runtime of the state machine, with its policy")
        if self.path is not None:
            lines.append(f"component = runtime.load_file({self.path!r})")
        else:
            lines.append("# component: the component of the state machine")
        given = ""
        if self.stubs is not None:
            script.need("aegis.fuzz.stubs", "ImportStubs")
            lines.append(f"imports = ImportStubs(component).plan({list(numbers)!r})")
        if self.imports is not None or self.stubs is not None:
            given = ", imports=imports"
        lines.append(f"sandbox = runtime.sandbox(component{given})")
        if self.bindings is not None:
            script.need(self.bindings.__name__, "INTERFACE")
            lines.append("api = sandbox.bind(INTERFACE)")
        else:
            lines.append(f"api = sandbox.exports[{self.interface!r}]" if self.interface else "api = sandbox.exports")
        return "\n".join(lines)
