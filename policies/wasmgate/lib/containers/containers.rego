# METADATA
# title: Containers
# description: What is known of a container's program.
package wasmgate.lib.containers

# METADATA
# scope: document
# description: |
#   Whether the image was read and its program recognised. A Wasm program of an unknown kind is recognised:
#   `runtime-mismatch` refuses it, since no runtime runs it.
inspected(container) if container.class in {"wasm", "native"}

inspected(container) if {
	container.class == "linux"
	not container.kind == "unknown"
}
