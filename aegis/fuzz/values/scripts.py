"""Texts of all scripts, in all normal forms and cases.

Programs assume that a character has one code point, that a change of case or normal form keeps the length, or that a
space is U+0020. The characters here break such assumptions.
"""

from __future__ import annotations

import unicodedata
from random import Random
from typing import Literal

from aegis.fuzz.values.draws import drawn

__all__ = ["EXPANDING", "character", "renormalised", "script_text"]

_SCRIPTS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0x20, 0x7E),),  # ASCII
    ((0xA0, 0xFF), (0x61, 0x7A)),  # Latin-1
    ((0x100, 0x24F), (0x1E00, 0x1EFF)),  # Latin extended
    ((0x250, 0x2AF), (0x1D00, 0x1DBF)),  # phonetic
    ((0x370, 0x373), (0x391, 0x3A1), (0x3A3, 0x3FF), (0x1F00, 0x1F15)),  # Greek
    ((0x400, 0x4FF),),  # Cyrillic
    ((0x531, 0x556), (0x561, 0x587)),  # Armenian
    ((0x5D0, 0x5EA), (0x591, 0x5BD), (0xFB1D, 0xFB36)),  # Hebrew, with points
    ((0x620, 0x669), (0xFB50, 0xFBB1), (0xFDF0, 0xFDFC)),  # Arabic, with ligatures and digits
    ((0x905, 0x939), (0x93C, 0x94D), (0x958, 0x96F)),  # Devanagari
    ((0x985, 0x9B9), (0x9BC, 0x9CD)),  # Bengali
    ((0xE01, 0xE3A), (0xE40, 0xE59)),  # Thai
    ((0xF40, 0xF6C), (0xF71, 0xF84)),  # Tibetan
    ((0x10A0, 0x10C5), (0x10D0, 0x10FA), (0x1C90, 0x1CBA)),  # Georgian
    ((0x1100, 0x11FF),),  # Hangul Jamo
    ((0xAC00, 0xD7A3),),  # Hangul syllables
    ((0x3041, 0x3096), (0x30A1, 0x30FA), (0xFF61, 0xFF9F)),  # Kana, with half-width forms
    ((0x4E00, 0x9FFF),),  # Han
    ((0x20000, 0x2A6DF),),  # Han, beyond the basic plane
    ((0x13A0, 0x13F5), (0xAB70, 0xABBF)),  # Cherokee, whose lower case came later
    ((0x10400, 0x1044F),),  # Deseret: letters with case beyond the basic plane
    ((0x1D400, 0x1D454), (0x1D7CE, 0x1D7FF)),  # mathematical letters and digits
    ((0x1F300, 0x1F64F), (0x200D, 0x200D), (0xFE0F, 0xFE0F), (0x1F3FB, 0x1F3FF)),  # emoji and what joins them
    ((0x1F1E6, 0x1F1FF),),  # flags
    ((0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x2064), (0x3000, 0x3000), (0xA0, 0xA0), (0x1680, 0x1680)),  # spaces
    ((0x300, 0x36F), (0x20D0, 0x20F0), (0x61, 0x7A)),  # combining marks
    ((0x660, 0x669), (0x6F0, 0x6F9), (0x966, 0x96F), (0xFF10, 0xFF19), (0x2150, 0x2189), (0x2460, 0x249B)),  # digits
    ((0xFF01, 0xFF5E),),  # full-width forms
    ((0xE000, 0xE0FF), (0xF0000, 0xF00FF), (0xE0020, 0xE007F)),  # private use and tags
)

EXPANDING = (
    "\ufdfa", "\ufdfb", "\u0390", "\u03b0", "\u1fb7", "\ufb03", "\ufb04", "\u0149", "\u01f0", "\u1e9e", "\xdf",
    "\u0130",
    "\u0587", "\ufb2c", "\u0958", "\u0344", "\u0385", "\uac01", "\ud4db", "\u3300", "\u3316", "\u337f", "\xbd",
    "\u2474",
    "\u249c", "\u2152", "\U0001d160", "\U0001d15e", "\U0001f240", "\u023a", "\u023e", "\u212a", "\u212b", "\u2126",
    "\u1e9b\u0323", "\u0345", "\u0e33", "\u0f77", "\uff9e", "\U0001109a", "\u0387", "\u1fee",
)  # fmt: skip
"""Characters that become more or other characters, or other numbers of bytes, in another normal form or case."""

_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def character(rng: Random) -> str:
    """Return a character of a random script."""
    ranges = _SCRIPTS[int(rng.random() * len(_SCRIPTS))]
    low, high = ranges[int(rng.random() * len(ranges))]
    return chr(low + int(rng.random() * (high - low + 1)))


def script_text(rng: Random, length: int) -> str:
    """Return a text of about ``length`` characters of one script, two, or those of :data:`EXPANDING`."""
    draw = rng.random
    chance = draw()
    if chance < 0.3:
        few = [EXPANDING[int(draw() * len(EXPANDING))] for _ in range(1 + int(draw() ** 2 * 4))]
        text = "".join(drawn(rng, few, length))
    else:
        alphabet: list[str] = []
        for _ in range(1 if chance < 0.75 else 2):
            ranges = _SCRIPTS[int(draw() * len(_SCRIPTS))]
            for _ in range(min(12, max(1, length))):
                low, high = ranges[int(draw() * len(ranges))]
                alphabet.append(chr(low + int(draw() * (high - low + 1))))
        if draw() < 0.15:
            alphabet.append(EXPANDING[int(draw() * len(EXPANDING))])
        text = "".join(drawn(rng, alphabet, length))
    return renormalised(rng, text)[:length] if rng.random() < 0.25 else text


def renormalised(rng: Random, text: str) -> str:
    """Return the text in another normal form or case."""
    chance = rng.random()
    if chance < 0.6:
        return unicodedata.normalize(_FORMS[int(rng.random() * 4)], text)
    if chance < 0.75:
        return text.upper()
    if chance < 0.9:
        return text.lower()
    return text.title() if chance < 0.95 else text.casefold()
