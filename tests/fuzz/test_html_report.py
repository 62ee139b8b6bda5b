"""The HTML report as a browser sees it: Chromium reads the page, and a script of the test measures its layout.

The tests are skipped on a machine without Chromium. The page itself has no script: the one of the test is appended to
a copy, whose policy allows it.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.fuzz.plan import CampaignPlan, CampaignResult
from aegis.fuzz.report import to_data
from aegis.fuzz.report_html import to_html
from aegis.fuzz.report_plots import _Axis, lines, scatter
from aegis.policy import Policy
from tests.cli.command import COMMAND, SECONDS
from tests.cli.command import aegis as command

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in PATH")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=document.title='taken'>\u202e\x1b[31m&amp;"
MEASURE = """<script>
const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom].map(Math.round); };
const all = (q, e = document) => [...e.querySelectorAll(q)];
document.body.textContent = JSON.stringify({
  title: document.title, width: document.documentElement.scrollWidth, window: innerWidth,
  links: all('a').map(a => a.getAttribute('href')), scripts: all('script').length, images: all('img').length,
  headings: all('h2').map(h => h.textContent), cells: all('tbody tr').map(r => all('td', r).map(c => c.innerText)),
  findings: all('.finding').map(f => [f.querySelector('h3').textContent, all('details pre', f).length]),
  plots: all('svg').map(s => ({ box: box(s), ticks: all('.tick', s).map(t => [t.textContent, box(t)]),
    points: all('circle', s).map(box), lines: all('polyline', s).length,
    names: all('.name', s).map(n => n.textContent) })),
  commands: all('pre').map(p => p.textContent),
});
</script>"""


def _browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    line = [CHROMIUM, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)


def _measured(folder: Path, page: str) -> Any:
    """Return the measurements of the test's script in a copy of the page that allows scripts."""
    copy = folder / "measured.html"
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert len(policy.findall(page)) == 1
    copy.write_text(policy.sub("", page).replace("</body>", f"{MEASURE}</body>"))
    done = _browse(copy, "--window-size=1100,2000", "--dump-dom")
    found = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout
    return json.loads(html.unescape(found[1]))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a campaign with several exports, findings of one cause, and more than one chunk."""
    folder = tmp_path_factory.mktemp("html")
    (folder / "guest.wat").write_text(
        """(module
        (func $check (param i32) (if (i32.eq (i32.and (local.get 0) (i32.const 15)) (i32.const 7)) (then unreachable)))
        (func (export "one") (param i32) (call $check (local.get 0)))
        (func (export "two") (param i32) (call $check (i32.add (local.get 0) (i32.const 1))))
        (func (export "never") unreachable)
        (func (export "long") (param $n i32) (local $i i32)
          (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.and (local.get $n) (i32.const 0xffff)))))))"""
    )
    words = ("--runs", "3000", "--jobs", "1", "--out", str(folder / "out"))
    assert command("fuzz", str(folder / "guest.wat"), *words).code == 1
    return folder / "out"


@needs_browser
def test_a_browser_shows_the_whole_report(campaign: Path) -> None:
    report = json.loads((campaign / "report.json").read_text())
    seen = _measured(campaign, (campaign / "report.html").read_text())
    assert seen["width"] <= seen["window"]
    assert seen["headings"][:4] == ["Findings", "Exports", "Fuel by input size", "Behaviours over time"]
    rows = {cells[0].split("\n")[0]: [int(cell.replace(",", "")) for cell in cells[1:6]] for cells in seen["cells"]}
    expected = {
        row["name"]: [row[kind] for kind in ("called", "ok", "error", "trap", "limit")] for row in report["exports"]
    }
    assert rows == expected
    (warned,) = (cells[0] for cells in seen["cells"] if "never ok" in cells[0])
    assert warned.startswith("never\n")
    assert len(seen["findings"]) == len(report["groups"]) < len(report["findings"])
    assert [name for name, _ in seen["findings"]] == [f"{g['oracle']}: {g['cause']}" for g in report["groups"]]
    assert all(finding["command"] in seen["commands"] for finding in report["findings"])
    assert seen["scripts"] == 1


@needs_browser
def test_every_link_of_the_report_leads_to_a_file(campaign: Path) -> None:
    links = _measured(campaign, (campaign / "report.html").read_text())["links"]
    assert len(links) == 1 + 2 * len(json.loads((campaign / "report.json").read_text())["findings"])
    assert all((campaign / link).is_file() for link in links)


@needs_browser
def test_the_axes_have_numbers_that_do_not_touch_and_points_lie_within(campaign: Path) -> None:
    for plot in _measured(campaign, (campaign / "report.html").read_text())["plots"]:
        assert len(plot["ticks"]) >= 6
        assert len(plot["names"]) == 2
        boxes = [box for _, box in plot["ticks"]]
        assert not any(_overlap(a, b) for n, a in enumerate(boxes) for b in boxes[:n])
        left, top, right, bottom = plot["box"]
        for one in (*boxes, *plot["points"]):
            assert left <= one[0] <= one[2] <= right
            assert top <= one[1] <= one[3] <= bottom
        assert plot["points"] or plot["lines"]


def _overlap(one: list[int], two: list[int]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _result(**changes: Any) -> CampaignResult:
    plan = CampaignPlan(data=b"", name=changes.pop("name", "guest.wasm"), policy=Policy())
    finding = {
        "oracle": "no-trap", "signature": "s", "text": HOSTILE, "steps": [[HOSTILE, [HOSTILE]]], "answers": [1],
        "answered": [HOSTILE], "frames": [HOSTILE], "cause": HOSTILE, "key": "k",
    }  # fmt: skip
    return CampaignResult(
        plan=plan, findings={"s": finding}, calls={HOSTILE: {"trap": 3}}, line=[(1.0, 5, 3), (2.0, 9, 4)],
        points=[(HOSTILE, 3, 100), ("g", 9, 5000)], **changes,
    )  # fmt: skip


@needs_browser
def test_names_and_values_of_a_guest_are_text_in_the_browser(tmp_path: Path) -> None:
    result = _result(name=f"{HOSTILE}.wasm")
    page = to_html(to_data(result, "module", {HOSTILE: HOSTILE}), result, HOSTILE)
    seen = _measured(tmp_path, page)
    assert "taken" in seen["title"]  # as text of the page's title, not set by a script
    assert seen["title"].startswith("aegis fuzz <script>")
    assert (seen["scripts"], seen["images"]) == (1, 0)


@needs_browser
def test_coverage_over_time_is_a_plot_only_if_there_is_coverage(tmp_path: Path) -> None:
    without, covered = _result(), _result(edges=[(1.0, 10), (2.0, 30)])
    pages = [to_html(to_data(result, "module", {}), result) for result in (without, covered)]
    seen = [_measured(tmp_path, page) for page in pages]
    assert [len(one["plots"]) for one in seen] == [2, 3]
    assert "Coverage over time" in seen[1]["headings"]


@needs_browser
def test_a_screenshot_of_the_report_has_many_colours(campaign: Path) -> None:
    """A page that is blank, or one message, has few."""
    picture = campaign / "picture.png"
    _browse(campaign / "report.html", "--window-size=1100,2000", f"--screenshot={picture}")
    width, height, rows = _pixels(picture.read_bytes())
    assert (width, height) == (1100, 2000)
    assert len({row[n : n + 3] for row in rows[::5] for n in range(0, len(row) - 3, 30)}) > 20


def _pixels(data: bytes) -> tuple[int, int, list[bytes]]:
    """Return width, height and the compressed rows of a PNG, without undoing their filters."""
    at, body, width, height = 8, b"", 0, 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[at + 8 : at + 16])
        if kind == b"IDAT":
            body += data[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(body)
    size = len(raw) // height
    return width, height, [raw[n * size + 1 : (n + 1) * size] for n in range(height)]


# -- without a browser ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=20), st.booleans())
def test_ticks_are_few_lie_on_the_axis_and_ascend(values: list[float], logarithmic: bool) -> None:
    axis = _Axis(values, 80, 700, logarithmic=logarithmic)
    ticks = axis.ticks()
    assert len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert all(79 <= axis.at(tick) <= 701 for tick in ticks)
    assert all(79 <= axis.at(value) <= 701 for value in values)


@pytest.mark.parametrize("most", [1, 2, 9, 10, 11, 99, 100, 101, 12_345, 10**9, 10**15])
def test_an_axis_of_any_length_has_several_ticks(most: int) -> None:
    for logarithmic in (False, True):
        assert len(_Axis([0, most], 80, 700, logarithmic=logarithmic).ticks()) >= 2
    assert len(_Axis([most, most * 3], 80, 700, logarithmic=True).ticks()) >= 1


def test_a_plot_without_points_says_so() -> None:
    assert scatter([], "size", "fuel") == lines([("a", [])], "b") == "<p>No calls.</p>"


def test_the_command_to_continue_has_the_options_on_which_the_results_depend(tmp_path: Path) -> None:
    """Oracle: the shell runs the command of the page, which adds to the campaign."""
    (tmp_path / "a guest.wat").write_text('(module (func (export "f") (param i32)) (func (export "g")))')
    (tmp_path / "words.dict").write_text('"magic"\n')
    words = [
        "--invoke", "f", "--oracle", "no-trap", "--hostile-host", "--no-buffers", "--memory-limit", "1MiB",
        "--dict", "words.dict", "--example", "f(1)", "--seed", "7", "--jobs", "1", "--runs", "50", "--out", "my out",
    ]  # fmt: skip
    assert command("fuzz", "a guest.wat", *words, cwd=tmp_path).code == 0
    page = (tmp_path / "my out" / "report.html").read_text()
    found = re.search(r"<pre>(aegis fuzz --continue .*)</pre>", page)
    assert found is not None
    line = html.unescape(found[1])
    assert line.startswith("aegis fuzz --continue 'my out' --invoke=f --oracle=no-trap --hostile-host ")
    program = f'aegis() {{ {shlex.join(COMMAND)} "$@"; }}\n{line} --jobs 1 --runs 30\n'
    subprocess.run(["sh", "-c", program], capture_output=True, timeout=SECONDS, check=True, cwd=tmp_path)
    report = json.loads((tmp_path / "my out" / "report.json").read_text())
    assert (report["cases"], report["seed"]) == (80, 7)
