"""How Sphinx builds this folder; ``scripts/docs`` calls it. Every warning is an error there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Punctuation, Text
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aegis import __version__  # noqa: E402 - found by the line above
from scripts import reference  # noqa: E402

project = "Aegis"
author = "The Aegis authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py"]
myst_heading_anchors = 4  # the anchors that repository hosts give to headings
nitpicky = False  # docstrings name private classes in annotations, which have no page
myst_url_schemes = {"http": None, "https": None}

smartquotes = False  # `--option` in a table is no dash

html_theme = "furo"
html_title = f"Aegis {__version__}"
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"


class WitLexer(RegexLexer):
    """The words of WIT, which Pygments does not know."""

    name = "WIT"
    aliases = ("wit",)
    tokens = {  # noqa: RUF012 - as Pygments has it
        "root": [
            (r"//.*", Comment.Single),
            (
                r"\b(package|interface|world|import|export|use|include|func|resource|variant|record|enum|flags|type)\b",
                Keyword,
            ),
            (r"\b(bool|[su](8|16|32|64)|f32|f64|char|string|list|option|result|tuple|own|borrow)\b", Keyword.Type),
            (r"[a-z%][a-z0-9-]*", Text),
            (r"[{}()<>:;,.@=*/-]", Punctuation),
            (r"[\s\w]+", Text),
        ]
    }


SECURITY = re.compile(r"\]\((?:\.\./)+\.github/SECURITY\.md")
"""A link to the security policy, which lies where repository hosts look for it: outside of this folder."""


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the tables of a page from the code; the page ``security`` is the security policy itself."""
    if page == "security":
        text = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
        source[0] = text.replace("](../docs/", "](")
    up = "../" * page.count("/")
    source[0] = SECURITY.sub(f"]({up}security.md", reference.filled(source[0]))


def setup(app: Sphinx) -> None:
    """Register :func:`fill` and the words of WIT."""
    app.connect("source-read", fill)
    app.add_lexer("wit", WitLexer)
