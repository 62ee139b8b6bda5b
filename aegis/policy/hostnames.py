"""Host names in the one form in which they are compared, resolved and verified: ASCII, lower case, no trailing dot.

A label in other characters becomes an A-label by IDNA 2008 (RFC 5891, 5892), once its case and width are mapped as
UTS 46 does. The codec of the standard library is of IDNA 2003, which turns ``ß`` into ``ss`` and drops
invisible characters, so that a pattern would name another host. A label that the two read differently is rejected; the
error gives the A-label to write instead.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["HostNameError", "ascii_form", "checked_name"]

_MOST_CHARACTERS = 1000
_MOST_NAME, _MOST_LABEL = 253, 63
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490, 3.1
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_PREFIX = "xn--"
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")
"""Sharp s, final sigma and the joiners: letters of their own in IDNA 2008, mapped or dropped in IDNA 2003."""
_LETTERS = frozenset(("Ll", "Lu", "Lo", "Lm", "Nd", "Mn", "Mc"))
_NOT_IN_NAMES = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"))
_DISALLOWED = frozenset("\u0640\u07fa\u302e\u302f\u3031\u3032\u3033\u3034\u3035\u303b")  # RFC 5892, 2.6
_JAMO = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")  # RFC 5892, 2.9
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


class HostNameError(ValueError):
    """The text is no host name. The message continues a sentence that begins with the text."""


def ascii_form(text: str) -> str:
    """Return text in the form of a host name, without one trailing dot; raise ``HostNameError`` if it has none.

    That it is one, :func:`checked_name` tells: an IP address in full-width digits has this form too.
    """
    if len(text) > _MOST_CHARACTERS:
        raise HostNameError(f"is longer than {_MOST_NAME} characters, which no host name is")
    if text.isascii():
        return text.lower().removesuffix(".")
    labels = _DOTS.split(text)
    return ".".join([_ascii_label(label, n, labels) for n, label in enumerate(labels)]).removesuffix(".")


def checked_name(text: str) -> str:
    """Return a host name in its ASCII form; raise ``HostNameError`` if the text is none."""
    name = ascii_form(text)
    if len(name) > _MOST_NAME:
        raise HostNameError(f"is longer than {_MOST_NAME} characters, which no host name is")
    for label in name.split("."):
        _check(label)
    return name


def _check(label: str) -> None:
    if not label:
        raise HostNameError("has an empty label; write one dot between two labels")
    if len(label) > _MOST_LABEL:
        raise HostNameError(f"has a label of more than {_MOST_LABEL} characters")
    strange = next((character for character in label if character not in _LABEL), None)
    if strange is not None:
        raise HostNameError(f"has {_shown(strange)}, which no host name has")
    if label.startswith(_PREFIX) and not _is_a_label(label):
        raise HostNameError(f"has a label that begins with {_PREFIX} and encodes no name")
    if label.startswith("-") or label.endswith("-"):
        raise HostNameError("has a label that begins or ends with '-'")


def _is_a_label(label: str) -> bool:
    """Tell whether a label encodes characters of a name, in the one way in which they are encoded.

    It may encode characters that :func:`_ascii_label` rejects as ambiguous: this spelling is not ambiguous.
    """
    encoded = label[len(_PREFIX) :].encode("ascii")
    try:
        decoded = encoded.decode("punycode")
        again = decoded.encode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return False
    plain = "".join(character for character in decoded if character not in _DEVIATIONS)
    hidden = any(unicodedata.category(c) in _NOT_IN_NAMES or _INVISIBLE.match(c) for c in plain)
    return not decoded.isascii() and again == encoded and _mapped(plain) == plain and not hidden


# -- labels in other characters ------------------------------------------------------------------------


def _ascii_label(label: str, place: int, labels: list[str]) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > _MOST_LABEL:
        raise HostNameError(f"has a label of more than {_MOST_LABEL} characters")
    mapped = _mapped(label)
    meant = f"write {_name_with(label, place, labels)} if that name is meant"
    for character in label:
        if character in _DEVIATIONS:
            raise HostNameError(f"has {_shown(character)}, which IDNA 2003 and 2008 read differently; {meant}")
        if unicodedata.category(character) == "Cf" or _INVISIBLE.match(character):
            raise HostNameError(f"has {_shown(character)}, which cannot be seen; leave it out")
    if _by_idna_2003(label) not in (None, mapped):
        raise HostNameError(f"is read differently by IDNA 2003 and 2008; {meant}")
    if mapped.isascii():
        if "." in mapped:
            raise HostNameError("has a character that stands for a dot; write the dot")
        return mapped
    _check_characters(mapped, meant)
    return _encoded(mapped)


def _check_characters(mapped: str, meant: str) -> None:
    """Raise ``HostNameError`` unless a label, once mapped, is one by IDNA 2008 without regard to its context."""
    for character in mapped:
        if not (character.isascii() and character in _LABEL) and not _is_letter(character):
            raise HostNameError(f"has {_shown(character)}, which is no letter, digit or mark; {meant}")
    if unicodedata.category(mapped[0]).startswith("M"):
        raise HostNameError("has a label that begins with a combining mark")
    if mapped[2:4] == "--":
        raise HostNameError("has a label with '--' in third place that is not in ASCII")


def _is_letter(character: str) -> bool:
    """Tell whether a character is PVALID (RFC 5892, 3), the exceptions that are punctuation left out."""
    if character in _DISALLOWED or _JAMO.match(character):
        return False
    return unicodedata.category(character) in _LETTERS and _mapped(character) == character


def _mapped(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())


def _by_idna_2003(label: str) -> str | None:
    """Return what IDNA 2003 maps a label to, by the tables of Unicode 3.2; ``None`` for one that it rejects."""
    from encodings.idna import nameprep  # only names that are not in ASCII need it

    try:
        return nameprep(label)
    except UnicodeError:
        return None


def _name_with(label: str, place: int, labels: list[str]) -> str:
    """Return the name with one label encoded as it is, but for its case."""
    lower = unicodedata.normalize("NFC", label.lower())
    return ".".join([*labels[:place], _encoded(lower), *labels[place + 1 :]])


def _encoded(label: str) -> str:
    return _PREFIX + label.encode("punycode").decode("ascii")


def _shown(character: str) -> str:
    plain = character.isprintable() and not unicodedata.category(character).startswith("M")
    return f"{character!r}" if plain and character.isascii() else f"U+{ord(character):04X}"
