"""WebAssembly text of the functions that copy strings between two memories, for all nine pairs of encodings.

Each function takes an address ``$at`` and a length ``$n`` in code units of the source, tagged in ``latin1+utf16``, and
returns the address and length of the copy. The order and sizes of the reallocs are those of CanonicalABI.md, "Storing"
(``store_string_into_range``), because the guest observes them. If source and target both use UTF-8, or both UTF-16, the
function validates all bytes first and copies them with one ``memory.copy``; ASCII is validated 16 bytes at a time.

Locals of these functions: ``$to`` is the address of the copy, ``$size`` its bytes, ``$worst`` the bytes allocated for
the worst case, ``$done`` the code units already copied.
"""

from __future__ import annotations

from aegis.component.shims.adapter_module import AdapterModule, AdapterSide

__all__ = ["text_helper"]

_MAX_STRING_BYTES = (1 << 31) - 1
_TAG = 1 << 31
_UNIT_BYTES = {"utf8": 1, "utf16": 2, "latin1": 1}
_MAX_UTF8_BYTES = {"utf8": 1, "utf16": 3, "latin1": 2}
"""Bytes of UTF-8 that one code unit of the source can become."""


def text_helper(module: AdapterModule, source: AdapterSide, target: AdapterSide) -> str:
    """Return the name of the function that copies a string from the source side to the target side."""
    key = ("text", source, target)
    return module.function(key, lambda name: _Strings(module, source, target).write(name))


class _Strings:
    """Writes the functions that copy strings between one pair of sides."""

    def __init__(self, module: AdapterModule, source: AdapterSide, target: AdapterSide) -> None:
        self.module, self.source, self.target = module, source, target
        self.read, self.write_to = module.memory(source), module.memory(target)

    def write(self, name: str) -> None:
        """Write the copying function of the pair, and the helper functions that it calls."""
        encoding = self.source.options.encoding
        if encoding != "latin1+utf16":
            self._copy(name, encoding, encoding)
            return
        # The tag, bit 31 of the length, marks UTF-16: such a length is negative as a signed integer.
        wide, narrow = f"{name}.utf16", f"{name}.latin1"
        self._copy(wide, "utf16", "compact")
        self._copy(narrow, "latin1", "latin1")
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (result i32 i32)",
            "(i32.lt_s (local.get $n) (i32.const 0)) if (result i32 i32)",
            f"(call {wide} (local.get $at) (i32.and (local.get $n) (i32.const {_TAG - 1})))",
            "else", f"(call {narrow} (local.get $at) (local.get $n))", "end)",
        )  # fmt: skip

    def _define(self, *lines: str) -> None:
        self.module.spend(len(lines))
        self.module.define(*lines)

    def _copy(self, name: str, source: str, kind: str) -> None:
        """Write the function for strings in the encoding ``source``.

        ``kind`` is ``compact`` for UTF-16 in a ``latin1+utf16`` source, which chose UTF-16 for this one string.
        """
        wanted = self.target.options.encoding
        unit = _UNIT_BYTES[source]
        lines = []
        # The checks of ``load_string_from_range``: byte length, alignment, bounds. UTF-16 is aligned to 2 bytes, and so
        # is Latin-1 where the source could also have used UTF-16.
        if source == "utf16":
            most = f"(i32.gt_u (local.get $n) (i32.const {_MAX_STRING_BYTES // 2}))"
            lines.append(f"{most} if {self.module.trap('too long')} end")
        if unit == 2 or self.source.options.encoding == "latin1+utf16":
            lines.append(f"(i32.and (local.get $at) (i32.const 1)) if {self.module.trap('pointer')} end")
        size = f"(i64.mul (i64.extend_i32_u (local.get $n)) (i64.const {unit}))"
        lines.append(f"(call {self.module.need(self.read)} (i64.add (i64.extend_i32_u (local.get $at)) {size}))")
        if wanted == "utf8":
            lines += self._to_utf8(source)
        elif wanted == "utf16":
            lines += self._to_utf16(source)
        elif source == "latin1":
            lines += [self._allocate(2, "(local.get $n)"), self._move("(local.get $n)"), *_pair("(local.get $n)")]
        elif kind == "compact":
            lines += self._deflated()
        else:
            lines += self._to_compact(source)
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (result i32 i32)",
            "(local $to i32) (local $size i32) (local $worst i32) (local $done i32)", *lines, ")",
        )  # fmt: skip

    # -- encodings of the target ------------------------------------------------------------------

    def _to_utf8(self, source: str) -> list[str]:
        """Store as UTF-8 (``store_string_copy``, ``store_utf16_to_utf8``, ``store_latin1_to_utf8``)."""
        if source == "utf8":
            check = f"(call {self._checker()} (local.get $at) (local.get $n))"
            long = f"(i32.lt_s (local.get $n) (i32.const 0)) if {self.module.trap('too long')} end"
            return [
                check,
                long,
                self._allocate(1, "(local.get $n)"),
                self._move("(local.get $n)"),
                *_pair("(local.get $n)"),
            ]
        # ``store_string_to_utf8``: allocate $n bytes, which suffice for ASCII. At the first other code unit, reallocate
        # to the worst case; at the end, shrink to the actual size.
        worst = _MAX_UTF8_BYTES[source]
        unit = _UNIT_BYTES[source]
        return [
            self._allocate(1, "(local.get $n)"),
            f"(local.set $done (call {self._ascii(source)} (local.get $at) (local.get $n) (local.get $to)))",
            "(i32.eq (local.get $done) (local.get $n)) if (local.get $to) (local.get $n) return end",
            self._bounded(worst),
            f"(local.set $worst (i32.mul (local.get $n) (i32.const {worst})))",
            self._reallocate("(local.get $n)", 1, "(local.get $worst)"),
            f"(local.set $size (i32.add (local.get $done) (call {self._transcoder(source, 'utf8')}"
            f" (i32.add (local.get $at) (i32.mul (local.get $done) (i32.const {unit})))"
            " (i32.sub (local.get $n) (local.get $done)) (i32.add (local.get $to) (local.get $done)))))",
            *self._shrunk(1),
            *_pair("(local.get $size)"),
        ]

    def _to_utf16(self, source: str) -> list[str]:
        """Store as UTF-16: allocate 2 bytes for each source code unit, then shrink (``store_utf8_to_utf16``)."""
        if source == "utf16":
            return [
                f"(drop (call {self._checker16()} (local.get $at) (local.get $n)))",
                "(local.set $size (i32.shl (local.get $n) (i32.const 1)))",
                self._allocate(2, "(local.get $size)"), self._move("(local.get $size)"), *_pair("(local.get $n)"),
            ]  # fmt: skip
        return [
            self._bounded(2),
            "(local.set $worst (i32.shl (local.get $n) (i32.const 1)))",
            self._allocate(2, "(local.get $worst)"),
            self._transcoded(source, "utf16"),
            *self._shrunk(2),
            *_pair("(i32.shr_u (local.get $size) (i32.const 1))"),
        ]

    def _to_compact(self, source: str) -> list[str]:
        """Store as Latin-1; at the first code point beyond it, start over as UTF-16.

        Source: ``store_string_to_latin1_or_utf16``. The transcoder returns -1 for a code point beyond Latin-1.
        """
        return [
            self._bounded(2),
            self._allocate(2, "(local.get $n)"),
            self._transcoded(source, "latin1"),
            "(i32.ne (local.get $size) (i32.const -1)) if",
            "(local.set $worst (local.get $n))",
            *self._shrunk(2),
            *_pair("(local.get $size)"), "return end",
            "(local.set $worst (i32.shl (local.get $n) (i32.const 1)))",
            self._reallocate("(local.get $n)", 2, "(local.get $worst)"),
            self._transcoded(source, "utf16"),
            *self._shrunk(2),
            *_pair(f"(i32.or (i32.shr_u (local.get $size) (i32.const 1)) (i32.const {_TAG}))"),
        ]  # fmt: skip

    def _deflated(self) -> list[str]:
        """Store a string for which the source chose UTF-16 (``store_probably_utf16_to_latin1_or_utf16``).

        The checker returns the bitwise or of all code points: above 255, at least one is beyond Latin-1.
        """
        return [
            f"(local.set $done (call {self._checker16()} (local.get $at) (local.get $n)))",
            "(local.set $size (i32.shl (local.get $n) (i32.const 1)))",
            self._allocate(2, "(local.get $size)"),
            "(i32.gt_u (local.get $done) (i32.const 255)) if", self._move("(local.get $size)"),
            *_pair(f"(i32.or (local.get $n) (i32.const {_TAG}))"), "return end",
            f"(drop (call {self._transcoder('utf16', 'latin1')} (local.get $at) (local.get $n) (local.get $to)))",
            self._reallocate("(local.get $size)", 1, "(local.get $n)"),
            f"(i32.and (local.get $to) (i32.const 1)) if {self.module.trap('pointer')} end",
            *_pair("(local.get $n)"),
        ]  # fmt: skip

    # -- pieces of these functions ----------------------------------------------------------------

    def _bounded(self, most: int) -> str:
        """Trap if the worst case, ``most`` bytes for each code unit, exceeds the maximum byte length of a string."""
        limit = _MAX_STRING_BYTES // most
        return f"(i32.gt_u (local.get $n) (i32.const {limit})) if {self.module.trap('too long')} end"

    def _allocate(self, align: int, size: str) -> str:
        realloc = self.module.realloc(self.target)
        return f"(local.set $to (call {realloc} (i32.const 0) (i32.const 0) (i32.const {align}) {size}))"

    def _reallocate(self, old: str, align: int, size: str) -> str:
        realloc = self.module.realloc(self.target)
        return f"(local.set $to (call {realloc} (local.get $to) {old} (i32.const {align}) {size}))"

    def _shrunk(self, align: int) -> list[str]:
        """Reallocate from the worst case to the actual size, unless they are equal."""
        return [
            "(i32.lt_u (local.get $size) (local.get $worst)) if",
            self._reallocate("(local.get $worst)", align, "(local.get $size)"), "end",
        ]  # fmt: skip

    def _move(self, size: str) -> str:
        return f"(memory.copy {self.write_to} {self.read} (local.get $to) (local.get $at) {size})"

    def _transcoded(self, source: str, target: str) -> str:
        made = self._transcoder(source, target)
        return f"(local.set $size (call {made} (local.get $at) (local.get $n) (local.get $to)))"

    # -- helper functions, shared by all strings of a pair of memories ----------------------------

    def _checker(self) -> str:
        """Return the function that traps unless ``$n`` bytes at ``$at`` are valid UTF-8."""
        return self.module.function(("utf8", self.read), self._write_checker)

    def _write_checker(self, name: str) -> None:
        # Skip 16 bytes at a time while no byte has its top bit set, then 4 at a time; decode the code point at which
        # neither is possible, and start over.
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (local $code i32) (local $step i32)",
            "block $end", "loop $more",
            "block $rest", "loop $ascii",
            "(br_if $rest (i32.lt_u (local.get $n) (i32.const 16)))",
            f"(br_if $rest (v128.any_true (v128.and (v128.load {self.read} align=1 (local.get $at))"
            " (v128.const i64x2 0x8080808080808080 0x8080808080808080))))",
            _advance("$at", "(i32.const 16)"), _less("$n", "(i32.const 16)"), "(br $ascii)", "end", "end",
            "block $bytes", "(br_if $bytes (i32.lt_u (local.get $n) (i32.const 4)))",
            f"(br_if $bytes (i32.and (i32.load {self.read} align=1 (local.get $at)) (i32.const 0x80808080)))",
            _advance("$at", "(i32.const 4)"), _less("$n", "(i32.const 4)"), "(br $more)", "end",
            "(br_if $end (i32.eqz (local.get $n)))",
            self._next("utf8"),
            _advance("$at", "(local.get $step)"), _less("$n", "(local.get $step)"),
            "(br $more)", "end", "end)",
        )  # fmt: skip

    def _checker16(self) -> str:
        """Return the function that traps for lone surrogates; it returns the bitwise or of all code points."""
        return self.module.function(("utf16", self.read), self._write_checker16)

    def _write_checker16(self, name: str) -> None:
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (result i32) (local $code i32) (local $step i32)",
            "(local $all i32)", "block $end", "loop $more",
            "(br_if $end (i32.eqz (local.get $n)))",
            self._next("utf16"),
            "(local.set $all (i32.or (local.get $all) (local.get $code)))",
            _advance("$at", "(i32.shl (local.get $step) (i32.const 1))"), _less("$n", "(local.get $step)"),
            "(br $more)", "end", "end", "(local.get $all))",
        )  # fmt: skip

    def _ascii(self, source: str) -> str:
        """Return the function that copies code units below 128 as UTF-8 until the first other one.

        It returns the number of code units copied.
        """
        return self.module.function(("ascii", source, self.read, self.write_to), lambda name: self._define(
            f"(func {name} (param $at i32) (param $n i32) (param $to i32) (result i32) (local $done i32)",
            "(local $code i32)", "block $end", "loop $more",
            "(br_if $end (i32.eq (local.get $done) (local.get $n)))",
            f"(local.set $code {self._unit(source)})",
            "(br_if $end (i32.ge_u (local.get $code) (i32.const 128)))",
            f"(i32.store8 {self.write_to} (i32.add (local.get $to) (local.get $done)) (local.get $code))",
            _advance("$at", f"(i32.const {_UNIT_BYTES[source]})"), _advance("$done", "(i32.const 1)"),
            "(br $more)", "end", "end", "(local.get $done))",
        ))  # fmt: skip

    def _transcoder(self, source: str, target: str) -> str:
        """Return the function that transcodes ``$n`` code units; it returns the number of bytes written.

        If the target is Latin-1, it returns -1 at the first code point beyond it.
        """
        key = ("transcode", source, target, self.read, self.write_to)
        return self.module.function(key, lambda name: self._write_transcoder(name, source, target))

    def _write_transcoder(self, name: str, source: str, target: str) -> None:
        unit = _UNIT_BYTES[source]
        step = "(local.get $step)" if unit == 1 else "(i32.shl (local.get $step) (i32.const 1))"
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (param $to i32) (result i32)",
            "(local $code i32) (local $step i32) (local $first i32) (local $wide v128)",
            "(local.set $first (local.get $to))",
            "block $end", "loop $more",
            *(self._inflating() if (source, target) == ("utf8", "utf16") else ()),
            "(br_if $end (i32.eqz (local.get $n)))",
            self._next(source),
            _advance("$at", step), _less("$n", "(local.get $step)"),
            *self._put(target),
            "(br $more)", "end", "end", "(i32.sub (local.get $to) (local.get $first)))",
        )  # fmt: skip

    def _inflating(self) -> list[str]:
        """Widen 16 bytes of ASCII to 16 code units of UTF-16 per step; leave the block at the first other byte."""
        return [
            "block $rest", "(br_if $rest (i32.lt_u (local.get $n) (i32.const 16)))",
            f"(local.set $wide (v128.load {self.read} align=1 (local.get $at)))",
            "(br_if $rest (i8x16.bitmask (local.get $wide)))",
            f"(v128.store {self.write_to} align=1 (local.get $to) (i16x8.extend_low_i8x16_u (local.get $wide)))",
            f"(v128.store {self.write_to} offset=16 align=1 (local.get $to)"
            " (i16x8.extend_high_i8x16_u (local.get $wide)))",
            _advance("$at", "(i32.const 16)"), _less("$n", "(i32.const 16)"), _advance("$to", "(i32.const 32)"),
            "(br $more)", "end",
        ]  # fmt: skip

    def _put(self, target: str) -> list[str]:
        """Store the code point ``$code`` at ``$to`` in the target encoding and advance ``$to``."""
        to, code = "(local.get $to)", "(local.get $code)"
        if target == "latin1":
            return [
                f"(i32.gt_u {code} (i32.const 255)) if (i32.const -1) return end",
                f"(i32.store8 {self.write_to} {to} {code})", _advance("$to", "(i32.const 1)"),
            ]  # fmt: skip
        if target == "utf16":
            return [
                f"(i32.lt_u {code} (i32.const 0x10000)) if",
                f"(i32.store16 {self.write_to} {to} {code})", _advance("$to", "(i32.const 2)"), "else",
                f"(local.set $code (i32.sub {code} (i32.const 0x10000)))",
                f"(i32.store16 {self.write_to} {to} (i32.or (i32.const 0xd800) (i32.shr_u {code} (i32.const 10))))",
                f"(i32.store16 {self.write_to} offset=2 {to}"
                f" (i32.or (i32.const 0xdc00) (i32.and {code} (i32.const 0x3ff))))",
                _advance("$to", "(i32.const 4)"), "end",
            ]  # fmt: skip
        # UTF-8: one byte below 128; else a lead byte with the high bits, and 6 bits in each continuation byte.
        lines = [f"(i32.lt_u {code} (i32.const 128)) if", f"(i32.store8 {self.write_to} {to} {code})"]
        lines += [_advance("$to", "(i32.const 1)")]
        for size, below, mark in ((2, 0x800, 0xC0), (3, 0x10000, 0xE0), (4, 0, 0xF0)):
            lines.append(f"else (i32.lt_u {code} (i32.const {below})) if" if below else "else")
            lines.append(
                f"(i32.store8 {self.write_to} {to} (i32.or (i32.const {mark})"
                f" (i32.shr_u {code} (i32.const {6 * (size - 1)}))))"
            )
            lines += [
                f"(i32.store8 {self.write_to} offset={n} {to} (i32.or (i32.const 128)"
                f" (i32.and (i32.shr_u {code} (i32.const {6 * (size - 1 - n)})) (i32.const 63))))"
                for n in range(1, size)
            ]
            lines.append(_advance("$to", f"(i32.const {size})"))
        return [*lines, "end end end"]

    def _unit(self, source: str) -> str:
        return f"(i32.load{8 * _UNIT_BYTES[source]}_u {self.read} (local.get $at))"

    def _next(self, source: str) -> str:
        """Set ``$code`` to the code point at ``$at``, and ``$step`` to its number of code units.

        A code point of one code unit is decoded inline; others by a helper function.
        """
        one = f"(local.set $code {self._unit(source)}) (local.set $step (i32.const 1))"
        if source == "latin1":
            return one
        write = self._write_next8 if source == "utf8" else self._write_next16
        made = self.module.function(("next", source, self.read), write)
        more = "(i32.ge_u (local.get $code) (i32.const 128))"
        if source == "utf16":
            more = "(i32.eq (i32.and (local.get $code) (i32.const 0xf800)) (i32.const 0xd800))"
        return f"{one} {more} if (call {made} (local.get $at) (local.get $n)) (local.set $step) (local.set $code) end"

    def _write_next8(self, name: str) -> None:
        """Write the function that decodes a multi-byte code point of UTF-8; ``$n`` is the number of bytes left.

        It traps for the sequences that RFC 3629 forbids: wrong lead or continuation bytes, truncated and overlong
        forms, surrogates, and values above U+10FFFF.
        """
        bad = f"if {self.module.trap('utf8')} end"
        code = "(local.get $code)"
        # The lead byte gives the number of continuation bytes ($more) and the least code point of that length
        # ($least); a smaller one would be overlong. C0 and C1 are overlong always, so two-byte leads start at C2.
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (result i32 i32)",
            "(local $code i32) (local $more i32) (local $least i32) (local $left i32) (local $byte i32)",
            f"(local.set $code {self._unit('utf8')})",
            f"(i32.lt_u (i32.sub {code} (i32.const 0xc2)) (i32.const 0x1e)) if",
            f"(local.set $code (i32.and {code} (i32.const 31)))",
            "(local.set $more (i32.const 1)) (local.set $least (i32.const 128))",
            f"else (i32.eq (i32.and {code} (i32.const 0xf0)) (i32.const 0xe0)) if",
            f"(local.set $code (i32.and {code} (i32.const 15)))",
            "(local.set $more (i32.const 2)) (local.set $least (i32.const 0x800))",
            f"else (i32.eq (i32.and {code} (i32.const 0xf8)) (i32.const 0xf0)) if",
            f"(local.set $code (i32.and {code} (i32.const 7)))",
            "(local.set $more (i32.const 3)) (local.set $least (i32.const 0x10000))",
            "end end end",
            # $more is still 0 for an invalid lead byte; the sequence is truncated unless $more < $n.
            f"(i32.or (i32.eqz (local.get $more)) (i32.ge_u (local.get $more) (local.get $n))) {bad}",
            "(local.set $left (local.get $more))",
            "loop $again",
            _advance("$at", "(i32.const 1)"),
            f"(local.set $byte {self._unit('utf8')})",
            f"(i32.ne (i32.and (local.get $byte) (i32.const 0xc0)) (i32.const 128)) {bad}",
            f"(local.set $code (i32.or (i32.shl {code} (i32.const 6)) (i32.and (local.get $byte) (i32.const 63))))",
            _less("$left", "(i32.const 1)"),
            "(br_if $again (local.get $left))", "end",
            f"(i32.or (i32.lt_u {code} (local.get $least)) (i32.gt_u {code} (i32.const 0x10ffff))) {bad}",
            f"(i32.lt_u (i32.sub {code} (i32.const 0xd800)) (i32.const 0x800)) {bad}",
            f"{code} (i32.add (local.get $more) (i32.const 1)))",
        )  # fmt: skip

    def _write_next16(self, name: str) -> None:
        """Write the function that decodes a surrogate pair of UTF-16; ``$n`` is the number of code units left.

        It traps unless a high surrogate is followed by a low one.
        """
        bad = f"if {self.module.trap('utf16')} end"
        code, low = "(local.get $code)", "(local.get $low)"
        self._define(
            f"(func {name} (param $at i32) (param $n i32) (result i32 i32) (local $code i32) (local $low i32)",
            f"(local.set $code {self._unit('utf16')})",
            f"(i32.or (i32.ge_u {code} (i32.const 0xdc00)) (i32.lt_u (local.get $n) (i32.const 2))) {bad}",
            f"(local.set $low (i32.load16_u {self.read} offset=2 (local.get $at)))",
            f"(i32.ne (i32.and {low} (i32.const 0xfc00)) (i32.const 0xdc00)) {bad}",
            f"(i32.add (i32.or (i32.shl (i32.and {code} (i32.const 0x3ff)) (i32.const 10))"
            f" (i32.and {low} (i32.const 0x3ff))) (i32.const 0x10000))",
            "(i32.const 2))",
        )  # fmt: skip


def _advance(local: str, by: str) -> str:
    return f"(local.set {local} (i32.add (local.get {local}) {by}))"


def _less(local: str, by: str) -> str:
    return f"(local.set {local} (i32.sub (local.get {local}) {by}))"


def _pair(length: str) -> tuple[str, str]:
    """Return the text of the two results: the address of the copy, and its length in code units of the target."""
    return "(local.get $to)", length
