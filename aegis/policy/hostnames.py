"""Normalise host names to the form in which they are compared, resolved and verified.

That form is ASCII, lower case, without a trailing dot. A label with other characters becomes an A-label by IDNA 2008
(RFC 5891, 5892), after mapping case and width as UTS 46 does. The codec of the standard library implements IDNA 2003,
which maps ``ß`` to ``ss`` and drops invisible characters, so a pattern could name a different host. A label that the
two versions map differently is rejected; the error contains the A-label to write instead.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["HostNameError", "ascii_form", "checked_name"]

_MAX_INPUT_CHARACTERS = 1000
_MAX_NAME_CHARACTERS, _MAX_LABEL_CHARACTERS = 253, 63  # RFC 1035, 2.3.4
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490, 3.1
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_PREFIX = "xn--"
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")
"""Sharp s, final sigma and the joiners: distinct characters in IDNA 2008, mapped or dropped in IDNA 2003."""
_LETTERS = frozenset(("Ll", "Lu", "Lo", "Lm", "Nd", "Mn", "Mc"))
_NOT_IN_NAMES = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"))
_DISALLOWED = frozenset("\u0640\u07fa\u302e\u302f\u3031\u3032\u3033\u3034\u3035\u303b")  # RFC 5892, 2.6
_JAMO = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")  # RFC 5892, 2.9
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


class HostNameError(ValueError):
    """The text is not a host name. The message is a predicate, such as ``has an empty label``."""


def ascii_form(text: str) -> str:
    """Return ``text`` in lower-case ASCII without one trailing dot; raise ``HostNameError`` if that is impossible.

    The result need not be a host name: an IP address in full-width digits passes. :func:`checked_name` checks that.
    """
    if len(text) > _MAX_INPUT_CHARACTERS:
        raise HostNameError(f"is longer than a host name can be ({len(text)}/{_MAX_NAME_CHARACTERS} characters)")
    if text.isascii():
        return text.lower().removesuffix(".")
    labels = _DOTS.split(text)
    return ".".join([_ascii_label(label, n, labels) for n, label in enumerate(labels)]).removesuffix(".")


def checked_name(text: str) -> str:
    """Return a host name in its ASCII form; raise ``HostNameError`` for text that is not a host name."""
    name = ascii_form(text)
    if len(name) > _MAX_NAME_CHARACTERS:
        raise HostNameError(f"is longer than a host name can be ({len(name)}/{_MAX_NAME_CHARACTERS} characters)")
    for label in name.split("."):
        _check(label)
    return name


def _check(label: str) -> None:
    if not label:
        raise HostNameError("has an empty label: write one dot between two labels")
    if len(label) > _MAX_LABEL_CHARACTERS:
        raise HostNameError(f"has a label of more than {_MAX_LABEL_CHARACTERS} characters")
    strange = next((character for character in label if character not in _LABEL), None)
    if strange is not None:
        raise HostNameError(f"contains {_shown(strange)}, which is not allowed in a host name")
    if label.startswith(_PREFIX) and not _is_a_label(label):
        raise HostNameError(f"has a label that begins with {_PREFIX} but is not valid IDNA")
    if label.startswith("-") or label.endswith("-"):
        raise HostNameError("has a label that begins or ends with '-'")


def _is_a_label(label: str) -> bool:
    """Return whether ``label`` is the unique Punycode encoding of allowed characters (RFC 5891, 5.4).

    Characters that :func:`_ascii_label` rejects as ambiguous are allowed, because an A-label is unambiguous.
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


# -- labels that are not ASCII -------------------------------------------------------------------------


def _ascii_label(label: str, place: int, labels: list[str]) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > _MAX_LABEL_CHARACTERS:
        raise HostNameError(f"has a label of more than {_MAX_LABEL_CHARACTERS} characters")
    mapped = _mapped(label)
    meant = f"write {_name_with(label, place, labels)} if that name is meant"
    for character in label:
        if character in _DEVIATIONS:
            raise HostNameError(f"contains {_shown(character)}, which IDNA 2003 and 2008 map differently: {meant}")
        if unicodedata.category(character) == "Cf" or _INVISIBLE.match(character):
            raise HostNameError(f"contains {_shown(character)}, which is invisible: remove it")
    if _by_idna_2003(label) not in (None, mapped):
        raise HostNameError(f"is mapped differently by IDNA 2003 and 2008: {meant}")
    if mapped.isascii():
        if "." in mapped:
            raise HostNameError("contains a character that maps to a dot: write the dot")
        return mapped
    _check_characters(mapped, meant)
    return _encoded(mapped)


def _check_characters(mapped: str, meant: str) -> None:
    """Raise ``HostNameError`` unless a mapped label is valid in IDNA 2008, not counting its contextual rules."""
    for character in mapped:
        if not (character.isascii() and character in _LABEL) and not _is_letter(character):
            raise HostNameError(f"contains {_shown(character)}, which is not a letter, digit or mark: {meant}")
    if unicodedata.category(mapped[0]).startswith("M"):
        raise HostNameError("has a label that begins with a combining mark")
    if mapped[2:4] == "--":
        raise HostNameError("has a label that is not ASCII and has '--' as its third and fourth characters")


def _is_letter(character: str) -> bool:
    """Return whether a character is PVALID (RFC 5892, 3), except for the punctuation among the exceptions."""
    if character in _DISALLOWED or _JAMO.match(character):
        return False
    return unicodedata.category(character) in _LETTERS and _mapped(character) == character


def _mapped(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())


def _by_idna_2003(label: str) -> str | None:
    """Return a label as IDNA 2003 maps it with the tables of Unicode 3.2, or ``None`` if IDNA 2003 rejects it."""
    from encodings.idna import nameprep  # only names that are not ASCII need it

    try:
        return nameprep(label)
    except UnicodeError:
        return None


def _name_with(label: str, place: int, labels: list[str]) -> str:
    """Return the whole name with one label encoded unmapped, except for its case."""
    lower = unicodedata.normalize("NFC", label.lower())
    return ".".join([*labels[:place], _encoded(lower), *labels[place + 1 :]])


def _encoded(label: str) -> str:
    return _PREFIX + label.encode("punycode").decode("ascii")


def _shown(character: str) -> str:
    plain = character.isprintable() and not unicodedata.category(character).startswith("M")
    return f"{character!r}" if plain and character.isascii() else f"U+{ord(character):04X}"
