"""The report of a campaign as one self-contained HTML page: no script, and nothing that a browser would load."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from aegis.fuzz.plan import CampaignResult
from aegis.fuzz.portable import format_step
from aegis.fuzz.report import closing, new_findings
from aegis.fuzz.report_plots import lines, scatter
from aegis.fuzz.reproduce import file_name
from aegis.text import count, visible

__all__ = ["to_html"]

_MAX_PLOT_POINTS = 4000
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b1f24; --back: #fff; --soft: #f4f5f7; --line: #d5d9df; --bad: #b3261e; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e3e6ea; --back: #14171a; --soft: #22262b; --line: #3b4148; --bad: #f2857d; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: var(--ink); background: var(--back); }}
h1 {{ overflow-wrap: anywhere; }} h2 {{ margin-top: 2.5rem; border-bottom: 1px solid var(--line); }}
pre {{ background: var(--soft); padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 4px; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.name {{ overflow-wrap: anywhere; }} .warning {{ color: var(--bad); }}
.bar {{ display: flex; height: .8rem; min-width: 9rem; border-radius: 2px; overflow: hidden; background: var(--soft); }}
.ok {{ background: #2ca02c; }} .error {{ background: #e0a526; }} .trap {{ background: #c0392b; }}
.limit {{ background: #9467bd; }} .swatch {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; }}
svg {{ width: 100%; height: auto; max-width: 50rem; }}
svg .grid {{ stroke: var(--line); stroke-width: .7; }} svg .axes {{ stroke: var(--ink); fill: none; }}
svg text {{ font: 12px system-ui, sans-serif; fill: var(--ink); }}
.legend .key {{ margin-right: 1rem; overflow-wrap: anywhere; }}
.finding {{ border-left: 4px solid var(--bad); padding-left: 1rem; margin: 1.5rem 0; }}
.finding.known {{ border-left-color: var(--line); }} .finding h3 {{ margin: 0; overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<p>{links}</p>
<h2 id="findings">Findings</h2>
{findings}
<h2 id="exports">Exports</h2>
{exports}
<h2 id="fuel">Fuel by input size</h2>
{fuel}
<h2 id="time">Behaviours over time</h2>
{time}
{edges}
{command}
</body></html>
"""


def to_html(data: Mapping[str, Any], result: CampaignResult, command: str = "") -> str:
    """Return the report as one HTML page with inline SVG plots; ``command`` continues the campaign."""
    seen = [(at, float(behaviours)) for at, _, behaviours in result.line]
    edges = [(at, float(number)) for at, number in result.edges]
    return _PAGE.format(
        title=_html(f"aegis fuzz {data['artifact']}"), summary="<br>".join(map(_html, closing(data))),
        links=_links(data), findings=_groups(data) or "<p>No findings.</p>", exports=_exports(data["exports"]),
        fuel=scatter(result.points[-_MAX_PLOT_POINTS:], "size", "fuel"),
        time=lines([("behaviours", seen)], "distinct behaviours"),
        edges=f'<h2 id="coverage">Coverage over time</h2>{lines([("edges", edges)], "covered edges")}' if edges else "",
        command=f'<h2 id="continue">Continue this campaign</h2><pre>{_html(command)}</pre>' if command else "",
    )  # fmt: skip


def _links(data: Mapping[str, Any]) -> str:
    new, causes = new_findings(data), len(data["groups"])
    text = f"{count(new, 'new finding')} of {count(causes, 'cause')}" if data["findings"] else "no findings"
    return f'{text}: <a href="report.json">report.json</a> has all of this page, and more cases'


def _groups(data: Mapping[str, Any]) -> str:
    by_signature = {finding["signature"]: finding for finding in data["findings"]}
    return "".join(_group(group, [by_signature[name] for name in group["signatures"]]) for group in data["groups"])


def _group(group: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> str:
    first, *others = sorted(findings, key=lambda finding: finding["known"])
    known = " known" if first["known"] else ""
    exports = "".join(f"<li>{_html(name)}</li>" for name in group["exports"])
    more = "".join(map(_case, others))
    return (
        f'<section class="finding{known}"><h3>{_html(group["oracle"])}{": " if group["cause"] else ""}'
        f"{_html(group['cause'])}{' (in the baseline)' if known else ''}</h3>{_case(first)}"
        + (f"<p>Exports with this cause:</p><ul>{exports}</ul>" if len(group["exports"]) > 1 else "")
        + (f"<details><summary>{count(len(others), 'more case')}</summary>{more}</details>" if others else "")
        + "</section>"
    )


def _case(finding: Mapping[str, Any]) -> str:
    calls = "\n".join(_html(format_step(step)) for step in finding["steps"])
    answers = "\n".join(map(_html, finding["answered"])) if any(finding["answers"]) else ""
    frames = "\n".join(map(_html, finding["frames"]))
    name = quote(file_name(finding))
    return (
        f"<p>{_html(finding['text'])}</p><pre>{calls}</pre><pre>{_html(finding['command'])}</pre>"
        f"{f'<p>Answers of the import stubs:</p><pre>{answers}</pre>' if answers else ''}"
        f"{f'<pre>{frames}</pre>' if frames else ''}"
        f'<p><a href="{name}.json">case as JSON</a>, <a href="test_{name}.py">test for pytest</a></p>'
    )


def _exports(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No calls.</p>"
    kinds = ("ok", "error", "trap", "limit")
    head = "".join(f'<th class="number">{kind}</th>' for kind in ("called", *kinds))
    body = "".join(
        f'<tr><td class="name">{_html(row["name"])}'
        f'{"<br>" if row["warning"] else ""}<span class="warning">{_html(row["warning"])}</span></td>'
        + "".join(f'<td class="number">{row[kind]:,}</td>' for kind in ("called", *kinds))
        + f"<td>{_bar(row, kinds)}</td></tr>"
        for row in rows
    )
    legend = " ".join(f'<span class="key"><span class="swatch {kind}"></span> {kind}</span>' for kind in kinds)
    return (
        f'<div class="wide"><table><thead><tr><th>export</th>{head}<th>share</th></tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="legend">{legend}</p>'
    )


def _bar(row: Mapping[str, Any], kinds: Sequence[str]) -> str:
    parts = "".join(
        f'<div class="{kind}" style="width:{row[kind] / row["called"] * 100:.2f}%"></div>'
        for kind in kinds
        if row[kind]
    )
    return f'<div class="bar">{parts}</div>'


def _html(text: str) -> str:
    """Escape one line of text for HTML, including control and bidirectional characters."""
    return html.escape(visible(text))
