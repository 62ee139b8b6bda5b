"""What a state machine calls: the members of an interface, picks of handles, and how a sandbox of it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aegis.fuzz.stubs import Answers
from aegis.observe.outcome import Outcome
from aegis.policy import Policy
from aegis.testing.script import Script
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Borrow, Function, Own

if TYPE_CHECKING:
    from types import ModuleType

    from aegis.component.planning.artifact import Component
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Check", "Member", "Pick", "World"]

Check = Callable[[str, Sequence[Any], Outcome], object]
"""Given a function, its arguments and its outcome, it returns ``False`` or raises ``AssertionError`` to object."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Stands for a handle in drawn arguments: the ``number``-th from the end of those that there are, counted round."""

    of: Own | Borrow
    number: int


@dataclass(frozen=True, slots=True)
class Member:
    """A function that is called: its name in WIT, its type, and whether Python calls it on a handle."""

    name: str
    type: Function

    @property
    def method(self) -> bool:
        return self.name.startswith("[method]")

    @property
    def python(self) -> str:
        """What Python calls, after ``api.`` or a handle and a point."""
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
class World:
    """What a machine drives: where it comes from and how a sandbox of it is made."""

    runtime: Aegis
    component: Component
    path: str | None
    interface: str
    bindings: ModuleType | None
    imports: Mapping[str, Any] | None
    answers: Answers | None
    checks: tuple[Check, ...]

    def api(self, sandbox: Sandbox) -> Any:
        """Return what the members are attributes of."""
        if self.bindings is not None:
            return sandbox.bind(self.bindings.INTERFACE)
        return sandbox.exports[self.interface] if self.interface else sandbox.exports

    def head(self, script: Script, numbers: Sequence[int]) -> str:
        """Return the lines that come before all calls."""
        lines = []
        if self.runtime.policy == Policy():
            script.need("aegis", "Aegis")
            lines.append("runtime = Aegis()")
        else:
            lines.append("# runtime: that of the state machine, with its policy")
        if self.path is not None:
            lines.append(f"component = runtime.load_file({self.path!r})")
        else:
            lines.append("# component: that of the state machine")
        given = ""
        if self.answers is not None:
            script.need("aegis.fuzz.stubs", "Answers")
            lines.append(f"imports = Answers(component).plan({list(numbers)!r})")
        if self.imports is not None or self.answers is not None:
            given = ", imports=imports"
        lines.append(f"sandbox = runtime.sandbox(component{given})")
        if self.bindings is not None:
            script.need(self.bindings.__name__, "INTERFACE")
            lines.append("api = sandbox.bind(INTERFACE)")
        else:
            lines.append(f"api = sandbox.exports[{self.interface!r}]" if self.interface else "api = sandbox.exports")
        return "\n".join(lines)
