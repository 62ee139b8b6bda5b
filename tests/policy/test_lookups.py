"""Names and their addresses: which names may be looked up, and which addresses of a name may be reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.policy import ConfigCapability, NetworkCapability, Policy, parse_policy
from aegis.policy.addresses import address_class, judged, read_address

# -- names ---------------------------------------------------------------------------------------------

LOOKUPS: list[tuple[list[str], list[str], str, bool]] = [
    (["https://db.example"], [], "db.example", True),
    (["udp://db.example:53"], [], "DB.EXAMPLE", True),
    (["db.example:1"], [], "db.example.", True),
    (["db.example:1"], [], "db.example..", False),
    (["bücher.example:1"], [], "xn--bcher-kva.example", True),
    (["xn--bcher-kva.example:1"], [], "BÜCHER.example", True),
    (["db.example:1"], [], "a.db.example", False),
    (["db.example:1"], [], "db.example.evil", False),
    (["*.example:1"], [], "evilexample", False),
    (["*.example:1"], [], ".example", False),
    (["private:1"], [], "db.example", False),
    (["private:1"], [], "localhost", False),
    (["local:1"], [], "db.example", False),
    (["local:1"], [], "localhost", True),
    (["local:1"], [], "a.Localhost.", True),
    (["local:1"], [], "notlocalhost", False),
    (["local:1"], [], "localhost.example", False),
    (["127.0.0.1:1"], [], "localhost", False),
    (["0.0.0.0/0:1"], [], "db.example", False),
    (["public:*"], ["*.example"], "a.example", False),
    (["public:*"], ["*.example"], "example", True),
    (["public:*"], ["https://a.example"], "a.example", False),
    (["public:*"], ["a.example:1-65535"], "a.example", False),
    (["a.example:1"], ["public"], "a.example", True),
    (["public:*"], [], "127.0.0.1", False),
    (["public:*"], [], "0x7f.1", False),
    (["public:*"], [], "2130706433", False),
    (["public:*"], [], "[::1]", False),
    (["public:*"], [], "::1", False),
    (["public:*"], [], "", False),
    (["public:*"], [], ".", False),
    (["public:*"], [], "a" * 64 + ".example", False),
    (["public:*"], [], ".".join(["a" * 60] * 5), False),
    (["public:*"], [], "a/b", False),
    (["public:*"], [], "a@b", False),
    (["public:*"], [], "a%00.example", False),
    (["public:*"], [], "\u3002", False),
]


@pytest.mark.parametrize(("allow", "deny", "name", "allowed"), LOOKUPS)
def test_a_name_may_be_looked_up(allow: list[str], deny: list[str], name: str, allowed: bool) -> None:
    verdict = NetworkCapability(allow=allow, deny=deny).decide_lookup(name)
    assert bool(verdict) is allowed
    assert verdict.rule


# -- answers -------------------------------------------------------------------------------------------

INSIDE = [
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.1.1",
    "169.254.169.254", "100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "192.0.2.1",
    "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fec0::1", "ff02::1", "fd00:ec2::254", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "2001:0:0:0:0:0:80ff:fffe", "::127.0.0.1", "2001:db8::1", "5f00::1",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "16843009", "0x1010101", "2606:4700::1", "[2606:4700::1]", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_alone_does_not_lead_inside(address: str) -> None:
    rules = NetworkCapability(allow=["db.example:*", "*.example:*", "public:*"])
    verdict = rules.decide_answer("db.example", address)
    assert not verdict
    assert "must be allowed" in verdict.rule


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_name_leads_outside(address: str) -> None:
    assert NetworkCapability(allow=["db.example:1"]).decide_answer("db.example", address)
    assert not NetworkCapability(allow=["other.example:1"]).decide_answer("db.example", address)
    assert not NetworkCapability(allow=["db.example:1"], deny=["public"]).decide_answer("db.example", address)
    assert not NetworkCapability(allow=["db.example:1"], deny=["db.example"]).decide_answer("db.example", address)


@pytest.mark.parametrize("denied", ["1.1.1.1", "1.0.0.0/8", "[::ffff:1.1.1.1]", "0x1.1.1.1", "[64:ff9b::101:101]"])
@pytest.mark.parametrize("address", ["1.1.1.1", "16843009", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"])
def test_a_denied_address_is_denied_in_every_notation(denied: str, address: str) -> None:
    assert not NetworkCapability(allow=["db.example:*", "public:*"], deny=[denied]).decide_answer("db.example", address)


@pytest.mark.parametrize(
    "address", ["", "nonsense", "1.2.3.4.5", "256.1.1.1", "1.1.1.1:80", "::g", "1" * 200, "db.example"]
)
def test_an_invalid_address_is_no_answer(address: str) -> None:
    verdict = NetworkCapability(allow=["db.example:*", "public:*"]).decide_answer("db.example", address)
    assert not verdict
    assert "is not an address" in verdict.rule
    assert len(verdict.rule) < 200


RULES = [
    "db.example:5432", "*.example:443", "https://a.example", "udp://a.example:53", "public:443", "private:5432",
    "local:*", "10.0.0.0/8:1-100", "127.0.0.1:80", "[::1]:*", "[64:ff9b::/96]:7", "1.1.1.1:*", "tcp://8.8.8.0/24:53",
]  # fmt: skip
DENIALS = [*RULES, "db.example", "*.example", "public", "10.0.0.0/8", "http://a.example"]
NAMES = ["db.example", "a.example", "example", "b.a.example", "localhost", "other.org"]
PORTS = [0, 1, 7, 53, 80, 100, 443, 5432, 65535]
capabilities = st.builds(
    lambda allow, deny: NetworkCapability(allow=allow, deny=deny),
    st.lists(st.sampled_from(RULES), max_size=4),
    st.lists(st.sampled_from(DENIALS), max_size=2),
)
schemes = st.sampled_from(["tcp", "udp", "http", "https"])
answers = st.sampled_from([*INSIDE, *OUTSIDE, "8.8.8.8", "10.200.0.1"])


@given(capabilities, schemes, st.sampled_from(NAMES), st.sampled_from(PORTS), answers)
def test_addresses_reachable_by_name_were_looked_up_and_returned(
    rules: NetworkCapability, scheme: str, name: str, port: int, address: str
) -> None:
    """For all rules: an address that may be dialled for a name is among its answers, and the name may be looked up
    unless a rule names only its address.
    """
    if rules.decide(scheme, name, port, address=address):
        assert rules.decide_answer(name, address)
    if rules.decide(scheme, name, port):
        assert rules.decide_lookup(name)


@given(capabilities, st.sampled_from(NAMES), answers)
def test_an_answer_that_is_given_can_be_reached_by_a_rule_that_grants(
    rules: NetworkCapability, name: str, address: str
) -> None:
    """For all rules: an answer is public and belongs to the name, or a rule names its address; without rules there is
    none.
    """
    if not rules.decide_answer(name, address):
        return
    found = read_address(address)
    assert found is not None
    carried = judged(found)
    by_name = address_class(carried) == "public" and any(rule.fits_name(name) for rule in rules.allow)
    assert by_name or any(rule.fits_address(carried) for rule in rules.allow)


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict_and_nothing_allows_without_a_rule(text: str) -> None:
    """For every text: the check raises no error, and an empty capability allows nothing."""
    closed, wide = NetworkCapability(), NetworkCapability(allow=["public:*", "*.example:*"])
    assert not closed.decide_lookup(text)
    assert not closed.decide_answer(text, "1.1.1.1")
    assert not closed.decide_answer("a.example", text)
    wide.decide_lookup(text)
    wide.decide_answer(text, text)


# -- configuration and imports -------------------------------------------------------------------------


def test_configuration_may_be_a_mapping_and_the_last_of_a_key_counts() -> None:
    made = ConfigCapability(set={"a": "1", "b": "2"})  # type: ignore[arg-type]
    assert made.set == (("a", "1"), ("b", "2"))
    assert ConfigCapability(set=(("a", "1"), ("a", "2"))).set == (("a", "2"),)
    assert ConfigCapability.parse("key=") == ConfigCapability(set=(("key", ""),))
    assert ConfigCapability.parse("Größe=ü=1").set == (("Größe", "ü=1"),)
    assert Policy() == Policy(config=ConfigCapability())
    assert Policy(config=made) != Policy()


@pytest.mark.parametrize("text", ["=value", "="])
def test_a_key_is_not_empty(text: str) -> None:
    with pytest.raises(PolicyError, match="is not a key"):
        ConfigCapability.parse(text)


FILES: list[tuple[str, str]] = [
    ("imports = 5\n", "policy:1: 'imports' must be a table, not a number"),
    ('\n[imports]\n"a:b/c" = "x:Y"\n', "policy:3: 'a:b/c' must be a table, not text"),
    ('[imports]\n"a:b/c" = { provider = "" }\n', "policy:2: imports: '' is not a provider"),
    ('[imports]\n\n"a:b/c".provider = "x:Y:Z"\n', "policy:3: imports: 'x:Y:Z' is not a provider"),
    (
        '[imports."a:b/c"]\nprovider = "ok:Ok"\n[imports."a:b/d"]\n# why\nprovider = "1x:Y"\n',
        "policy:5: imports: '1x:Y'",
    ),
    ('[imports."a:b/c"]\nprovider = "x:"\n', "policy:2: imports: 'x:' is not a provider"),
    ('[imports."a:b/c"]\nprovider = ":Y"\n', "policy:2: imports: ':Y' is not a provider"),
    ('[imports."a:b/c"]\nprovider = "x:Y"\nprovidr = 1\n', "policy:3: 'providr' is not a key of imports.a:b/c"),
    ('[imports."a:b/c"]\nprovider = "x:Y"\n[imports."a:b/c"]\n', "policy:3: not valid TOML"),
    ("[capabilities.config]\nvalues = {}\n", "policy:2: 'values' is not a key of capabilities.config"),
    ("[capabilities]\nconfig = 5\n", "policy:2: 'config' must be a table, not a number"),
    ("[capabilities.config]\nset = []\n", "policy:2: 'set' must be a table, not a list"),
    ('[capabilities.config.set]\na = "1"\nb = true\n', "policy:3: config: the value of 'b' must be a string, not bool"),
    ('[capabilities.config.set]\na = "1"\n\n"" = "2"\n', "policy:4: config: '' is not a key"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=[message for _, message in FILES])
def test_a_mistake_is_reported_with_its_line(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, base="/base")
    assert str(caught.value).startswith(message)


def test_imports_are_read_in_any_of_their_spellings() -> None:
    for text in (
        '[imports."a:b/c"]\nprovider = "x.y:Z.w"\n',
        '[imports]\n"a:b/c" = { provider = "x.y:Z.w" }\n',
        'imports."a:b/c".provider = "x.y:Z.w"\n',
    ):
        assert parse_policy(text).imports == (("a:b/c", "x.y:Z.w"),)
    assert parse_policy('imports."a:b/c".provider = "x"\n').imports == (("a:b/c", "x"),)
    assert parse_policy("").imports == ()
