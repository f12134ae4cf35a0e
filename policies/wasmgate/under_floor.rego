package wasmgate

import data.wasmgate.text

# METADATA
# title: The memory limit is enough to start
# description: |
#   A memory limit below what the program needs to start ends in an out-of-memory kill. The floor comes from the size
#   of its code, its initial memory and who compiles it.
# custom:
#   remedy: Raise `resources.limits.memory`, or leave it out so that the gate sets it.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	container.resources.limitBytes < container.resources.floorBytes
	is_number(container.resources.limitBytes)
	violation := {
		"rule": "under-floor",
		"container": container.name,
		"action": "warn",
		"message": concat("", [
			$"{text.container(container)} has a memory limit of {text.memory(container.resources.limitBytes)} and needs about ",
			$"{text.mebibytes(container.resources.floorBytes)} to start; write `resources.limits.memory: ",
			$"{text.mebibytes(container.resources.floorBytes)}` or leave it out",
		]),
	}
}
