;; Prints a line and then waits, a second at a time, for work that never comes. It writes to streams that are already open and
;; reads the clock, both of which every program is granted.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\1d\00\00\00")   ;; one iovec: 29 bytes at 16
  (data (i32.const 16) "a Wasm image, ready for work\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 80) (i32.const 1))            ;; one subscription at 64: to the monotonic clock,
    (i64.store (i32.const 88) (i64.const 1000000000))   ;; a second from now
    (loop $again
      (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 160)))
      (br $again))))
