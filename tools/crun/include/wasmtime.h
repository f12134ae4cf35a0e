// The types that crun's handler for wasmtime names, as the C API of wasmtime 25 has them (wasmtime:crates/c-api/include). Its
// functions are looked up by name when a container starts. The package that has the library has no headers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct wasm_byte_vec_t {
    size_t size;
    char *data;
} wasm_byte_vec_t;
typedef wasm_byte_vec_t wasm_name_t;

typedef struct wasmtime_func {
    uint64_t store_id;
    size_t index;
} wasmtime_func_t;

typedef struct wasi_config_t wasi_config_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_val wasmtime_val_t;
