"""Texts of asynchronous components for any WIT type: guests that echo values, and guests that copy streams.

Their exports are lifted with callbacks, as all toolchains do. The copying guest has one core module that depends on the
element type by its size alone: elements stay in memory as the canonical ABI has stored them.
"""

from __future__ import annotations

from aegis.wit.types import WitType
from tests.echo import TypeSection, flat, size_of, store_flat

__all__ = ["ENCODINGS", "async_echo", "composed", "copier", "resource_copier", "script"]

ENCODINGS = ("utf8", "utf16", "latin1+utf16")
_MAX_FLAT, _MAX_FLAT_ASYNC = 16, 4

_MEMORY = """  (core module $Memory
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get $new)))
      (block $enough (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
        (br $grow)))
      (memory.copy (local.get $at) (local.get $old)
        (select (local.get $size) (local.get $new) (i32.lt_u (local.get $size) (local.get $new))))
      (local.get $at)))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))"""


def async_echo(of: WitType, *, encoding: str, lower: str) -> str:
    """Return the text of a component that exports ``own``, which returns its argument by ``task.return``, and
    ``through``, which returns a list of the result of the import ``echo``, lowered as ``async`` or ``sync``.
    """
    types = TypeSection()
    name = types.of(of)
    listed = types.add(f"(list {name})")
    cores = flat(of)
    params = cores if len(cores) <= _MAX_FLAT else ["i32"]
    gets = [f"(local.get {n})" for n in range(len(params))]
    options = f"string-encoding={encoding} (memory $mem) (realloc $realloc)"
    at = len(params)
    most = _MAX_FLAT_ASYNC if lower == "async" else _MAX_FLAT
    pointed = lower == "async" or len(cores) > 1
    stored = ""
    if len(params) > most:
        stored = f"(local.set $at {_space(of)}) {' '.join(store_flat(of, gets))}"
        gets = ["(local.get $at)"]
    passed = cores if len(cores) <= most else ["i32"]
    call = f"(call $echo {' '.join(gets)} {'(local.get $out)' if pointed else ''})"
    if pointed and lower == "async":
        called = f"(local.set $status {call})"
    elif pointed:
        called = f"{call} (local.set $status (i32.const 2))"
    else:
        store = " ".join(store_flat(of, ["(local.get $one)"])).replace("(local.get $at)", "(local.get $out)")
        called = f"(local.set $one {call}) {store} (local.set $status (i32.const 2))"
    lines = "\n".join(types.lines)
    signature = f'(param "x" {name})'
    result = "" if lower == "sync" and pointed else f"(result {'i32' if lower == 'async' else cores[0]})"
    return f"""(component
{lines}
  (import "echo" (func $echo async {signature} (result {name})))
{_MEMORY}
  (core func $echo' (canon lower (func $echo) {"async" if lower == "async" else ""} {options}))
  (core func $return (canon task.return (result {name}) string-encoding={encoding} (memory $mem)))
  (core func $return-list (canon task.return (result {listed}) string-encoding={encoding} (memory $mem)))
{_BUILTINS}
  (core module $M
    (import "" "mem" (memory 1))
    (import "" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "" "echo" (func $echo (param {" ".join(passed)} {"i32" if pointed else ""}) {result}))
    (import "" "return" (func $return (param {" ".join(params)})))
    (import "" "return-list" (func $return-list (param i32 i32)))
{_BUILTIN_IMPORTS}
    (func (export "own") (param {" ".join(params)}) (result i32)
      (call $return {" ".join(f"(local.get {n})" for n in range(at))}) (i32.const 0))
    (func (export "through") (param {" ".join(params)}) (result i32)
      (local $at i32) (local $out i32) (local $status i32) (local $set i32) (local $one {cores[0] if cores else "i32"})
      (local.set $out (i32.add (i32.const 16) {_space(of, 16)}))
      {stored}
      {called}
      (if (i32.eq (local.get $status) (i32.const 2)) (then
        (call $return-list (local.get $out) (i32.const 1)) (return (i32.const 0))))
      (call $ctx-set (local.get $out))
      (local.set $set (call $set-new))
      (i32.store (i32.sub (local.get $out) (i32.const 16)) (local.get $set))
      (call $join (i32.shr_u (local.get $status) (i32.const 4)) (local.get $set))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32)
      (local $set i32)
      (local.set $set (i32.load (i32.sub (call $ctx-get) (i32.const 16))))
      (if (i32.ne (local.get 0) (i32.const 1)) (then unreachable))
      (if (i32.ne (local.get 2) (i32.const 2)) (then
        (return (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))))
      (call $subtask-drop (local.get 1))
      (call $set-drop (local.get $set))
      (call $return-list (call $ctx-get) (i32.const 1))
      (i32.const 0)))
  (core instance $m (instantiate $M (with "" (instance
    (export "mem" (memory $mem)) (export "realloc" (func $realloc)) (export "echo" (func $echo'))
    (export "return" (func $return)) (export "return-list" (func $return-list))
{_BUILTIN_EXPORTS}))))
  (func (export "own") async {signature} (result {name})
    (canon lift (core func $m "own") async {options} (callback (core func $m "callback"))))
  (func (export "through") async {signature} (result {listed})
    (canon lift (core func $m "through") async {options} (callback (core func $m "callback"))))
)"""


def _space(of: WitType, more: int = 0) -> str:
    return f"(call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size_of(of) + more}))"


_TABLE = {
    "set-new": ("waitable-set.new", "(result i32)"),
    "set-drop": ("waitable-set.drop", "(param i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "subtask-drop": ("subtask.drop", "(param i32)"),
    "subtask-cancel": ("subtask.cancel", "(param i32) (result i32)"),
    "ctx-get": ("context.get i32 0", "(result i32)"),
    "ctx-set": ("context.set i32 0", "(param i32)"),
    "task-cancel": ("task.cancel", ""),
    "inc": ("backpressure.inc", ""),
    "dec": ("backpressure.dec", ""),
}
_BUILTINS = "\n".join(f"  (core func ${name} (canon {text}))" for name, (text, _) in _TABLE.items())
_BUILTIN_IMPORTS = "\n".join(f'    (import "" "{name}" (func ${name} {of}))' for name, (_, of) in _TABLE.items())
_BUILTIN_EXPORTS = "\n".join(f'    (export "{name}" (func ${name}))' for name in _TABLE)

_ENDS = {
    "s-new": ("stream.new $S", "(result i64)"),
    "s-read": ("stream.read $S async {options}", "(param i32 i32 i32) (result i32)"),
    "s-write": ("stream.write $S async {options}", "(param i32 i32 i32) (result i32)"),
    "s-cancel-read": ("stream.cancel-read $S", "(param i32) (result i32)"),
    "s-cancel-write": ("stream.cancel-write $S", "(param i32) (result i32)"),
    "s-drop-read": ("stream.drop-readable $S", "(param i32)"),
    "s-drop-write": ("stream.drop-writable $S", "(param i32)"),
    "f-new": ("future.new $F", "(result i64)"),
    "f-read": ("future.read $F async {options}", "(param i32 i32) (result i32)"),
    "f-write": ("future.write $F async {options}", "(param i32 i32) (result i32)"),
    "f-cancel-read": ("future.cancel-read $F", "(param i32) (result i32)"),
    "f-cancel-write": ("future.cancel-write $F", "(param i32) (result i32)"),
    "f-drop-read": ("future.drop-readable $F", "(param i32)"),
    "f-drop-write": ("future.drop-writable $F", "(param i32)"),
    "return-list": ("task.return (result $L) {result}", "(param i32 i32)"),
    "return-stream": ("task.return (result $S) {result}", "(param i32)"),
    "return-future": ("task.return (result $F) {result}", "(param i32)"),
    "return-u32": ("task.return (result u32) {result}", "(param i32)"),
}

# A task of the copier is a record in memory, and ``context`` 0 has its address:
#   0 kind   4 set   8 readable end   12 writable end   16 buffer   20 done   24 total   28 room   32 random   36 phase
#   40 the readable end that is given away
_COPIER = """
    (global $BLOCKED i32 (i32.const -1))
    (func $task (param $kind i32) (param $room i32) (param $seed i32) (result i32) (local $c i32)
      (local.set $c (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 64)))
      (i32.store (local.get $c) (local.get $kind))
      (i32.store offset=4 (local.get $c) (call $set-new))
      (i32.store offset=28 (local.get $c) (local.get $room))
      (i32.store offset=32 (local.get $c) (i32.or (local.get $seed) (i32.const 1)))
      (call $ctx-set (local.get $c))
      (local.get $c))
    (func $random (param $c i32) (result i32) (local $x i32)
      (local.set $x (i32.load offset=32 (local.get $c)))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (i32.store offset=32 (local.get $c) (local.get $x))
      (i32.shr_u (local.get $x) (i32.const 4)))
    (func $chunk (param $c i32) (param $left i32) (result i32) (local $n i32)
      (local.set $n (i32.add (i32.load offset=28 (local.get $c)) (i32.const 1)))
      (local.set $n (i32.rem_u (call $random (local.get $c)) (local.get $n)))
      (select (local.get $n) (local.get $left) (i32.lt_u (local.get $n) (local.get $left))))
    (func $left (param $c i32) (result i32)
      (i32.sub (i32.load offset=24 (local.get $c)) (i32.load offset=20 (local.get $c))))
    (func $here (param $c i32) (result i32)
      (i32.add (i32.load offset=16 (local.get $c)) (i32.mul (i32.load offset=20 (local.get $c)) (i32.const {size}))))
    (func $wait (param $c i32) (param $end i32) (result i32)
      (call $join (local.get $end) (i32.load offset=4 (local.get $c)))
      (i32.or (i32.const 2) (i32.shl (i32.load offset=4 (local.get $c)) (i32.const 4))))
    (func $end (param $c i32) (result i32)
      (call $set-drop (i32.load offset=4 (local.get $c)))
      (i32.const 0))
    (func $advance (param $c i32) (param $r i32)
      (i32.store offset=20 (local.get $c)
        (i32.add (i32.load offset=20 (local.get $c)) (i32.shr_u (local.get $r) (i32.const 4)))))
    (func $dropped (param $r i32) (result i32)
      (i32.eq (i32.and (local.get $r) (i32.const 15)) (i32.const 1)))

    ;; kind 1: read up to `total` elements, and return them
    (func $collected (param $c i32) (result i32)
      (call $s-drop-read (i32.load offset=8 (local.get $c)))
      (call $return-list (i32.load offset=16 (local.get $c)) (i32.load offset=20 (local.get $c)))
      (call $end (local.get $c)))
    (func $collect (param $c i32) (result i32) (local $r i32) (local $s i32)
      (local.set $s (i32.load offset=8 (local.get $c)))
      (loop $more
        (if (i32.eqz (call $left (local.get $c))) (then (return (call $collected (local.get $c)))))
        (local.set $r (call $s-read (local.get $s) (call $here (local.get $c))
          (call $chunk (local.get $c) (call $left (local.get $c)))))
        (if (i32.eq (local.get $r) (global.get $BLOCKED)) (then
          (if (i32.and (call $random (local.get $c)) (i32.const 7))
            (then (return (call $wait (local.get $c) (local.get $s))))
            (else (local.set $r (call $s-cancel-read (local.get $s)))))))
        (call $advance (local.get $c) (local.get $r))
        (if (call $dropped (local.get $r)) (then (return (call $collected (local.get $c)))))
        (br $more))
      unreachable)

    ;; kind 2: write `total` elements
    (func $fed (param $c i32) (result i32)
      (call $s-drop-write (i32.load offset=12 (local.get $c)))
      (if (i32.load offset=36 (local.get $c)) (then (call $return-u32 (i32.load offset=20 (local.get $c)))))
      (call $end (local.get $c)))
    (func $feed (param $c i32) (result i32) (local $r i32) (local $s i32)
      (local.set $s (i32.load offset=12 (local.get $c)))
      (loop $more
        (if (i32.eqz (call $left (local.get $c))) (then (return (call $fed (local.get $c)))))
        (local.set $r (call $s-write (local.get $s) (call $here (local.get $c))
          (call $chunk (local.get $c) (call $left (local.get $c)))))
        (if (i32.eq (local.get $r) (global.get $BLOCKED)) (then
          (if (i32.and (call $random (local.get $c)) (i32.const 7))
            (then (return (call $wait (local.get $c) (local.get $s))))
            (else (local.set $r (call $s-cancel-write (local.get $s)))))))
        (call $advance (local.get $c) (local.get $r))
        (if (call $dropped (local.get $r)) (then (return (call $fed (local.get $c)))))
        (br $more))
      unreachable)

    ;; kind 3: read a piece, and write it; phase 0 reads, 1 writes, 2 writes the last piece
    (func $relayed (param $c i32) (result i32)
      (call $s-drop-read (i32.load offset=8 (local.get $c)))
      (call $s-drop-write (i32.load offset=12 (local.get $c)))
      (call $end (local.get $c)))
    (func $received (param $c i32) (param $r i32)
      (i32.store offset=20 (local.get $c) (i32.const 0))
      (i32.store offset=24 (local.get $c) (i32.shr_u (local.get $r) (i32.const 4)))
      (i32.store offset=36 (local.get $c) (i32.add (i32.const 1) (call $dropped (local.get $r)))))
    (func $relay (param $c i32) (result i32) (local $r i32) (local $s i32)
      (loop $more
        (if (i32.eqz (i32.load offset=36 (local.get $c))) (then
          (local.set $s (i32.load offset=8 (local.get $c)))
          (local.set $r (call $s-read (local.get $s) (i32.load offset=16 (local.get $c))
            (call $chunk (local.get $c) (i32.load offset=28 (local.get $c)))))
          (if (i32.eq (local.get $r) (global.get $BLOCKED))
            (then (return (call $wait (local.get $c) (local.get $s)))))
          (call $received (local.get $c) (local.get $r))
          (br $more)))
        (if (i32.eqz (call $left (local.get $c))) (then
          (if (i32.eq (i32.load offset=36 (local.get $c)) (i32.const 2))
            (then (return (call $relayed (local.get $c)))))
          (i32.store offset=36 (local.get $c) (i32.const 0))
          (br $more)))
        (local.set $s (i32.load offset=12 (local.get $c)))
        (local.set $r (call $s-write (local.get $s) (call $here (local.get $c)) (call $left (local.get $c))))
        (if (i32.eq (local.get $r) (global.get $BLOCKED))
          (then (return (call $wait (local.get $c) (local.get $s)))))
        (call $advance (local.get $c) (local.get $r))
        (if (call $dropped (local.get $r)) (then (return (call $relayed (local.get $c)))))
        (br $more))
      unreachable)

    ;; kind 4: read a future, and return a list of its value; kind 5: write a future
    (func $kept (param $c i32) (param $r i32) (result i32)
      (call $f-drop-read (i32.load offset=8 (local.get $c)))
      (call $return-list (i32.load offset=16 (local.get $c)) (i32.eqz (local.get $r)))
      (call $end (local.get $c)))
    (func $promised (param $c i32) (result i32)
      (call $f-drop-write (i32.load offset=12 (local.get $c)))
      (call $end (local.get $c)))

    (func (export "collect") (param $s i32) (param $room i32) (param $seed i32) (param $most i32) (result i32)
      (local $c i32)
      (local.set $c (call $task (i32.const 1) (local.get $room) (local.get $seed)))
      (i32.store offset=8 (local.get $c) (local.get $s))
      (i32.store offset=24 (local.get $c) (local.get $most))
      (i32.store offset=16 (local.get $c) (call $realloc (i32.const 0) (i32.const 0) (i32.const 8)
        (i32.mul (local.get $most) (i32.const {size}))))
      (call $collect (local.get $c)))
    (func $begin-feed (param $at i32) (param $count i32) (param $room i32) (param $seed i32) (result i32)
      (local $c i32) (local $pair i64)
      (local.set $c (call $task (i32.const 2) (local.get $room) (local.get $seed)))
      (local.set $pair (call $s-new))
      (i32.store offset=8 (local.get $c) (i32.wrap_i64 (local.get $pair)))
      (i32.store offset=12 (local.get $c) (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))))
      (i32.store offset=16 (local.get $c) (local.get $at))
      (i32.store offset=24 (local.get $c) (local.get $count))
      (local.get $c))
    (func (export "feed") (param $at i32) (param $count i32) (param $room i32) (param $seed i32) (result i32)
      (local $c i32)
      (local.set $c (call $begin-feed (local.get $at) (local.get $count) (local.get $room) (local.get $seed)))
      (call $return-stream (i32.load offset=8 (local.get $c)))
      (call $feed (local.get $c)))
    (func $begin-relay (param $s i32) (param $room i32) (param $seed i32) (result i32)
      (local $c i32) (local $pair i64)
      (local.set $c (call $task (i32.const 3) (local.get $room) (local.get $seed)))
      (local.set $pair (call $s-new))
      (i32.store offset=8 (local.get $c) (local.get $s))
      (i32.store offset=12 (local.get $c) (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))))
      (i32.store offset=16 (local.get $c) (call $realloc (i32.const 0) (i32.const 0) (i32.const 8)
        (i32.mul (local.get $room) (i32.const {size}))))
      (i32.store offset=40 (local.get $c) (i32.wrap_i64 (local.get $pair)))
      (local.get $c))
    (func (export "relay") (param $s i32) (param $room i32) (param $seed i32) (result i32) (local $c i32)
      (local.set $c (call $begin-relay (local.get $s) (local.get $room) (local.get $seed)))
      (call $return-stream (i32.load offset=40 (local.get $c)))
      (call $relay (local.get $c)))
    (func (export "same") (param $s i32) (result i32)
      (call $return-stream (local.get $s)) (i32.const 0))
    (func (export "same-future") (param $f i32) (result i32)
      (call $return-future (local.get $f)) (i32.const 0))
    (func (export "keep") (param $f i32) (result i32) (local $c i32) (local $r i32)
      (local.set $c (call $task (i32.const 4) (i32.const 1) (i32.const 1)))
      (i32.store offset=8 (local.get $c) (local.get $f))
      (i32.store offset=16 (local.get $c) (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size})))
      (local.set $r (call $f-read (local.get $f) (i32.load offset=16 (local.get $c))))
      (if (i32.eq (local.get $r) (global.get $BLOCKED)) (then (return (call $wait (local.get $c) (local.get $f)))))
      (call $kept (local.get $c) (local.get $r)))
    (func (export "promise") (param $at i32) (param $count i32) (result i32) (local $c i32) (local $pair i64)
      (local.set $c (call $task (i32.const 5) (i32.const 1) (i32.const 1)))
      (local.set $pair (call $f-new))
      (i32.store offset=12 (local.get $c) (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))))
      (call $return-future (i32.wrap_i64 (local.get $pair)))
      (if (i32.eq (call $f-write (i32.load offset=12 (local.get $c)) (local.get $at)) (global.get $BLOCKED))
        (then (return (call $wait (local.get $c) (i32.load offset=12 (local.get $c))))))
      (call $promised (local.get $c)))
{imported}
    (func $cancelled (param $c i32) (result i32) (local $s i32)
      (if (i32.eq (i32.load (local.get $c)) (i32.const 1)) (then
        (local.set $s (i32.load offset=8 (local.get $c)))
        (call $join (local.get $s) (i32.const 0))
        (drop (call $s-cancel-read (local.get $s)))
        (call $s-drop-read (local.get $s))))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 4)) (then
        (local.set $s (i32.load offset=8 (local.get $c)))
        (call $join (local.get $s) (i32.const 0))
        (drop (call $f-cancel-read (local.get $s)))
        (call $f-drop-read (local.get $s))))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 2)) (then
        (local.set $s (i32.load offset=12 (local.get $c)))
        (call $join (local.get $s) (i32.const 0))
        (drop (call $s-cancel-write (local.get $s)))
        (call $s-drop-write (local.get $s))))
      (call $task-cancel)
      (call $end (local.get $c)))
    (func (export "callback") (param $event i32) (param $end i32) (param $r i32) (result i32) (local $c i32)
      (local.set $c (call $ctx-get))
      (if (i32.eq (local.get $event) (i32.const 6)) (then (return (call $cancelled (local.get $c)))))
      (call $join (local.get $end) (i32.const 0))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 1)) (then
        (call $advance (local.get $c) (local.get $r))
        (if (call $dropped (local.get $r)) (then (return (call $collected (local.get $c)))))
        (return (call $collect (local.get $c)))))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 2)) (then
        (call $advance (local.get $c) (local.get $r))
        (if (call $dropped (local.get $r)) (then (return (call $fed (local.get $c)))))
        (return (call $feed (local.get $c)))))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 3)) (then
        (if (i32.load offset=36 (local.get $c))
          (then
            (call $advance (local.get $c) (local.get $r))
            (if (call $dropped (local.get $r)) (then (return (call $relayed (local.get $c))))))
          (else (call $received (local.get $c) (local.get $r))))
        (return (call $relay (local.get $c)))))
      (if (i32.eq (i32.load (local.get $c)) (i32.const 4)) (then
        (return (call $kept (local.get $c) (local.get $r)))))
      (call $promised (local.get $c)))
"""

_IMPORTED = """
    (func (export "gather") (param $room i32) (param $seed i32) (param $most i32) (result i32) (local $c i32)
      (local.set $c (call $task (i32.const 1) (local.get $room) (local.get $seed)))
      (i32.store offset=24 (local.get $c) (local.get $most))
      (i32.store offset=16 (local.get $c) (call $realloc (i32.const 0) (i32.const 0) (i32.const 8)
        (i32.mul (local.get $most) (i32.const {size}))))
      (i32.store offset=8 (local.get $c) (call $source (local.get $room) (local.get $seed)))
      (call $collect (local.get $c)))
    (func (export "pour") (param $at i32) (param $count i32) (param $room i32) (param $seed i32) (result i32)
      (local $c i32)
      (local.set $c (call $begin-feed (local.get $at) (local.get $count) (local.get $room) (local.get $seed)))
      (i32.store offset=36 (local.get $c) (i32.const 1))
      (drop (call $sink (i32.load offset=8 (local.get $c)) (local.get $room) (local.get $seed) {out}))
      (call $feed (local.get $c)))
    (func (export "tap") (param $room i32) (param $seed i32) (result i32) (local $c i32)
      (local.set $c (call $begin-relay (call $source (local.get $room) (local.get $seed))
        (local.get $room) (local.get $seed)))
      (call $return-stream (i32.load offset=40 (local.get $c)))
      (call $relay (local.get $c)))
    (func (export "drain") (param $s i32) (param $room i32) (param $seed i32) (result i32) (local $c i32)
      (local.set $c (call $begin-relay (local.get $s) (local.get $room) (local.get $seed)))
      (drop (call $sink (i32.load offset=40 (local.get $c)) (local.get $room) (local.get $seed) {out}))
      (call $return-u32 (i32.const 7))
      (call $relay (local.get $c)))
"""
EXPORTS = {
    "collect": '(param "s" $S) (param "room" u32) (param "seed" u32) (param "most" u32) (result $L)',
    "feed": '(param "x" $L) (param "room" u32) (param "seed" u32) (result $S)',
    "relay": '(param "s" $S) (param "room" u32) (param "seed" u32) (result $S)',
    "same": '(param "s" $S) (result $S)',
    "same-future": '(param "f" $F) (result $F)',
    "keep": '(param "f" $F) (result $L)',
    "promise": '(param "x" $L) (result $F)',
}
_WITH_IMPORTS = {
    "gather": '(param "room" u32) (param "seed" u32) (param "most" u32) (result $L)',
    "pour": '(param "x" $L) (param "room" u32) (param "seed" u32) (result u32)',
    "tap": '(param "room" u32) (param "seed" u32) (result $S)',
    "drain": '(param "s" $S) (param "room" u32) (param "seed" u32) (result u32)',
}


def _machine(of: WitType | None, encoding: str, *, imports: bool, waits: bool = True) -> str:
    """Return the definitions of a copier: it expects the types ``$S``, ``$F`` and ``$L``."""
    size = 0 if of is None else size_of(of)
    options = f"string-encoding={encoding} (memory $mem) (realloc $realloc)"
    result = f"string-encoding={encoding} (memory $mem)"
    ends = {name: (text.format(options=options, result=result), sig) for name, (text, sig) in _ENDS.items()}
    lowered = linked = wanted = imported = ""
    if imports:
        how, out = ("", "") if waits else ("async (memory $mem)", "i32")
        lowered = f"""  (core func $source' (canon lower (func $source)))
  (core func $sink' (canon lower (func $sink) {how}))"""
        wanted = f"""    (import "" "source" (func $source (param i32 i32) (result i32)))
    (import "" "sink" (func $sink (param i32 i32 i32 {out}) (result i32)))"""
        linked = """    (export "source" (func $source')) (export "sink" (func $sink'))"""
        imported = _IMPORTED.replace("{size}", str(size)).replace("{out}", "(i32.const 512)" if out else "")
    newline = "\n"
    lifted = EXPORTS | (_WITH_IMPORTS if imports else {})
    return f"""{_MEMORY}
{lowered}
{_BUILTINS}
{newline.join(f"  (core func ${name} (canon {text}))" for name, (text, _) in ends.items())}
  (core module $M
    (import "" "mem" (memory 1))
    (import "" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
{wanted}
{_BUILTIN_IMPORTS}
{newline.join(f'    (import "" "{name}" (func ${name} {sig}))' for name, (_, sig) in ends.items())}
{_COPIER.replace("{size}", str(size)).replace("{imported}", imported)})
  (core instance $m (instantiate $M (with "" (instance
    (export "mem" (memory $mem)) (export "realloc" (func $realloc))
{linked}
{_BUILTIN_EXPORTS}
{newline.join(f'    (export "{name}" (func ${name}))' for name in ends)}))))
{newline.join(_lifted(name, sig, options) for name, sig in lifted.items())}"""


def _lifted(name: str, signature: str, options: str) -> str:
    return f"""  (func (export "{name}") async {signature}
    (canon lift (core func $m "{name}") async {options} (callback (core func $m "callback"))))"""


def _ends_of(types: TypeSection, of: WitType | None) -> str:
    element = "" if of is None else f" {types.of(of)}"
    listed = f"(list{element})" if element else "(list u8)"
    return "\n".join(
        [*types.lines, f"  (type $S (stream{element}))", f"  (type $F (future{element}))", f"  (type $L {listed})"]
    )


_IMPORTS = f"""  (import "source" (func $source async {_WITH_IMPORTS["tap"]}))
  (import "sink" (func $sink async {_WITH_IMPORTS["drain"]}))"""


def copier(of: WitType | None, encoding: str = "utf8", *, imports: bool = True, waits: bool = True) -> str:
    """Return the text of a component with the exports of :data:`EXPORTS` for elements of the type ``of``.

    With ``imports`` it also reads the stream of the import ``source`` and writes one to the import ``sink``;
    ``waits``: it waits until ``sink`` returns before it writes.
    """
    made = _ends_of(TypeSection(), of)
    return (
        f"(component\n{made}\n{_IMPORTS if imports else ''}\n{_machine(of, encoding, imports=imports, waits=waits)}\n)"
    )


def resource_copier(whose: str) -> str:
    """Return the text of a copier whose elements are handles of a resource: the host's or the guest's (``whose``).

    The guest's resource has the functions ``make`` and ``number``, and ``dropped`` returns how many were destroyed.
    """
    if whose == "host":
        types = '  (import "thing" (type $thing (sub resource)))\n  (type $own (own $thing))'
        functions = ""
    else:
        types = """  (core module $R (global $n (mut i32) (i32.const 0))
    (func (export "dtor") (param i32) (global.set $n (i32.add (global.get $n) (i32.const 1))))
    (func (export "dropped") (result i32) (global.get $n))
    (func (export "number") (param i32) (result i32) (local.get 0)))
  (core instance $r (instantiate $R))
  (type $thing' (resource (rep i32) (dtor (core func $r "dtor"))))
  (core func $new (canon resource.new $thing'))
  (export $thing "thing" (type $thing'))
  (type $own (own $thing))"""
        functions = """  (func (export "make") (param "n" u32) (result $own) (canon lift (core func $new)))
  (func (export "number") (param "t" (borrow $thing)) (result u32) (canon lift (core func $r "number")))
  (func (export "dropped") (result u32) (canon lift (core func $r "dropped")))"""
    return f"""(component
{types}
  (type $S (stream $own))
  (type $F (future $own))
  (type $L (list $own))
{_machine("u32", "utf8", imports=False)}
{functions}
)"""


def composed(of: WitType | None, first: str, second: str) -> str:
    """Return the text of a component of two copiers with strings in the encodings ``first`` and ``second``.

    The second copier has ``tap`` and ``drain`` of the first as its ``source`` and ``sink``; the first has the host's.
    """
    types = TypeSection()
    made = _ends_of(types, of)
    given = "\n".join(f'    (with "{name}" (type ${name}))' for name in types.imported())
    inner = (f"{made}\n{_IMPORTS}\n{_machine(of, encoding, imports=True)}" for encoding in (first, second))
    one, two = (f"  (component ${name}\n{text})" for name, text in zip(("A", "B"), inner, strict=True))
    return f"""(component
{made}
{_IMPORTS}
{one}
{two}
  (instance $a (instantiate $A
{given}
    (with "source" (func $source)) (with "sink" (func $sink))))
  (instance $b (instantiate $B
{given}
    (with "source" (func $a "tap")) (with "sink" (func $a "drain"))))
  (export "gather" (func $b "gather"))
  (export "pour" (func $b "pour"))
)"""


_WORDS = {
    **_TABLE,
    "s-new": ("stream.new $S", "(result i64)"),
    "s-read": ("stream.read $S async (memory $mem)", "(param i32 i32 i32) (result i32)"),
    "s-read-sync": ("stream.read $S (memory $mem)", "(param i32 i32 i32) (result i32)"),
    "s-write": ("stream.write $S async (memory $mem)", "(param i32 i32 i32) (result i32)"),
    "s-write-sync": ("stream.write $S (memory $mem)", "(param i32 i32 i32) (result i32)"),
    "s-cancel-read": ("stream.cancel-read $S", "(param i32) (result i32)"),
    "s-cancel-write": ("stream.cancel-write $S", "(param i32) (result i32)"),
    "s-drop-read": ("stream.drop-readable $S", "(param i32)"),
    "s-drop-write": ("stream.drop-writable $S", "(param i32)"),
    "f-new": ("future.new $F", "(result i64)"),
    "f-read": ("future.read $F async (memory $mem)", "(param i32 i32) (result i32)"),
    "f-read-sync": ("future.read $F (memory $mem)", "(param i32 i32) (result i32)"),
    "f-write": ("future.write $F async (memory $mem)", "(param i32 i32) (result i32)"),
    "f-cancel-read": ("future.cancel-read $F", "(param i32) (result i32)"),
    "f-cancel-write": ("future.cancel-write $F", "(param i32) (result i32)"),
    "f-drop-read": ("future.drop-readable $F", "(param i32)"),
    "f-drop-write": ("future.drop-writable $F", "(param i32)"),
    "set-wait": ("waitable-set.wait (memory $mem)", "(param i32 i32) (result i32)"),
    "set-poll": ("waitable-set.poll (memory $mem)", "(param i32 i32) (result i32)"),
    "subtask-cancel-async": ("subtask.cancel async", "(param i32) (result i32)"),
    "yield": ("thread.yield", "(result i32)"),
    "return": ("task.return (result u32)", "(param i32)"),
    "return-none": ("task.return", ""),
    "return-u8": ("task.return (result u8)", "(param i32)"),
    "return-utf16": ("task.return (result u32) string-encoding=utf16", "(param i32)"),
    "return-stream": ("task.return (result $S)", "(param i32)"),
    "return-future": ("task.return (result $F)", "(param i32)"),
    "return-pair": ("task.return (result (tuple $S $S))", "(param i32 i32)"),
}


def script(core: str, signatures: dict[str, str], *, imports: dict[str, tuple[str, str, str]] | None = None) -> str:
    """Return the text of a component with the core functions ``core``, which import all built-ins for streams of u8.

    ``signatures``: the component type of each export; its callback is ``<name>-cb`` if there is one, otherwise ``cb``.
    ``imports``: the component type of each import, its core type, and the options of ``canon lower``.
    """
    given = imports or {}
    newline = "\n"
    words = {name: sig for name, (_, sig) in _WORDS.items()} | {name: sig for name, (_, sig, _) in given.items()}
    callbacks = {name: f"{name}-cb" if f'"{name}-cb"' in core else "cb" for name in signatures}
    lifted = (
        f"""  (func (export "{name}") async {sig}
    (canon lift (core func $m "{name}") async (memory $mem) (realloc $realloc)
      (callback (core func $m "{callbacks[name]}"))))"""
        for name, sig in signatures.items()
    )
    return f"""(component
  (type $S (stream u8))
  (type $F (future u8))
{newline.join(f'  (import "{name}" (func ${name} {of}))' for name, (of, _, _) in given.items())}
{_MEMORY}
{newline.join(f"  (core func ${name} (canon {text}))" for name, (text, _) in _WORDS.items())}
{newline.join(f"  (core func ${name}' (canon lower (func ${name}) {of[2]}))" for name, of in given.items())}
  (core module $M
    (import "" "mem" (memory 1))
    (import "" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
{newline.join(f'    (import "" "{name}" (func ${name} {sig}))' for name, sig in words.items())}
    (global $set (export "set") (mut i32) (i32.const 0))
    (global $n (mut i32) (i32.const 0))
    (func $wait (param $end i32) (result i32)
      (if (i32.eqz (global.get $set)) (then (global.set $set (call $set-new))))
      (call $join (local.get $end) (global.get $set))
      (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
    (func $read-end (param $pair i64) (result i32) (i32.wrap_i64 (local.get $pair)))
    (func $write-end (param $pair i64) (result i32) (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable)
{core})
  (core instance $m (instantiate $M (with "" (instance
    (export "mem" (memory $mem)) (export "realloc" (func $realloc))
{newline.join(f'    (export "{name}" (func ${name}))' for name in _WORDS)}
{newline.join(f"    (export {chr(34)}{name}{chr(34)} (func ${name}'))" for name in given)}))))
{newline.join(lifted)}
)"""
