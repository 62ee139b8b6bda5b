"""Guests in text that use wasi:http 0.3 as no toolchain would: a test gives the body of the function `go`."""

from __future__ import annotations

__all__ = ["CODES", "guest"]

CODES = (
    "DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
    "destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
    "connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
    "TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
    "HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid", "HTTP-request-URI-too-long",
    "HTTP-request-header-section-size", "HTTP-request-header-size", "HTTP-request-trailer-section-size",
    "HTTP-request-trailer-size", "HTTP-response-incomplete", "HTTP-response-header-section-size",
    "HTTP-response-header-size", "HTTP-response-body-size", "HTTP-response-trailer-section-size",
    "HTTP-response-trailer-size", "HTTP-response-transfer-coding", "HTTP-response-content-coding",
    "HTTP-response-timeout", "HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error",
    "internal-error",
)  # fmt: skip
"""The cases of `error-code`, in order."""
_PAYLOADS = {
    "DNS-error": "$dns", "TLS-alert-received": "$tls", "HTTP-request-body-size": "(option u64)",
    "HTTP-request-header-section-size": "(option u32)", "HTTP-request-header-size": "(option $size)",
    "HTTP-request-trailer-section-size": "(option u32)", "HTTP-request-trailer-size": "$size",
    "HTTP-response-header-section-size": "(option u32)", "HTTP-response-header-size": "$size",
    "HTTP-response-body-size": "(option u64)", "HTTP-response-trailer-section-size": "(option u32)",
    "HTTP-response-trailer-size": "$size", "HTTP-response-transfer-coding": "(option string)",
    "HTTP-response-content-coding": "(option string)", "internal-error": "(option string)",
}  # fmt: skip
_CASES = " ".join(f'(case "{name}"{" " + _PAYLOADS[name] if name in _PAYLOADS else ""})' for name in CODES)
_TYPES = f"""
  (import "wasi:http/types@0.3.0" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "request" (type $request (sub resource)))
    (export "request-options" (type $options (sub resource)))
    (export "response" (type $response (sub resource)))
    (type $d (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $d)))
    (type $t (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $t)))
    (type $s (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $size (eq $s)))
    (type $c (variant {_CASES})) (export "error-code" (type $code (eq $c)))
    (type $h (variant (case "invalid-syntax") (case "forbidden") (case "immutable") (case "size-exceeded")
      (case "other" (option string))))
    (export "header-error" (type $header-error (eq $h)))
    (type $body (stream u8))
    (type $trailers (future (result (option (own $fields)) (error $code))))
    (type $done (future (result (error $code))))
    (type $m (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
      (case "options") (case "trace") (case "patch") (case "other" string)))
    (export "method" (type $method (eq $m)))
    (type $sch (variant (case "HTTP") (case "HTTPS") (case "other" string)))
    (export "scheme" (type $scheme (eq $sch)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
      (param "value" (list u8)) (result (result (error $header-error)))))
    (export "[static]request.new" (func (param "headers" (own $fields)) (param "contents" (option $body))
      (param "trailers" $trailers) (param "options" (option (own $options))) (result (tuple (own $request) $done))))
    (export "[method]request.set-method" (func (param "self" (borrow $request)) (param "method" $method)
      (result (result))))
    (export "[method]request.set-scheme" (func (param "self" (borrow $request)) (param "scheme" (option $scheme))
      (result (result))))
    (export "[method]request.set-authority" (func (param "self" (borrow $request))
      (param "authority" (option string)) (result (result))))
    (export "[method]request.get-headers" (func (param "self" (borrow $request)) (result (own $fields))))
    (export "[static]request.consume-body" (func (param "this" (own $request)) (param "res" $done)
      (result (tuple $body $trailers))))
    (export "[method]response.get-status-code" (func (param "self" (borrow $response)) (result u16)))
    (export "[static]response.consume-body" (func (param "this" (own $response)) (param "res" $done)
      (result (tuple $body $trailers))))))
  (alias export $types "fields" (type $fields))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))
  (alias export $types "error-code" (type $code))
  (import "wasi:http/client@0.3.0" (instance $client
    (alias outer 1 $request (type $rq)) (export "request" (type $request (eq $rq)))
    (alias outer 1 $response (type $rs)) (export "response" (type $response (eq $rs)))
    (alias outer 1 $code (type $ec)) (export "error-code" (type $code (eq $ec)))
    (export "send" (func async (param "request" (own $request))
      (result (result (own $response) (error $code)))))))
  (type $body (stream u8))
  (type $trailers (future (result (option (own $fields)) (error $code))))
  (type $done (future (result (error $code))))
  (core module $memory (memory (export "m") 2)
    (global $top (mut i32) (i32.const 70000))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $top (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.get $top)
      (global.set $top (i32.add (global.get $top) (local.get 3)))))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "m" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
"""
_CANON = {
    "fields": ('lower (func $types "[constructor]fields")', "(result i32)"),
    "append": ('lower (func $types "[method]fields.append")', "(param i32 i32 i32 i32 i32 i32)"),
    "new": ('lower (func $types "[static]request.new")', "(param i32 i32 i32 i32 i32 i32 i32)"),
    "set-method": ('lower (func $types "[method]request.set-method")', "(param i32 i32 i32 i32) (result i32)"),
    "set-scheme": ('lower (func $types "[method]request.set-scheme")', "(param i32 i32 i32 i32 i32) (result i32)"),
    "set-authority": ('lower (func $types "[method]request.set-authority")', "(param i32 i32 i32 i32) (result i32)"),
    "headers": ('lower (func $types "[method]request.get-headers")', "(param i32) (result i32)"),
    "consume-request": ('lower (func $types "[static]request.consume-body")', "(param i32 i32 i32)"),
    "status": ('lower (func $types "[method]response.get-status-code")', "(param i32) (result i32)"),
    "consume": ('lower (func $types "[static]response.consume-body")', "(param i32 i32 i32)"),
    "send": ('lower (func $client "send")', "(param i32 i32)"),
    "send-async": ('lower (func $client "send") async', "(param i32 i32) (result i32)"),
    "drop-request": ("resource.drop $request", "(param i32)"),
    "drop-response": ("resource.drop $response", "(param i32)"),
    "drop-fields": ("resource.drop $fields", "(param i32)"),
    "subtask-cancel": ("subtask.cancel", "(param i32) (result i32)"),
    "subtask-drop": ("subtask.drop", "(param i32)"),
    "body": ("stream.new $body", "(result i64)"),
    "read": ("stream.read $body", "(param i32 i32 i32) (result i32)"),
    "write": ("stream.write $body", "(param i32 i32 i32) (result i32)"),
    "drop-reader": ("stream.drop-readable $body", "(param i32)"),
    "drop-writer": ("stream.drop-writable $body", "(param i32)"),
    "trailers": ("future.new $trailers", "(result i64)"),
    "read-trailers": ("future.read $trailers", "(param i32 i32) (result i32)"),
    "write-trailers": ("future.write $trailers", "(param i32 i32) (result i32)"),
    "write-trailers-async": ("future.write $trailers async", "(param i32 i32) (result i32)"),
    "done": ("future.new $done", "(result i64)"),
    "read-done": ("future.read $done", "(param i32 i32) (result i32)"),
    "write-done": ("future.write $done", "(param i32 i32) (result i32)"),
    "write-done-async": ("future.write $done async", "(param i32 i32) (result i32)"),
}
_WITHOUT_MEMORY = (
    "resource.drop",
    "subtask.",
    "stream.new",
    "future.new",
    ".drop-",
    "[constructor]",
    "get-headers",
    "get-status",
)
_HELPERS = """
    (func $low (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
    (func $high (param i64) (result i32) (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))))
    ;; a request for the authority in memory; its handle is at 480, its future at 484
    (func $make (param $contents i32) (param $trailers i32)
      (call $new (call $fields) (i32.ne (local.get $contents) (i32.const 0)) (local.get $contents)
        (local.get $trailers) (i32.const 0) (i32.const 0) (i32.const 480))
      (drop (call $set-scheme (i32.load (i32.const 480)) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
      (drop (call $set-authority (i32.load (i32.const 480)) (i32.const 1) (i32.const 1024) (global.get $size)))
      (if (local.get $contents) (then
        (drop (call $set-method (i32.load (i32.const 480)) (i32.const 2) (i32.const 0) (i32.const 0))))))
    ;; a request without a body and with no trailers
    (func $get (local $t i64)
      (local.set $t (call $trailers))
      (call $make (i32.const 0) (call $low (local.get $t)))
      (i64.store (i32.const 200) (i64.const 0))
      (i64.store (i32.const 208) (i64.const 0))
      (drop (call $write-trailers-async (call $high (local.get $t)) (i32.const 200))))
    ;; send the request at 480: 0 with the response at 8, or 100 and more, by the number of the error code
    (func $sent (result i32)
      (call $send (i32.load (i32.const 480)) (i32.const 0))
      (if (result i32) (i32.load8_u (i32.const 0))
        (then (i32.add (i32.const 100) (i32.load8_u (i32.const 8)))) (else (i32.const 0))))
    ;; take the body of the response at 8: its stream is at 488, its trailers at 492
    (func $take (local $d i64)
      (local.set $d (call $done))
      (call $consume (i32.load (i32.const 8)) (call $low (local.get $d)) (i32.const 488))
      (i32.store8 (i32.const 160) (i32.const 0))
      (drop (call $write-done-async (call $high (local.get $d)) (i32.const 160))))
    ;; 0 for a value, or 100 and more, by the number of the error code, of the future `done`
    (func $outcome (param i32) (result i32)
      (drop (call $read-done (local.get 0) (i32.const 240)))
      (if (result i32) (i32.load8_u (i32.const 240))
        (then (i32.add (i32.const 100) (i32.load8_u (i32.const 248)))) (else (i32.const 0))))
    (func $end (param i32) (result i32)
      (drop (call $read-trailers (local.get 0) (i32.const 320)))
      (if (result i32) (i32.load8_u (i32.const 320))
        (then (i32.add (i32.const 100) (i32.load8_u (i32.const 328)))) (else (i32.load8_u (i32.const 328)))))
"""


def guest(authority: str, body: str) -> str:
    """Return a component whose `go` has the given body, with locals $a to $d (i32) and $w to $z (i64).

    The authority is at 1024; the first kibibyte is free below 512, where the helpers keep what they name.
    """
    canons, imports, exports = [], [], []
    for name, (text, kind) in _CANON.items():
        options = "" if any(part in text for part in _WITHOUT_MEMORY) else " (memory (core memory $m))"
        if text.startswith("lower") and options:
            options += " (realloc (core func $realloc))"
        if ".read" in text or ".write" in text:
            options += " (realloc (core func $realloc))" if ".read" in text else ""
        canons.append(f"(core func ${name} (canon {text}{options}))")
        imports.append(f'(import "" "{name}" (func ${name} {kind}))')
        exports.append(f'(export "{name}" (func ${name}))')
    return f"""(component {_TYPES}
  {" ".join(canons)}
  (core module $main
    (import "" "m" (memory 2)) {" ".join(imports)}
    (global $size i32 (i32.const {len(authority)}))
    (data (i32.const 1024) "{authority}")
    {_HELPERS}
    (func (export "go") (result i32)
      (local $a i32) (local $b i32) (local $c i32) (local $d i32)
      (local $w i64) (local $x i64) (local $y i64) (local $z i64)
      {body}))
  (core instance $main (instantiate $main (with "" (instance (export "m" (memory $m)) {" ".join(exports)}))))
  (func (export "go") async (result u32) (canon lift (core func $main "go"))))"""
