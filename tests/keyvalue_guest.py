"""A component that uses ``wasi:keyvalue`` as a test asks: each export calls one import and returns its answer.

It holds one bucket and one handle of a value at a time. ``open`` and ``remember`` take others, ``swap`` gives the
handle away and keeps the one that a failed swap returns. ``bump`` increments a key many times in one call.
"""

from __future__ import annotations

from textwrap import indent

__all__ = ["guest"]

_VERSION = "0.2.0-draft2"
_ERROR = '(variant (case "no-such-store") (case "access-denied") (case "other" string))'
_VALUE = "(result (option (list u8)) (error {e}))"
_MANY = "(result (list (option (tuple string (list u8)))) (error {e}))"

# Exports: parameters of the component's function, its result, parameters of the core function that the canonical ABI
# makes of them, and the core code, whose result is the address of the answer.
_EXPORTS = {
    "open": ('(param "name" string)', "(result (error {e}))", "i32 i32", """
        (call $open (local.get 0) (local.get 1) (i32.const 16))
        (if (i32.eqz (i32.load8_u (i32.const 16)))
          (then (global.set $bucket (i32.load (i32.const 20)))))
        (i32.const 16)"""),
    "get": ('(param "key" string)', _VALUE, "i32 i32", """
        (call $get (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
    "set": ('(param "key" string) (param "value" (list u8))', "(result (error {e}))", "i32 i32 i32 i32", """
        (call $set (global.get $bucket) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))
        (i32.const 16)"""),
    "delete": ('(param "key" string)', "(result (error {e}))", "i32 i32", """
        (call $delete (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
    "exists": ('(param "key" string)', "(result bool (error {e}))", "i32 i32", """
        (call $exists (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
    "list-keys": ('(param "cursor" (option string))', "(result {k} (error {e}))", "i32 i32 i32", """
        (call $list-keys (global.get $bucket) (local.get 0) (local.get 1) (local.get 2) (i32.const 16))
        (i32.const 16)"""),
    "increment": ('(param "key" string) (param "delta" s64)', "(result s64 (error {e}))", "i32 i32 i64", """
        (call $increment (global.get $bucket) (local.get 0) (local.get 1) (local.get 2) (i32.const 16))
        (i32.const 16)"""),
    "bump": ('(param "key" string) (param "times" u32)', "(result s64 (error {e}))", "i32 i32 i32", """
        (loop $again
          (call $increment (global.get $bucket) (local.get 0) (local.get 1) (i64.const 1) (i32.const 16))
          (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
          (br_if $again (i32.and (i32.gt_s (local.get 2) (i32.const 0)) (i32.eqz (i32.load8_u (i32.const 16))))))
        (i32.const 16)"""),
    "remember": ('(param "key" string)', "(result (error {e}))", "i32 i32", """
        (call $new (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16))
        (if (i32.eqz (i32.load8_u (i32.const 16))) (then (global.set $cas (i32.load (i32.const 20)))))
        (i32.const 16)"""),
    "current": ("", _VALUE, "", "(call $current (global.get $cas) (i32.const 16)) (i32.const 16)"),
    "get-many": ('(param "keys" (list string))', _MANY, "i32 i32", """
        (call $get-many (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
    "set-many": ('(param "pairs" (list (tuple string (list u8))))', "(result (error {e}))", "i32 i32", """
        (call $set-many (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
    "delete-many": ('(param "keys" (list string))', "(result (error {e}))", "i32 i32", """
        (call $delete-many (global.get $bucket) (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)"""),
}  # fmt: skip
# Which import is which function of which interface, with its core type.
_IMPORTS = {
    "open": ("$store", "open", "i32 i32 i32"),
    "get": ("$store", "[method]bucket.get", "i32 i32 i32 i32"),
    "set": ("$store", "[method]bucket.set", "i32 i32 i32 i32 i32 i32"),
    "delete": ("$store", "[method]bucket.delete", "i32 i32 i32 i32"),
    "exists": ("$store", "[method]bucket.exists", "i32 i32 i32 i32"),
    "list-keys": ("$store", "[method]bucket.list-keys", "i32 i32 i32 i32 i32"),
    "increment": ("$atomics", "increment", "i32 i32 i32 i64 i32"),
    "new": ("$atomics", "[static]cas.new", "i32 i32 i32 i32"),
    "current": ("$atomics", "[method]cas.current", "i32 i32"),
    "swap": ("$atomics", "swap", "i32 i32 i32 i32"),
    "get-many": ("$batch", "get-many", "i32 i32 i32 i32"),
    "set-many": ("$batch", "set-many", "i32 i32 i32 i32"),
    "delete-many": ("$batch", "delete-many", "i32 i32 i32 i32"),
}


def guest(version: str = _VERSION, *, start: str = "") -> str:
    """Return the component as text, built against a version of ``wasi:keyvalue``.

    With ``start``, a letter, it opens the bucket of that name while it is instantiated.
    """
    lowered = "\n".join(
        f'(core func $l-{name} (canon lower (func {owner} "{function}")'
        ' (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))'
        for name, (owner, function, _) in _IMPORTS.items()
    )
    given = " ".join(f'(export "{name}" (func $l-{name}))' for name in _IMPORTS)
    return f"""(component
{indent(_interfaces(version), "  ")}
  (alias export $store "error" (type $error)) (alias export $store "key-response" (type $page))
{_MEMORY}
{indent(lowered, "  ")}
{_code(start)}
  (core instance $code (instantiate $code (with "m" (instance $mem)) (with "h" (instance {given}))))
{indent(_lifted(), "  ")})"""


def _interfaces(version: str) -> str:
    bucket = '(param "bucket" (borrow $b))'
    shared = """(alias outer 1 $bucket (type $b')) (export "bucket" (type $b (eq $b')))
  (alias outer 1 $err (type $e')) (export "error" (type $e (eq $e')))"""
    error = "(error $e)"
    return f"""(import "wasi:keyvalue/store@{version}" (instance $store
  (type $e' {_ERROR}) (export "error" (type $e (eq $e')))
  (type $k' (record (field "keys" (list string)) (field "cursor" (option string))))
  (export "key-response" (type $k (eq $k')))
  (export "bucket" (type $b (sub resource)))
  (export "open" (func (param "identifier" string) (result (result (own $b) {error}))))
  (export "[method]bucket.get" (func (param "self" (borrow $b)) (param "key" string)
    (result (result (option (list u8)) {error}))))
  (export "[method]bucket.set" (func (param "self" (borrow $b)) (param "key" string) (param "value" (list u8))
    (result (result {error}))))
  (export "[method]bucket.delete" (func (param "self" (borrow $b)) (param "key" string) (result (result {error}))))
  (export "[method]bucket.exists" (func (param "self" (borrow $b)) (param "key" string) (result (result bool {error}))))
  (export "[method]bucket.list-keys" (func (param "self" (borrow $b)) (param "cursor" (option string))
    (result (result $k {error}))))))
(alias export $store "bucket" (type $bucket)) (alias export $store "error" (type $err))
(import "wasi:keyvalue/atomics@{version}" (instance $atomics
  {shared}
  (export "cas" (type $c (sub resource)))
  (type $f' (variant (case "store-error" $e) (case "cas-failed" (own $c)))) (export "cas-error" (type $f (eq $f')))
  (export "increment" (func {bucket} (param "key" string) (param "delta" s64) (result (result s64 {error}))))
  (export "[static]cas.new" (func {bucket} (param "key" string) (result (result (own $c) {error}))))
  (export "[method]cas.current" (func (param "self" (borrow $c)) (result (result (option (list u8)) {error}))))
  (export "swap" (func (param "cas" (own $c)) (param "value" (list u8)) (result (result (error $f)))))))
(import "wasi:keyvalue/batch@{version}" (instance $batch
  {shared}
  (export "get-many" (func {bucket} (param "keys" (list string))
    (result (result (list (option (tuple string (list u8)))) {error}))))
  (export "set-many" (func {bucket} (param "key-values" (list (tuple string (list u8)))) (result (result {error}))))
  (export "delete-many" (func {bucket} (param "keys" (list string)) (result (result {error}))))))"""


_MEMORY = """  (core module $memory
    (memory (export "memory") 2) (global $at (mut i32) (i32.const 1024))
    (func (export "reset") (param i32) (global.set $at (i32.const 1024)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $new i32)
      (local.set $new (i32.and (i32.add (global.get $at) (i32.const 7)) (i32.const -8)))
      (global.set $at (i32.add (local.get $new) (local.get 3)))
      (if (i32.gt_u (global.get $at) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1))) (i32.const -1))
          (then unreachable))))
      (memory.copy (local.get $new) (local.get 0) (local.get 1))
      (local.get $new)))
  (core instance $mem (instantiate $memory))"""


def _code(start: str) -> str:
    imports = "\n".join(
        f'    (import "h" "{name}" (func ${name} (param {core})))' for name, (_, _, core) in _IMPORTS.items()
    )
    functions = "\n".join(
        f'    (func (export "{name}") (param {core}) (result i32) {code})'
        for name, (_, _, core, code) in _EXPORTS.items()
    )
    # A swap's own answer is its tag: 0 done, 1 the store failed, 2 another value was there.
    swap = """    (func (export "swap") (param i32 i32) (result i32)
      (call $swap (global.get $cas) (local.get 0) (local.get 1) (i32.const 16))
      (if (i32.eqz (i32.load8_u (i32.const 16))) (then (return (i32.const 0))))
      (if (i32.eqz (i32.load8_u (i32.const 20))) (then (return (i32.const 1))))
      (global.set $cas (i32.load (i32.const 24)))
      (i32.const 2))"""
    begin = (
        f"""    (func $begin
      (i32.store8 (i32.const 512) (i32.const {ord(start)})) (call $open (i32.const 512) (i32.const 1) (i32.const 16))
      (if (i32.eqz (i32.load8_u (i32.const 16))) (then (global.set $bucket (i32.load (i32.const 20))))))
    (start $begin)"""
        if start
        else ""
    )
    return f"""  (core module $code
    (import "m" "memory" (memory 0)) {imports.strip()}
    (global $bucket (mut i32) (i32.const 0)) (global $cas (mut i32) (i32.const 0))
{functions}
{swap}
{begin})"""


def _lifted() -> str:
    options = '(memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))'
    after = '(post-return (core func $mem "reset"))'
    lines = [
        f'(func (export "{name}") {params} (result {result.format(e="$error", k="$page")})'
        f' (canon lift (core func $code "{name}") {options} {after}))'
        for name, (params, result, _, _) in _EXPORTS.items()
    ]
    lines.append(
        '(func (export "swap") (param "value" (list u8)) (result u32)'
        f' (canon lift (core func $code "swap") {options} {after}))'
    )
    return "\n".join(lines)
