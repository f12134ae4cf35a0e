package wasmgate.rules.native_code

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.text

# METADATA
# title: No native code where Wasm was declared
# description: |
#   A Wasm layer holds native machine code (such as a precompiled module), or an image packed as Wasm starts a native
#   program. Imports say nothing about native code, so no grant can limit it.
# custom:
#   remedy: Ship the portable `.wasm` file, and let the runtime compile it.
#   severity: critical
violations contains violation if {
	some container in input.containers
	not container.role == "imageVolume"
	some found in native(container)
	violation := {
		"rule": "native-code",
		"container": container.name,
		"capability": "native.exec",
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)}: image `{text.image(container)}` is packed as Wasm and holds native code: {found}; ",
			"no grant can bound what native code does: ship the portable `.wasm` file and let the runtime compile it",
		]),
	}
}

native(container) := [$"`{file.magic}` in `{file.source}`" | some file in container.native] if {
	count(container.native) > 0
} else := [container.reason] if {
	container.class == "native"
	is_string(container.reason)
} else := ["the program that it starts"] if {
	container.class == "native"
} else := [text.places(entry) | some entry in container.effective; of_the_image(entry)]

# Native code by way of the kernel's files is not in the image: `host-process-in-reach` reports it.
of_the_image(entry) if {
	entry.capability == "native.exec"
	not entry.opens
}

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	of_the_image(found.entry)
}
