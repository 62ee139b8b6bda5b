"""The rules of style that a machine can check: names, docstrings, messages and signatures.

Oracle: the source files themselves.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

import aegis
from aegis import limits
from aegis.limits import LIMIT_NAMES
from aegis.policy.policy import KEYWORDS

ROOT = Path(aegis.__file__).parent
GENERATED = "bindings/"


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


RETIRED_WORDS = re.compile(r"\b(told|whoever|nobody|somebody|ours)\b", re.IGNORECASE)
RETIRED_FILES = words(
    "accounts acting alone anatomy answers blame closing declared decisions effort faults fit holdings hosting "
    "identity kept liar lies linking lives names needs nowhere patience places providers rehearsal small tell tier "
    "told within words worlds zygote"
)
RETIRED_CLASSES = words(
    "Account Anatomy Answers Bench Brief Broken ComponentGuest Effort Face Given Gone HostSide HungUp Late Lives Needs "
    "Owner Parcel Place Reply Seen Setup Subject Told Unfit Where Workshop Zygote"
)
RETIRED_BOUNDS = re.compile(r"MOST|LOOK|PIECE|DEEPEST|PATIENCE|TURNS|HUGE|LARGE|LONG")
UNITS = words(
    "ANSWERS ATTEMPTS BYTES CALLS CASES CHARACTERS COLUMNS COMBINATIONS CONNECTIONS DENIALS DEPTH DESCRIPTORS "
    "DIGITS ELEMENTS ENTRIES EPOCHS EVENTS EXECUTORS FILES FLAGS FRAMES FUEL HANDLES IMPORTS INSTANCES INSTRUCTIONS "
    "ITEMS LINES LINKS MEMORIES MODULES NAMES NANOSECONDS OPTIONS PAGES PARAMS PARTS POINTS POLLABLES PORT RESULTS "
    "ROWS SANDBOXES SECONDS SECTIONS SEEDS SEGMENTS STEPS SUBSCRIPTIONS THREADS TRAMPOLINES TYPES UNITS VALUES"
)
LIMIT_ERRORS = words(
    "DeadlineExceeded LimitExceeded MemoryExceeded OutOfFuel OutputExceeded QuotaExceeded StackExhausted"
)
NOT_A_NOUN = words("How If It Its That There These This Those What When Where Whether Which Who Whose")
NOT_IMPERATIVE = NOT_A_NOUN | words("A An The Tell Tells Does Is Are")


@cache
def files() -> dict[str, str]:
    """Return the source of each module by its path below the package, without generated ones."""
    found = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted(ROOT.rglob("*.py"))}
    return {name: text for name, text in found.items() if not name.startswith(GENERATED)}


@cache
def tree(name: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(files()[name])


@lru_cache(maxsize=1)  # the rules of one module are examined one after the other
def nodes(name: str) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of a module."""
    return tuple(ast.walk(tree(name)))


@pytest.fixture(scope="module", autouse=True)
def the_trees_are_released() -> Iterator[None]:
    """Release the syntax trees after the last test: half a million nodes would slow each garbage collection."""
    yield
    tree.cache_clear()
    nodes.cache_clear()


def docstrings(of: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring and attribute docstring."""
    for node in of:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def prose(name: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, comment and string literal with more than one word."""
    docs = dict(docstrings(nodes(name)))
    yield from docs.items()
    for node in nodes(name):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if " " in text.strip() and node.lineno not in docs:
            yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(files()[name]).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def classes(name: str) -> Iterator[ast.ClassDef]:
    """Yield all classes of a module, nested ones included."""
    yield from (node for node in nodes(name) if isinstance(node, ast.ClassDef))


# -- the rules ----------------------------------------------------------------------------------------------------


def retired_names(name: str) -> Iterator[str]:
    """Yield retired names of the file and its classes."""
    if Path(name).stem in RETIRED_FILES:
        yield "the file name is retired"
    for node in classes(name):
        if node.name.lstrip("_") in RETIRED_CLASSES:
            yield f"{node.lineno}: the class name {node.name} is retired"


def retired_words(name: str) -> Iterator[str]:
    """Yield retired words in docstrings, comments and messages."""
    for line, text in prose(name):
        for match in RETIRED_WORDS.finditer(text):
            yield f"{line}: the word {match[0]!r} is retired"


def first_lines(name: str) -> Iterator[str]:
    """Yield public functions and classes whose docstring does not start with an imperative or a noun phrase."""
    public = {
        item.value
        for node in tree(name).body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        for item in ast.walk(node.value)
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }
    for node in tree(name).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in public:
            yield from _first_line(node)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    first = (ast.get_docstring(node) or "").partition("\n\n")[0]
    word = first.split(" ")[0].rstrip(",.:;")
    if not first:
        yield f"{node.lineno}: {node.name} has no docstring"
    elif not first.endswith((".", ":")):
        yield f"{node.lineno}: the first line of {node.name} does not end in a period"
    elif isinstance(node, ast.ClassDef):
        if word in NOT_A_NOUN:
            yield f"{node.lineno}: the docstring of the class {node.name} starts with {word!r}, not with a noun phrase"
    elif word in NOT_IMPERATIVE or (re.fullmatch("[A-Z][a-z]+s", word) and not word.endswith("ss")):
        yield f"{node.lineno}: the docstring of {node.name} starts with {word!r}, not with an imperative"


def bounds_without_unit(name: str) -> Iterator[str]:
    """Yield constants that bound something and do not name its unit."""
    for node in tree(name).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in (t for top in targets for t in ast.walk(top) if isinstance(t, ast.Name) and t.id.isupper()):
            words = set(target.id.strip("_").split("_"))
            if any(RETIRED_BOUNDS.fullmatch(word) for word in words):
                yield f"{node.lineno}: the constant {target.id} does not say what it bounds"
            elif words & {"MAX", "MIN"} and not words & UNITS:
                yield f"{node.lineno}: the bound {target.id} has no unit"


def limit_messages(name: str) -> Iterator[str]:
    """Yield errors of exceeded limits whose message is a literal, instead of one from ``limits.exceeded``."""
    for node in nodes(name):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in LIMIT_ERRORS:
            continue
        if node.args and isinstance(node.args[0], (ast.Constant, ast.JoinedStr)):
            yield f"{node.lineno}: {node.func.id} gets a literal message: use aegis.limits.exceeded"


REMEDY_AFTER_SEMICOLON = re.compile(
    r"(?<!;); (?:(?:allow the|break|build it|call the|choose|create|define|did you mean|end the|for a value|give|grant"
    r"|known|leave|lift|load|name|pass|please|put|redirect|refer to|regenerate|remove|return None|set|use|write)\b"
    r"|\{[\w.]*(?:remedy|hint|instead)\b)"
)
"""A message has the form *what happened: remedy*."""
CODE = ("component/conversion/", "component/call_source.py", "engine/call/", "isolation/parent/pool.py")
"""Modules whose strings are source text."""


def remedies(name: str) -> Iterator[str]:
    """Yield messages whose remedy follows a semicolon."""
    if name.startswith(CODE):
        return
    known = {id(node.value) for node in nodes(name) if isinstance(node, ast.Expr)}
    known |= {id(part) for node in nodes(name) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes(name):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else _shown(v) for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known:
            text = node.value
        else:
            continue
        if REMEDY_AFTER_SEMICOLON.search(text):
            yield f"{node.lineno}: a remedy follows a semicolon in {text[:60]!r}: write a colon"


def _shown(value: ast.expr) -> str:
    """Return the source of an expression in an f-string, in braces."""
    return f"{{{ast.unparse(value.value)}}}" if isinstance(value, ast.FormattedValue) else ""


RULES = (retired_names, retired_words, first_lines, bounds_without_unit, limit_messages, remedies)


def violations_of(name: str) -> tuple[str, ...]:
    """Return all violations of one file."""
    return tuple(f"{name}:{found}" for rule in RULES for found in rule(name))


def test_names_docstrings_and_messages_follow_the_rules() -> None:
    assert [found for name in files() for found in violations_of(name)] == []


def test_a_class_name_means_one_thing() -> None:
    """A traceback, a log line or a search result must identify a class by its name."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for name in files():
        for node in classes(name):
            homes[node.name.lstrip("_")].append(f"{name}:{node.lineno}")
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("source", "rule", "found"),
    [
        ('"""Text is told."""', retired_words, 1),
        ("# nobody\nx = 1", retired_words, 1),
        ('raise ValueError(f"{1} of ours")', retired_words, 1),
        ('x = {"told": 1}', retired_words, 0),
        ('"""Hours and yours."""', retired_words, 0),
        ("class _Face: ...", retired_names, 1),
        ("class Interface: ...", retired_names, 0),
        ('__all__ = ["f"]\ndef f():\n    """Returns x."""', first_lines, 1),
        ('__all__ = ["f"]\ndef f():\n    """Return x"""', first_lines, 1),
        ('__all__ = ["f"]\ndef f(): ...', first_lines, 1),
        ('__all__ = ["f"]\ndef f():\n    """Pass x, and\n    y."""', first_lines, 0),
        ('__all__ = ["C"]\nclass C:\n    """What it is."""', first_lines, 1),
        ("_MOST = 1", bounds_without_unit, 1),
        ("MAX_PATH = 1", bounds_without_unit, 1),
        ("MAX_PATH_BYTES, _MAX_DEPTH = 1, 2", bounds_without_unit, 0),
        ('raise PolicyError(f"{x!r} is not a mode; use system")', remedies, 1),
        ('raise PolicyError("no path; " "write one")', remedies, 1),
        ('raise PolicyError(f"{path} is denied; {one.remedy}")', remedies, 1),
        ('raise PolicyError(f"{path} is denied; {count} more")', remedies, 0),
        ('raise PolicyError(f"{x!r} is not a mode: use system")', remedies, 0),
        ('raise OutOfFuel("no fuel", limit="fuel")', limit_messages, 1),
        ('raise OutOfFuel(exceeded("fuel", 1, 1), limit="fuel")', limit_messages, 0),
    ],
)
def test_each_rule_finds_its_violation(source: str, rule: object, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{source}.py"  # a name of its own, because trees are cached by name
    monkeypatch.setitem(files(), name, source)
    assert len(list(rule(name))) == found  # type: ignore[operator]


# -- messages of limits -------------------------------------------------------------------------------------------

FORM = re.compile(r"[\w -]+ exceeded \([\d.,]+( µ?s)?/[\d.,]+ .+\): raise it with (\w+) or (--[\w-]+)")


@pytest.mark.parametrize("name", sorted(row.name for row in limits.LIMIT_ROWS if row.label))
def test_the_message_of_an_exceeded_limit_has_one_form(name: str) -> None:
    """Every message names the limit, both numbers, and the keyword and option that raise the limit."""
    match = FORM.fullmatch(limits.exceeded(name, 1_000_001, 1_000_000))
    assert match is not None
    assert (match[2], match[3]) == (name, limits.flag_of(name))


# -- public interface ---------------------------------------------------------------------------------------------


def public_members() -> Iterator[tuple[str, object]]:
    """Yield the public names of the package, and the public methods and properties of its classes."""
    for name in aegis.__all__:
        value = getattr(aegis, name)
        if not callable(value) or name == "__version__":
            continue
        yield name, value
        for member, item in vars(value).items() if inspect.isclass(value) else ():
            function = item.__func__ if isinstance(item, (classmethod, staticmethod)) else item
            if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                yield f"{name}.{member}", function


@pytest.mark.parametrize(("name", "value"), [pytest.param(n, v, id=n) for n, v in public_members()])
def test_public_names_are_documented_and_show_their_parameters(name: str, value: object) -> None:
    """``help()`` shows a sentence and real parameters; only misspelt keywords, of type ``Never``, are collected."""
    first = (inspect.getdoc(value) or "").partition("\n\n")[0]
    assert first.endswith((".", ":")), first
    if inspect.isfunction(value):
        collected = [p for p in inspect.signature(value).parameters.values() if p.kind is p.VAR_KEYWORD]
        assert all(p.annotation == "Never" for p in collected), collected


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (aegis.Aegis, KEYWORDS),
        (aegis.run, KEYWORDS),
        (aegis.Policy.from_keywords, KEYWORDS),
        (aegis.Builder.with_limits, LIMIT_NAMES),
        (aegis.Limits.with_, LIMIT_NAMES),
        (aegis.Limits, LIMIT_NAMES),
    ],
)
def test_every_limit_and_capability_is_a_parameter(function: object, names: tuple[str, ...]) -> None:
    assert set(names) <= set(inspect.signature(function).parameters)  # type: ignore[arg-type]


EXAMPLES = (
    "limits", "runtime", "observe.metrics", "observe.outcome", "observe.subscribers", "policy.file",
    "policy.filesystem", "policy.isolation", "policy.keyvalue", "policy.network", "policy.patterns",
    "policy.policy", "policy.statements", "wit.err", "wit.values",
)  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_docstrings_work(name: str) -> None:
    """Oracle: the output that the docstring shows."""
    failed, tried = doctest.testmod(importlib.import_module(f"aegis.{name}"))
    assert (failed, tried > 0) == (0, True)
