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
# description: Whether the runtime starts programs of the container's kind.
runs(container) if {
	input.runtime.wasm
	container.kind in input.runtime.runs
}
