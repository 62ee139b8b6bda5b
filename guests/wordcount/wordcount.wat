;; wordcount: counts lines, words and bytes of files or of stdin, as wc(1) does.
;;
;; It uses nothing but WASI preview 1 and needs no toolchain. A guest has no current directory: it
;; sees the directories granted to it as descriptors 3, 4, … with names, and finds for each path the
;; one with the longest name that the path begins with, as a C library for WASI does.
;;
;; Memory:  0       an iovec: pointer, length
;;          8       results of WASI calls (8 bytes)
;;          32      the line under construction
;;          1024    messages
;;          4096    the name of a preopened directory, at most 4096 bytes
;;          65536   the read buffer, 64 KiB
;;          131072  pointers to the arguments, then their text
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 3)
  (data (i32.const 1024) "wordcount: ")
  (data (i32.const 1040) "total\00")
  (data (i32.const 1048) ".\00")
  (data (i32.const 1050) "\n")
  (data (i32.const 1052) ": ")
  (data (i32.const 1056) "no such file\00")
  (data (i32.const 1088) "is a directory\00")
  (data (i32.const 1120) "permission denied\00")
  (data (i32.const 1152) "no grant covers this path\00")
  (data (i32.const 1184) "cannot be read\00")
  (data (i32.const 1200) "standard input\00")

  (global $lines (mut i64) (i64.const 0))
  (global $words (mut i64) (i64.const 0))
  (global $bytes (mut i64) (i64.const 0))
  (global $total_lines (mut i64) (i64.const 0))
  (global $total_words (mut i64) (i64.const 0))
  (global $total_bytes (mut i64) (i64.const 0))
  (global $failed (mut i32) (i32.const 0))
  (global $directory (mut i32) (i32.const 0))  ;; set by $resolve: where to open …
  (global $relative (mut i32) (i32.const 0))   ;; … and which path beneath it

  ;; --- output -----------------------------------------------------------------------------------

  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (loop $next
      (if (i32.load8_u (local.get $end))
        (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $next))))
    (i32.sub (local.get $end) (local.get $text)))

  ;; A write may accept only a part, so repeat until nothing is left.
  (func $write (param $fd i32) (param $text i32) (param $size i32)
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $size)))
        (i32.store (i32.const 0) (local.get $text))
        (i32.store (i32.const 4) (local.get $size))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 1))))
        (local.set $text (i32.add (local.get $text) (i32.load (i32.const 8))))
        (local.set $size (i32.sub (local.get $size) (i32.load (i32.const 8))))
        (br $more))))

  (func $write_text (param $fd i32) (param $text i32)
    (call $write (local.get $fd) (local.get $text) (call $length (local.get $text))))

  ;; Appends $number in decimal at $at and returns the new end.
  (func $append (param $at i32) (param $number i64) (result i32)
    (if (i64.ge_u (local.get $number) (i64.const 10))
      (then (local.set $at (call $append (local.get $at) (i64.div_u (local.get $number) (i64.const 10))))))
    (i32.store8 (local.get $at)
      (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
    (i32.add (local.get $at) (i32.const 1)))

  (func $append_space (param $at i32) (result i32)
    (i32.store8 (local.get $at) (i32.const 32))
    (i32.add (local.get $at) (i32.const 1)))

  ;; Writes "LINES WORDS BYTES NAME"; $name 0 leaves the name out.
  (func $report (param $lines i64) (param $words i64) (param $bytes i64) (param $name i32)
    (local $end i32)
    (local.set $end (call $append_space (call $append (i32.const 32) (local.get $lines))))
    (local.set $end (call $append_space (call $append (local.get $end) (local.get $words))))
    (local.set $end (call $append (local.get $end) (local.get $bytes)))
    (if (local.get $name) (then (local.set $end (call $append_space (local.get $end)))))
    (call $write (i32.const 1) (i32.const 32) (i32.sub (local.get $end) (i32.const 32)))
    (if (local.get $name) (then (call $write_text (i32.const 1) (local.get $name))))
    (call $write (i32.const 1) (i32.const 1050) (i32.const 1)))

  (func $message (param $errno i32) (result i32)
    (if (i32.eq (local.get $errno) (i32.const 44)) (then (return (i32.const 1056))))  ;; noent
    (if (i32.eq (local.get $errno) (i32.const 31)) (then (return (i32.const 1088))))  ;; isdir
    (if (i32.eq (local.get $errno) (i32.const 2)) (then (return (i32.const 1120))))   ;; acces
    (if (i32.eq (local.get $errno) (i32.const 63)) (then (return (i32.const 1120))))  ;; perm
    (if (i32.eq (local.get $errno) (i32.const 76)) (then (return (i32.const 1152))))  ;; notcapable
    (i32.const 1184))

  (func $complain (param $name i32) (param $errno i32)
    (global.set $failed (i32.const 1))
    (call $write (i32.const 2) (i32.const 1024) (i32.const 11))
    (call $write_text (i32.const 2) (local.get $name))
    (call $write (i32.const 2) (i32.const 1052) (i32.const 2))
    (call $write_text (i32.const 2) (call $message (local.get $errno)))
    (call $write (i32.const 2) (i32.const 1050) (i32.const 1)))

  ;; --- paths ------------------------------------------------------------------------------------

  (func $is (param $at i32) (param $byte i32) (result i32)
    (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)))

  ;; Skips every leading "/" and "./", and a "." that is all: relative and absolute paths mean the same.
  (func $strip (param $path i32) (result i32)
    (loop $next
      (if (call $is (local.get $path) (i32.const 47))
        (then (local.set $path (i32.add (local.get $path) (i32.const 1))) (br $next)))
      (if (call $is (local.get $path) (i32.const 46))
        (then
          (if (call $is (i32.add (local.get $path) (i32.const 1)) (i32.const 47))
            (then (local.set $path (i32.add (local.get $path) (i32.const 2))) (br $next)))
          (if (call $is (i32.add (local.get $path) (i32.const 1)) (i32.const 0))
            (then (local.set $path (i32.add (local.get $path) (i32.const 1))))))))
    (local.get $path))

  ;; Is the $size bytes long $prefix a prefix of $path, in whole components?
  (func $covers (param $prefix i32) (param $size i32) (param $path i32) (result i32)
    (if (i32.eqz (local.get $size)) (then (return (i32.const 1))))
    (loop $next
      (if (local.get $size)
        (then
          (if (i32.ne (i32.load8_u (local.get $prefix)) (i32.load8_u (local.get $path)))
            (then (return (i32.const 0))))
          (local.set $prefix (i32.add (local.get $prefix) (i32.const 1)))
          (local.set $path (i32.add (local.get $path) (i32.const 1)))
          (local.set $size (i32.sub (local.get $size) (i32.const 1)))
          (br $next))))
    (i32.or (call $is (local.get $path) (i32.const 47)) (call $is (local.get $path) (i32.const 0))))

  ;; The length of a preopen's name, without the slashes at its end.
  (func $name_length (param $name i32) (result i32)
    (local $size i32)
    (local.set $size (call $length (local.get $name)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $size)))
        (br_if $done
          (i32.eqz
            (call $is (i32.add (local.get $name) (i32.sub (local.get $size) (i32.const 1))) (i32.const 47))))
        (local.set $size (i32.sub (local.get $size) (i32.const 1)))
        (br $next)))
    (local.get $size))

  ;; Puts the name of the preopen $fd at 4096, with a NUL after it; returns 1 when there is one.
  (func $preopen (param $fd i32) (result i32)
    (local $size i32)
    (if (call $fd_prestat_get (local.get $fd) (i32.const 8)) (then (return (i32.const 0))))
    (local.set $size (i32.load (i32.const 12)))
    (if (i32.gt_u (local.get $size) (i32.const 4096)) (then (local.set $size (i32.const 0))))
    (if (call $fd_prestat_dir_name (local.get $fd) (i32.const 4096) (local.get $size))
      (then (return (i32.const 0))))
    (i32.store8 offset=4096 (local.get $size) (i32.const 0))
    (i32.const 1))

  ;; Finds the preopen for $path: sets $directory and $relative, returns 1 when there is one.
  (func $resolve (param $path i32) (result i32)
    (local $fd i32) (local $name i32) (local $size i32) (local $best i32)
    (local.set $path (call $strip (local.get $path)))
    (local.set $best (i32.const -1))
    (local.set $fd (i32.const 3))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (call $preopen (local.get $fd))))
        (local.set $name (call $strip (i32.const 4096)))
        (local.set $size (call $name_length (local.get $name)))
        (if (i32.and
              (i32.gt_s (local.get $size) (local.get $best))
              (call $covers (local.get $name) (local.get $size) (local.get $path)))
          (then
            (local.set $best (local.get $size))
            (global.set $directory (local.get $fd))))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next)))
    (if (i32.lt_s (local.get $best) (i32.const 0)) (then (return (i32.const 0))))
    (global.set $relative (call $strip (i32.add (local.get $path) (local.get $best))))
    (if (call $is (global.get $relative) (i32.const 0)) (then (global.set $relative (i32.const 1048))))
    (i32.const 1))

  ;; --- counting ---------------------------------------------------------------------------------

  ;; Counts the $size bytes in the read buffer; $inside is whether the last byte belongs to a word, and is returned.
  (func $count_buffer (param $size i32) (param $inside i32) (result i32)
    (local $at i32) (local $end i32) (local $byte i32) (local $lines i32) (local $words i32) (local $blank i32)
    (local.set $at (i32.const 65536))
    (local.set $end (i32.add (i32.const 65536) (local.get $size)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.load8_u (local.get $at)))
        (local.set $lines (i32.add (local.get $lines) (i32.eq (local.get $byte) (i32.const 10))))
        (local.set $blank
          (i32.or
            (i32.eq (local.get $byte) (i32.const 32))
            (i32.lt_u (i32.sub (local.get $byte) (i32.const 9)) (i32.const 5))))
        (local.set $words
          (i32.add (local.get $words) (i32.eqz (i32.or (local.get $blank) (local.get $inside)))))
        (local.set $inside (i32.eqz (local.get $blank)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (global.set $lines (i64.add (global.get $lines) (i64.extend_i32_u (local.get $lines))))
    (global.set $words (i64.add (global.get $words) (i64.extend_i32_u (local.get $words))))
    (global.set $bytes (i64.add (global.get $bytes) (i64.extend_i32_u (local.get $size))))
    (local.get $inside))

  ;; Counts all bytes of $fd; returns the error number that stopped it, 0 at the end.
  (func $count (param $fd i32) (result i32)
    (local $inside i32) (local $errno i32)
    (global.set $lines (i64.const 0))
    (global.set $words (i64.const 0))
    (global.set $bytes (i64.const 0))
    (loop $more
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (local.set $errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (local.get $errno) (then (return (local.get $errno))))
      (local.set $inside (call $count_buffer (i32.load (i32.const 8)) (local.get $inside)))
      (br_if $more (i32.load (i32.const 8))))
    (global.set $total_lines (i64.add (global.get $total_lines) (global.get $lines)))
    (global.set $total_words (i64.add (global.get $total_words) (global.get $words)))
    (global.set $total_bytes (i64.add (global.get $total_bytes) (global.get $bytes)))
    (i32.const 0))

  ;; Opens the file $name for reading, and nothing more; its descriptor is then at 8.
  (func $open (param $name i32) (result i32)
    (if (i32.eqz (call $resolve (local.get $name))) (then (return (i32.const 76))))
    (call $path_open
      (global.get $directory)
      (i32.const 1)                          ;; follow symbolic links
      (global.get $relative) (call $length (global.get $relative))
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0)  ;; right: fd_read
      (i32.const 8)))

  (func $count_file (param $name i32)
    (local $fd i32) (local $errno i32)
    (local.set $errno (call $open (local.get $name)))
    (if (i32.eqz (local.get $errno))
      (then
        (local.set $fd (i32.load (i32.const 8)))
        (local.set $errno (call $count (local.get $fd)))
        (drop (call $fd_close (local.get $fd)))))
    (if (local.get $errno)
      (then (call $complain (local.get $name) (local.get $errno)))
      (else
        (call $report (global.get $lines) (global.get $words) (global.get $bytes) (local.get $name)))))

  ;; --- arguments --------------------------------------------------------------------------------

  ;; Fetches the arguments, growing the memory to hold them; returns how many there are.
  (func $arguments (result i32)
    (local $count i32) (local $end i32)
    (if (call $args_sizes_get (i32.const 8) (i32.const 12)) (then (return (i32.const 0))))
    (local.set $count (i32.load (i32.const 8)))
    (local.set $end
      (i32.add (i32.const 131072) (i32.add (i32.shl (local.get $count) (i32.const 2)) (i32.load (i32.const 12)))))
    (if (i32.eq (memory.grow (i32.shr_u (i32.sub (local.get $end) (i32.const 131072)) (i32.const 16))) (i32.const -1))
      (then (call $proc_exit (i32.const 1))))
    (if (call $args_get
          (i32.const 131072)
          (i32.add (i32.const 131072) (i32.shl (local.get $count) (i32.const 2))))
      (then (return (i32.const 0))))
    (local.get $count))

  (func $count_stdin
    (local $errno i32)
    (local.set $errno (call $count (i32.const 0)))
    (if (local.get $errno)
      (then (call $complain (i32.const 1200) (local.get $errno)))
      (else (call $report (global.get $lines) (global.get $words) (global.get $bytes) (i32.const 0)))))

  (func (export "_start")
    (local $count i32) (local $index i32)
    (local.set $count (call $arguments))
    (if (i32.lt_u (local.get $count) (i32.const 2))
      (then (call $count_stdin))
      (else
        (local.set $index (i32.const 1))
        (loop $next
          (call $count_file
            (i32.load (i32.add (i32.const 131072) (i32.shl (local.get $index) (i32.const 2)))))
          (local.set $index (i32.add (local.get $index) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $index) (local.get $count))))
        (if (i32.gt_u (local.get $count) (i32.const 2))
          (then
            (call $report
              (global.get $total_lines) (global.get $total_words) (global.get $total_bytes)
              (i32.const 1040))))))
    (if (global.get $failed) (then (call $proc_exit (i32.const 1))))))
