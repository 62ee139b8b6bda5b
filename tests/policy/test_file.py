"""Every mistake in a policy file is an error that names its line; each rejected text is kept with its diagnostic."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.limits import Limits
from aegis.policy import (
    ClockCapability,
    EnvironmentCapability,
    FilesystemCapability,
    LoggingCapability,
    NetworkCapability,
    PathGrant,
    Policy,
    RandomCapability,
    load_policy,
    parse_policy,
)
from aegis.policy.toml_lines import line_of

ZERO = "fuel: 0 is not a limit: give a positive value, or none for no limit"
WHOLE = """\
[limits]
memory = "32MiB"
fuel = 5_000
timeout_seconds = 2.5
host_calls = "none"

[capabilities.filesystem]
paths = [
    { path = "/tmp/sandbox", read = true, write = true },
    { path = "./data", guest = "/data", read = true },
    "in::/in",
    { path = "/nothing", read = false },
]

[capabilities.network]
allow = ["https://api.example.com", "tcp://10.0.0.0/8:5432", "udp://[2001:db8::1]:53"]
deny = ["*.tracker.example"]
listen = ["tcp://127.0.0.1:8080"]

[capabilities.environment]
set = { TZ = "UTC" }
pass = ["LANG"]

[capabilities.clock]
mode = "coarse:1ms"

[capabilities.random]
mode = "seed:42"

[capabilities.logging]
enabled = true
min_level = "debug"
"""


def test_the_whole_format() -> None:
    assert parse_policy(WHOLE, base="/base") == Policy(
        limits=Limits(memory=32 << 20, fuel=5000, timeout=2.5, host_calls=None),
        filesystem=FilesystemCapability(
            paths=(
                PathGrant(host="/tmp/sandbox", guest="/tmp/sandbox", write=True),
                PathGrant(host="/base/data", guest="/data"),
                PathGrant(host="/base/in", guest="/in"),
            )
        ),
        network=NetworkCapability(
            allow=["https://api.example.com", "tcp://10.0.0.0/8:5432", "udp://[2001:db8::1]:53"],
            deny=["*.tracker.example"],
            listen=["tcp://127.0.0.1:8080"],
        ),
        environment=EnvironmentCapability(set=(("TZ", "UTC"),), pass_=("LANG",)),
        clock=ClockCapability(mode="coarse", resolution_ns=1_000_000),
        random=RandomCapability(seed=42),
        logging=LoggingCapability(enabled=True, min_level="debug"),
    )


@pytest.mark.parametrize(
    "text", ["", "[limits]", "[capabilities]", "[capabilities.filesystem]", "[capabilities.clock]"]
)
def test_an_empty_text_grants_nothing(text: str) -> None:
    assert parse_policy(text) == Policy()


def test_an_empty_network_table_grants_nothing() -> None:
    policy = parse_policy("[capabilities.network]")
    assert policy.network == NetworkCapability()
    assert policy.describe() == []


def test_relative_paths_start_here_without_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy = parse_policy('[capabilities.filesystem]\npaths = ["data"]')
    assert policy.filesystem.paths == (PathGrant(host=f"{tmp_path}/data", guest="data"),)


FS = "[capabilities.filesystem]\n"
ENV = "[capabilities.environment]\n"
NET = "[capabilities.network]\n"
TABLE_KEYS = "clock, config, environment, filesystem, keyvalue, logging, network, random"

REJECTED: list[tuple[str, str]] = [
    # TOML itself
    ("[limits]\nmemory = \n", "policy:2: not valid TOML: Invalid value"),
    ("\n[limits", "policy:2: not valid TOML: Expected ']' at the end of a table declaration"),
    ("[limits]\nfuel = " + "9" * 5000, "policy: not valid TOML: a number has too many digits"),
    ("a = " + "[" * 5000 + "]" * 5000, "policy: is nested too deeply for a policy file"),
    # unknown keys, and values that should be tables
    (
        "\n\nfoo = 1\n",
        "policy:3: 'foo' is not a key of the top level: use one of capabilities, engine, imports, include, isolation, "
        "limits",
    ),
    ("[limit]\n", "policy:1: 'limit' is not a key of the top level: did you mean 'limits'?"),
    ("[limits]\nmemry = 1", "policy:2: 'memry' is not a key of limits: did you mean 'memory'?"),
    ("[capabilities.sound]", f"policy:1: 'sound' is not a key of capabilities: use one of {TABLE_KEYS}"),
    ("limits = 5", "policy:1: 'limits' must be a table, not a number"),
    ("\ncapabilities = 'x'", "policy:2: 'capabilities' must be a table, not text"),
    ("[capabilities]\nclock = []", "policy:2: 'clock' must be a table, not a list"),
    ("[capabilities]\nclock = true", "policy:2: 'clock' must be a table, not true or false"),
    ("[capabilities]\nclock = 2020-01-01 00:00:00", "policy:2: 'clock' must be a table, not datetime"),
    # limits
    ("[limits] # off\nfuel = 0", f"policy:2: {ZERO}"),
    (
        "[limits]\r\nfuel = -1\r\n",
        "policy:2: fuel: -1 is not a limit: give a positive value, or none for no limit",
    ),
    ("[limits]\nfuel = true", "policy:2: fuel: expected a quantity like 1e9, not bool"),
    ("[limits]\ntimeout = nan", "policy:2: timeout: the number is not finite or too large: write it like 30s"),
    ('[limits]\nstack = "none"', "policy:2: stack: this limit cannot be lifted; the maximum is 2 MiB"),
    (
        "[limits]\nmemory = 1\n\nmemory_bytes = 2",
        "policy:4: memory is given twice, as memory and as memory_bytes: keep one",
    ),
    (
        '[limits]\nmemory_bytes = "64MiB"',
        'policy:2: memory_bytes must be a number: for a value with a unit write memory = "64MiB"',
    ),
    (
        "[limits]\ntimeout_seconds = false",
        'policy:2: timeout_seconds must be a number: for a value with a unit write timeout = "30s"',
    ),
    # files
    (f'{FS}paths = "a"', 'policy:2: paths must be a list, such as [{ path = "./data", read = true }]'),
    (f"{FS}paths = [\n1]", "policy:3: item 1 of 'paths' must be a table, not a number"),
    (f"{FS}paths = [{{ guest = 'a' }}]", 'policy:2: the grant has no path: write path = "./data"'),
    (f"{FS}paths = [{{ path = 1 }}]", "policy:2: 'path' must be text in quotes, not a number"),
    (f"{FS}paths = [{{ path = '/a', guest = 3.5 }}]", "policy:2: 'guest' must be text in quotes, not a number"),
    (f"{FS}paths = [{{ path = '/a', write = 1 }}]", "policy:2: 'write' must be true or false, not a number"),
    (
        f"{FS}paths = [{{ path = '/a', read = false, write = true }}]",
        "policy:2: read = false with write = true: a writable path is always readable: leave read out",
    ),
    (
        f"{FS}paths = [ # {{ path }}\n  {{ path = 'a' }}, # {{ x = 1 }}\n  {{ path = 'b', writ = true }},\n]",
        "policy:4: 'writ' is not a key of capabilities.filesystem.paths: did you mean 'write'?",
    ),
    (
        "[[capabilities.filesystem.paths]]\npath = 'a'\n[[capabilities.filesystem.paths]]\npath = 'b'\nwrit = true",
        "policy:5: 'writ' is not a key of capabilities.filesystem.paths: did you mean 'write'?",
    ),
    (
        f"{FS}paths = [\n  'a',\n  'b',\n  '/proc',\n]",
        "policy:5: filesystem: '/proc' cannot be granted: /proc exposes the state of the host: "
        "grant a copy of the file",
    ),
    (
        f"{FS}paths = ['']",
        "policy:2: filesystem: an empty path grants nothing: name a file or a directory, such as ./data",
    ),
    (
        f"{FS}# two\npaths = [{{ path = '/a', guest = 'x' }},\n{{ path = '/b', guest = 'x' }}]",
        "policy:3: filesystem: the guest path 'x' is granted for both '/a' and '/b': "
        "give one of them another guest path with '::'",
    ),
    # the network
    (f"{NET}allow = 'a:1'", "policy:2: 'allow' must be a list of texts, not text"),
    (f"{NET}allow = [\n 'a:1',\n 2]", "policy:4: item 2 of 'allow' must be text in quotes, not a number"),
    (
        f"{NET}allow = [\n 'a:1',\n 'bad',\n]",
        "policy:4: network: 'bad' has no port: write bad:443, a range such as :8000-8080, or :* for all",
    ),
    (
        f"{NET}listen = ['a:1']",
        "policy:2: network: 'a:1' listens on a name: write an IP such as tcp://127.0.0.1:8080, a CIDR or local",
    ),
    # the environment
    (f"{ENV}set = 1", "policy:2: 'set' must be a table, not a number"),
    (f"{ENV}set = {{ A = 1 }}", "policy:2: environment: the value of 'A' must be a string, not int"),
    (
        "[capabilities.environment.set]\nA = 'x'\nB = 1",
        "policy:3: environment: the value of 'B' must be a string, not int",
    ),
    (
        f"{ENV}pass = [\n'A',\n'B=1']",
        "policy:4: environment: 'B=1' is not a variable name: write a non-empty name without '=' and NUL",
    ),
    # everything else
    (
        "[capabilities.clock]\nmode = 'x'",
        "policy:2: clock: 'x' is not a mode: use system, coarse:1ms, fixed:2026-01-01T00:00:00Z, virtual or deny",
    ),
    ("[capabilities.random]\nmode = 'seed:x'", "policy:2: random: 'x' is not a seed: write it like seed:42"),
    ("[capabilities.logging]\nenabled = 'x'", "policy:2: 'enabled' must be true or false, not text"),
    (
        "[capabilities.logging]\nmin_level = 'x'",
        "policy:2: logging: 'x' is not a level: use one of trace, debug, info, warn, error, critical",
    ),
    # lines that are hard to locate
    ("limits.fuel = 0", f"policy:1: {ZERO}"),
    (
        "\nlimits = { stack = 1048576, fuel = 0 }",
        f"policy:2: {ZERO}",
    ),
    ('["limits"]\n"fuel" = 0', f"policy:2: {ZERO}"),
    (
        '["lim\\u0069ts"]\nfuel = 0',
        f"policy:2: {ZERO}",
    ),
    (
        f'{ENV}set = {{ A = """\n[limits]\nfuel = 1\n""" }}\n[limits]\nfuel = 0',
        f"policy:7: {ZERO}",
    ),
    (
        f'{ENV}set = {{ A = "\u2028" }}\n[limits]\nfuel = 0',
        f"policy:4: {ZERO}",
    ),
]


@pytest.mark.parametrize(("text", "diagnostic"), REJECTED, ids=[diagnostic[:60] for _, diagnostic in REJECTED])
def test_a_rejected_text_and_its_diagnostic(text: str, diagnostic: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, base="/base")
    assert str(caught.value) == diagnostic


def test_an_error_has_its_source_and_line() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy("[limits]\nfuel = 0", source="mine.toml")
    assert (caught.value.source, caught.value.line) == ("mine.toml", 2)
    assert caught.value.reason == ZERO


@given(st.text(alphabet="[]{}=.,\"'#\\ \nab1-", max_size=60))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    try:
        result: Policy | PolicyError = parse_policy(text, base="/")
    except PolicyError as error:
        result = error
    assert isinstance(result, Policy) or result.line is None or 1 <= result.line <= text.count("\n") + 1


# -- lines --------------------------------------------------------------------------------------

LINES = """\
top = 1
# comment [x]
[a.b]
c = [
  [1, 2],   # ] not the end
  { d = '''
}''', e = 2020-01-01 10:00:00 },
]
"f.g".h = "x"
[[t]]
[[t]]
u = 5
[t.v]
w = {}
[[t.z]]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("a",), 3),
        (("a", "b", "c"), 4),
        (("a", "b", "c", 0, 1), 5),
        (("a", "b", "c", 1, "e"), 7),
        (("a", "b", "f.g", "h"), 9),
        (("t",), 10),
        (("t", 0), 10),
        (("t", 1, "u"), 12),
        (("t", 1, "v", "w", "nowhere"), 14),
        (("t", 1, "z", 0), 15),
        (("nowhere",), None),
        ((), None),
    ],
)
def test_where_a_value_stands(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(LINES, path) == line


# -- files --------------------------------------------------------------------------------------


def test_a_file_is_the_base_of_its_paths(tmp_path: Path) -> None:
    file = tmp_path / "aegis.toml"
    file.write_text('[capabilities.filesystem]\npaths = ["data"]')
    assert load_policy(file) == parse_policy(file.read_text(), base=str(tmp_path))


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "aegis.toml"
    file.write_text("[limits]\nfuel = 0")
    with pytest.raises(PolicyError) as caught:
        load_policy(str(file))
    assert str(caught.value) == f"{file}:2: {ZERO}"


@pytest.mark.parametrize(
    ("data", "diagnostic"),
    [
        (b"a = 1\nb = '\xff'", ":2: is not UTF-8 text"),
        (b"#" * ((1 << 20) + 1), ": is larger than 1 MiB, the maximum for a policy file"),
        (None, ": cannot be read: no such file or directory: name a policy file"),
    ],
)
def test_a_file_that_is_no_policy(tmp_path: Path, data: bytes | None, diagnostic: str) -> None:
    file = tmp_path / "aegis.toml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(PolicyError) as caught:
        load_policy(file)
    assert str(caught.value) == f"{file}{diagnostic}"


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Editors on Windows write one; a file in UTF-16 is not UTF-8."""
    path = tmp_path / "aegis.toml"
    path.write_bytes(b"\xef\xbb\xbf[limits]\nfuel = 1000\n")
    assert load_policy(path).limits.fuel == 1000
    path.write_bytes("[limits]\n".encode("utf-16"))
    with pytest.raises(PolicyError, match="is not UTF-8 text"):
        load_policy(path)
