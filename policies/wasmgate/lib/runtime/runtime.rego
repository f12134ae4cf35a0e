# METADATA
# title: Runtime
# description: What is known of the pod's runtime.
package wasmgate.lib.runtime

# METADATA
# scope: document
# description: The runtime as a message names it.
default name := "the pod's runtime"

name := $"runtime class `{input.runtime.runtimeClass}`" if {
	is_string(input.runtime.runtimeClass)
}

# METADATA
# description: |
#   Whether the runtime is known not to start the container's program, because of its packaging, its imports, what it
#   defines or the proposals of WebAssembly that it uses. Nothing is known of a runtime that no profile describes.
cannot_start(container) if {
	is_string(input.runtime.ambient)
	not input.runtime.ambient == "everything"
	is_array(container.runnableBy)
	not input.runtime.ambient in container.runnableBy
}

# METADATA
# description: Whether the runtime starts programs of the container's kind.
runs(container) if {
	input.runtime.wasm
	container.kind in input.runtime.runs
}

# METADATA
# scope: document
# description: Whether a Wasm runtime starts the pod, or may start it although no profile says so.
may_run_wasm if input.runtime.wasm

may_run_wasm if is_string(input.runtime.suspicion)
