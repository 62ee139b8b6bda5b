"""Grants for components only: names to look up, configuration, and providers of interfaces."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, LinkError
from aegis.errors import PolicyError
from aegis.policy import ConfigCapability, NetworkCapability, Policy, parse_policy

# -- names ---------------------------------------------------------------------------------------------


LOOKUPS: list[tuple[tuple[str, ...], tuple[str, ...], str, bool, str]] = [
    (("tcp://db.example:1",), (), "db.example", True, "allow tcp://db.example:1"),
    (("*.example:1",), (), "A.b.Example.", True, "allow *.example:1"),
    (("*.example:1",), (), "example", False, "nothing allows example"),
    (("public:443",), (), "any.example", True, "allow public:443"),
    (("10.0.0.1:1",), (), "db.example", False, "nothing allows db.example"),
    (("*.example:1",), ("b.example",), "b.example", False, "deny b.example:*"),
    (("*.example:1",), ("b.example:22",), "b.example", False, "deny b.example:22"),
    (("*.example:1",), (), "not a name", False, "'not a name' is not a host name"),
    ((), (), "a.example", False, "nothing allows a.example"),
]


@pytest.mark.parametrize(("allow", "deny", "name", "allowed", "rule"), LOOKUPS)
def test_a_name_is_looked_up_where_a_rule_says_so(
    allow: tuple[str, ...], deny: tuple[str, ...], name: str, allowed: bool, rule: str
) -> None:
    verdict = NetworkCapability(allow=allow, deny=deny).decide_lookup(name)
    assert (bool(verdict), verdict.rule) == (allowed, rule)


ANSWERS: list[tuple[tuple[str, ...], tuple[str, ...], str, bool]] = [
    (("db.example:1",), (), "1.1.1.1", True),
    (("db.example:1",), (), "10.0.0.1", False),
    (("db.example:1", "private:1"), (), "10.0.0.1", True),
    (("other.example:1",), (), "1.1.1.1", False),
    (("db.example:1",), ("1.0.0.0/8",), "1.1.1.1", False),
    (("db.example:1",), ("1.0.0.0/8:22",), "1.1.1.1", True),
    (("db.example:1",), (), "::ffff:10.0.0.1", False),
    (("db.example:1",), (), "not an address", False),
]


@pytest.mark.parametrize(("allow", "deny", "address", "allowed"), ANSWERS)
def test_each_answer_is_judged(allow: tuple[str, ...], deny: tuple[str, ...], address: str, allowed: bool) -> None:
    assert bool(NetworkCapability(allow=allow, deny=deny).decide_answer("db.example", address)) is allowed


# -- configuration -------------------------------------------------------------------------------------


def test_configuration_is_keys_with_values() -> None:
    made = ConfigCapability.parse("a=1=2") + ConfigCapability(set=(("b", ""), ("a", "3")))
    assert made.set == (("a", "3"), ("b", ""))
    assert Policy(config=made).describe() == ["config a", "config b"]


BAD_CONFIG: list[tuple[Any, str]] = [
    ((("", "x"),), "config: '' is not a key: write a non-empty string"),
    (((1, "x"),), "config: 1 is not a key: write a non-empty string"),
    ((("a", 1),), "config: the value of 'a' must be a string, not int"),
    ((("a", "\ud800"),), "config: the value of 'a' is not valid Unicode, which WASI strings must be"),
    (5, 'config.set: expected names with their values, such as {"TZ": "UTC"}'),
]


@pytest.mark.parametrize(("value", "message"), BAD_CONFIG, ids=[message[:40] for _, message in BAD_CONFIG])
def test_a_refused_configuration(value: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        ConfigCapability(set=value)
    assert str(caught.value) == message


def test_a_config_value_has_a_value() -> None:
    with pytest.raises(PolicyError, match="'a' has no value: write KEY=VALUE"):
        ConfigCapability.parse("a")


# -- providers -----------------------------------------------------------------------------------------

FILE = """
[capabilities.config]
set = { greeting = "hello" }

[imports."test:things/things"]
provider = "tests.policy.test_components:Things"
"""


class Things:
    """Providers that a policy may name."""


def test_a_policy_file_states_them() -> None:
    policy = parse_policy(FILE, base="/base")
    assert policy.config.set == (("greeting", "hello"),)
    assert policy.imports == (("test:things/things", "tests.policy.test_components:Things"),)
    assert policy.describe() == [
        "config greeting",
        "import test:things/things provided by tests.policy.test_components:Things",
    ]


BAD_FILES: list[tuple[str, str]] = [
    ('[imports."a:b/c"]\n', 'policy:1: the import has no provider: write provider = "module:name"'),
    (
        '[imports."a:b/c"]\nprovider = "not one"\n',
        "policy:2: imports: 'not one' is not a provider: write module:name, such as myapp.kv:Store",
    ),
    ('[imports."a:b/c"]\nprovider = 5\n', "policy:2: 'provider' must be text in quotes, not a number"),
    ('[imports."a:b/c"]\nother = 5\n', "policy:2: 'other' is not a key of imports.a:b/c: use one of provider"),
    ("[capabilities.config]\nset = { a = 1 }\n", "policy:2: config: the value of 'a' must be a string, not int"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=[message[:40] for _, message in BAD_FILES])
def test_a_refused_file(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, base="/base")
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [5, [("a",)], [("a", 1)], {"a": 1}])
def test_refused_providers(value: Any) -> None:
    with pytest.raises(PolicyError, match="expected providers by interface"):
        Policy(imports=value)


COMPONENT = """(component
  (import "test:things/things" (instance $i (export "answer" (func (result u32)))))
  (core func $f (canon lower (func $i "answer")))
  (core module $m (import "" "f" (func $f (result i32))) (func (export "go") (result i32) (call $f)))
  (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (result u32) (canon lift (core func $m "go"))))"""


class Answering:
    """A provider, created once per sandbox."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def answer(self) -> int:
        return 42


def test_a_policys_provider_serves_every_sandbox() -> None:
    builder = Aegis.builder().with_imports({"test:things/things": f"{__name__}:Answering"}).with_cache(False)
    runtime = builder.with_config(ConfigCapability(set=(("a", "1"),))).build()
    component = runtime.load_wat(COMPONENT)
    before = Answering.made
    for _ in range(2):
        with runtime.sandbox(component) as sandbox:
            assert sandbox.call("go") == 42
    assert Answering.made == before + 2

    class Other:
        def answer(self) -> int:
            return 7

    with runtime.sandbox(component, imports={"test:things/things": Other()}) as sandbox:
        assert sandbox.call("go") == 7, "what the embedder gives comes first"


def test_a_provider_that_cannot_be_had_is_a_link_error() -> None:
    runtime = Aegis.builder().with_imports({"test:things/things": "no.such:Thing"}).with_cache(False).build()
    with pytest.raises(LinkError, match=r"its provider no\.such:Thing cannot be loaded: ModuleNotFoundError"):
        runtime.sandbox(runtime.load_wat(COMPONENT))
