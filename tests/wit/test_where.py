"""The position of an item in WIT text."""

from __future__ import annotations

import pytest

from aegis.wit.positions import locate

TEXT = """package a:b@1.0.0;
/* interface i { f: func(); } */
interface j { f: func(); }
interface i { // f: func()
  %f: func(f: u8);
  g-f: func();
  record r { g: u8 }
  resource s {
    g: func();
    constructor(g: u8);
  }
  g: func(f: r);
}
world w {
  export run: func();
  import inline: interface { h: func(); }
}
"""


@pytest.mark.parametrize(
    ("owner", "item", "place"),
    [
        ("a:b/i@1.0.0", "f", (5, 3)),
        ("a:b/j@1.0.0", "f", (3, 15)),
        ("a:b/i@1.0.0", "g-f", (6, 3)),
        ("a:b/i@1.0.0", "r", (7, 3)),
        ("a:b/i@1.0.0", "[method]s.g", (9, 5)),
        ("a:b/i@1.0.0", "[constructor]s", (10, 5)),
        ("a:b/w@1.0.0", "run", (15, 10)),
        ("inline", "h", (16, 30)),
        ("a:b/i@1.0.0", "missing", None),
        ("a:b/k@1.0.0", "f", None),
    ],
)
def test_an_item_is_found_where_it_is_written(owner: str, item: str, place: tuple[int, int] | None) -> None:
    assert locate(TEXT, owner, item) == place
