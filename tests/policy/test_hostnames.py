"""A host name has one ASCII form, by IDNA 2008; a spelling that IDNA 2003 reads differently is rejected."""

from __future__ import annotations

import unicodedata
from typing import Any

import idna  # needed by the tests only: a dependency of the certificate authority
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.bindings import wasi_http_types as types
from aegis.errors import PolicyError
from aegis.policy import NetworkCapability, NetworkPattern
from aegis.policy.hostnames import HostNameError, checked_name
from aegis.policy.patterns import host_name, plain_host
from aegis.wit.values import Err
from tests.host.http.client import Client, code
from tests.host.network.wire import guest, look_up
from tests.host.preview2.guest import refusal

# Each name with the A-label that an IDNA 2008 registry has for it.
SAME = [
    ("BÜCHER.example", "xn--bcher-kva.example"),
    ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ("b\uff55\u0308cher.example", "xn--bcher-kva.example"),
    ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
    ("ПРИМЕР.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
    ("παράδειγμα.example", "xn--hxajbheg2az3al.example"),
    ("مثال.example", "xn--mgbh0fb.example"),
    ("a\u3002b\uff0ec\uff61d.", "a.b.c.d"),
    ("\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "example.com"),
    ("\u212aelvin.example", "kelvin.example"),
    ("\u0131.example", "xn--cfa.example"),
    ("\u0130.example", "xn--i-9bb.example"),
    ("\u0430pple.example", "xn--pple-43d.example"),
    ("\ufb01le.example", "file.example"),
    ("XN--BCHER-KVA.Example.", "xn--bcher-kva.example"),
    ("xn--fa-hia.de", "xn--fa-hia.de"),
    ("xn--n3h.example", "xn--n3h.example"),
    ("my_host.example", "my_host.example"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
    (".".join(["a" * 61] * 4) + ".aaaaa", ".".join(["a" * 61] * 4) + ".aaaaa"),
]  # fmt: skip
DIFFERENT = [
    ("fa\u00df.de", "U+00DF, which IDNA 2003 and 2008 map differently: write xn--fa-hia.de if that name is meant"),
    ("FA\u1e9e.de", "U+1E9E, which IDNA 2003 and 2008 map differently: write xn--fa-hia.de if that name is meant"),
    ("\u03b1\u03c2.gr", "U+03C2, which IDNA 2003 and 2008 map differently: write xn--mxa8a.gr if that name is meant"),
    ("a\u200db.de", "U+200D, which IDNA 2003 and 2008 map differently: write xn--ab-m1t.de if that name is meant"),
    ("a\u200cb.de", "U+200C, which IDNA 2003 and 2008 map differently: write xn--ab-j1t.de if that name is meant"),
    ("so\u00adft.de", "U+00AD, which is invisible: remove it"),
    ("a\u200bb.de", "U+200B, which is invisible: remove it"),
    ("a\u2060b.de", "U+2060, which is invisible: remove it"),
    ("a\ufeffb.de", "U+FEFF, which is invisible: remove it"),
    ("a\u034fb.de", "U+034F, which is invisible: remove it"),
    ("a\ufe0fb.de", "U+FE0F, which is invisible: remove it"),
    ("a\u202eb.de", "U+202E, which is invisible: remove it"),
    ("\u2603.de", "U+2603, which is not a letter, digit or mark: write xn--n3h.de if that name is meant"),
    ("\U0001f4a9.la", "U+1F4A9, which is not a letter, digit or mark: write xn--ls8h.la if that name is meant"),
    ("\u30fb\u30fb.jp", "U+30FB, which is not a letter, digit or mark"),
    ("a\u2024b.de", "a character that maps to a dot: write the dot"),
    ("a\u2026b.de", "a character that maps to a dot: write the dot"),
    ("\u2488com.de", "a character that maps to a dot: write the dot"),
    ("\u2100.de", "'/', which is not allowed in a host name"),
    ("a\uff0fb.de", "'/', which is not allowed in a host name"),
    ("a\uff20b.de", "'@', which is not allowed in a host name"),
    ("\u0301a\u00fc.de", "a label that begins with a combining mark"),
    ("ab--\u00fc.de", "a label that is not ASCII and has '--' as its third and fourth characters"),
    ("\u1100\u3042.kr", "U+1100, which is not a letter, digit or mark"),
    ("\u0640\u0627.example", "U+0640, which is not a letter, digit or mark"),
    ("xn--a.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--example-.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--\u00fc.de", "a label that is not ASCII and has '--' as its third and fourth characters"),
    ("xn--a-ecp.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--wca.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--99999999.de", "a label that begins with xn-- but is not valid IDNA"),
    ("xn--zzzzzzzz99.de", "a label that begins with xn-- but is not valid IDNA"),
    ("a..b", "an empty label: write one dot between two labels"),
    ("a\u3002\u3002b", "an empty label: write one dot between two labels"),
    ("", "an empty label: write one dot between two labels"),
    ("a" * 64 + ".de", "a label of more than 63 characters"),
    ("\u00fc" * 60 + ".de", "a label of more than 63 characters"),
    ("\u00fc" * 64 + ".de", "a label of more than 63 characters"),
    (".".join(["a" * 61] * 4) + ".aaaaaa", "is longer than a host name can be"),
    ("\u00fc" * 2000, "is longer than a host name can be"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), SAME)
def test_a_pattern_and_a_guest_name_the_same_host_by_the_same_spelling(text: str, name: str) -> None:
    assert NetworkPattern.parse(f"tcp://{text}:1") == NetworkPattern.parse(f"tcp://{name}:1")
    assert plain_host(text) == name
    rules = NetworkCapability(allow=[f"{text}:1"])
    assert rules.decide("tcp", name, 1)
    assert NetworkCapability(allow=[f"{name}:1"]).decide("tcp", text, 1)
    asked: list[str] = []
    with guest(f"{text}:1", resolver=lambda n: asked.append(n) or ["1.1.1.1"]) as made:  # type: ignore[func-returns-value]
        look_up(made, text)
    assert asked == [name], "the resolver and a certificate see the name that was judged"


@pytest.mark.parametrize(("text", "message"), DIFFERENT)
def test_a_spelling_that_two_readers_take_for_two_names_is_rejected_everywhere(text: str, message: str) -> None:
    for pattern in (f"tcp://{text}:1", f"*.{text}"):
        if text:
            with pytest.raises(PolicyError) as caught:
                NetworkPattern.parse(pattern, any_port=True)
            assert message in str(caught.value) or len(text) > 1000
    with pytest.raises(HostNameError, match=r"^(has|is|contains) ") as named:
        checked_name(text)
    assert message in str(named.value)
    assert host_name(text) is None
    wide = NetworkCapability(allow=["public:*", "*.de:*"])
    assert not wide.decide("tcp", text, 1)
    assert not wide.decide_lookup(text)
    asked: list[str] = []
    with guest("public:*", resolver=lambda n: asked.append(n) or []) as made:  # type: ignore[func-returns-value]
        assert refusal(look_up, made, text) == "invalid-argument"
    assert asked == []


@pytest.mark.parametrize("text", ["fa\u00df.de", "a\u200db.de", "xn--a.de", "so\u00adft.de", "a\u2024b.de"])
def test_a_request_to_an_ambiguous_name_is_not_made(text: str) -> None:
    def asking(authority: str) -> Any:
        request = client.types.OutgoingRequest(client.types.Fields())
        request.set_scheme(types.SchemeHttp())
        request.set_authority(authority)
        return client.handler.handle(request, None)

    with Client("public:*") as client:
        with pytest.raises(Err) as caught:
            asking(text)
        assert code(caught) == "HttpRequestUriInvalid"
        assert client.decisions == []


def test_sharp_s_grants_neither_of_its_readings() -> None:
    with pytest.raises(PolicyError, match=r"write xn--fa-hia\.de if that name is meant"):
        NetworkCapability(allow=["tcp://fa\u00df.de:443"])
    meant = NetworkCapability(allow=["tcp://xn--fa-hia.de:443"])
    assert meant.decide("tcp", "xn--fa-hia.de", 443)
    assert not meant.decide("tcp", "fass.de", 443)


@given(
    st.text(min_size=1, max_size=20)
    | st.text(alphabet="aü\u00df\u03c2\u200d.-x\uff0e\u3002\u0130\u0131K\u00adn", max_size=12)
)
def test_a_name_has_one_form_which_is_its_own(text: str) -> None:
    """For every text: it has no form, or an ASCII form that is its own form, and that IDNA 2003 does not read
    differently.
    """
    name = host_name(text)
    if name is None:
        return
    assert name.isascii()
    assert host_name(name) == name
    assert host_name(unicodedata.normalize("NFD", text)) in (name, None)
    for encode in (lambda: text.encode("idna"), lambda: idna.encode(text, uts46=True)):
        try:
            assert encode().decode().lower().removesuffix(".") == name
        except UnicodeError:
            continue  # IDNA 2003 rejects the name


@pytest.mark.parametrize(("text", "name"), [pair for pair in SAME if "_" not in pair[0] and "xn--n3h" not in pair[0]])
def test_a_name_is_that_of_idna_2008(text: str, name: str) -> None:
    assert idna.encode(text, uts46=True).decode().removesuffix(".") == name


@pytest.mark.parametrize("text", ["\u33ff", "a\u33ff.example"])
def test_a_character_that_idna_2003_maps_otherwise_by_its_older_tables_is_refused(text: str) -> None:
    with pytest.raises(HostNameError, match="mapped differently by IDNA 2003 and 2008"):
        checked_name(text)


def test_a_peer_without_an_address_is_kept_away() -> None:
    assert not NetworkCapability().decide_peer("tcp", "no address", 1)


# -- policies of any size ------------------------------------------------------------------------------


def test_ten_thousand_rules_are_read_and_kept() -> None:
    rules = NetworkCapability(
        allow=[f"tcp://10.{n // 250}.{n % 250}.0/24:443" for n in range(5_000)],
        deny=[f"h{n}.example" for n in range(5_000)],
    )
    assert (len(rules.allow), len(rules.deny)) == (5_000, 5_000)
    assert rules.decide("tcp", "10.19.249.7", 443)
    assert not rules.decide_lookup("h4999.example")
