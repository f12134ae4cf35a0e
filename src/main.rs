//! The `wasmgate` binary.

fn main() {}
