package wasmgate.rules.not_inspected

import data.wasmgate.lib.containers
import data.wasmgate.lib.text

# METADATA
# title: Every image on a Wasm runtime was inspected
# description: |
#   The gate must have read every image that a pod starts on a Wasm runtime, and recognised its program. A program that
#   was not read could call anything. The same holds where a Wasm runtime may start the image: an annotation asks crun
#   or youki for a Wasm handler, the gate does not know the runtime class in the cluster, or no profile describes the
#   class and the image or its command suggests Wasm. What mends it depends on the reason, which the message gives.
# custom:
#   remedy: Do what the message says, such as to build the image again or to give the gate access to its registry.
#   severity: high
violations contains violation if {
	some container in input.containers
	not containers.inspected(container)
	not container.role == "imageVolume"
	where_it_may_run_as_wasm
	violation := {
		"rule": "not-inspected",
		"container": container.name,
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)}: {what_failed(container)}{text.evidence(container)}, so what it ",
			$"may call is not known {where_it_may_run_as_wasm}{how_to_mend(container)}",
		]),
	}
}

where_it_may_run_as_wasm := $"under runtime class `{input.runtime.runtimeClass}`" if {
	input.runtime.wasm
} else := input.runtime.suspicion if {
	is_string(input.runtime.suspicion)
}

what_failed(container) := $"image `{text.image(container)}` could not be read: {container.reason}" if {
	container.class == "unread"
} else := $"image `{text.image(container)}` was read, but its program was not recognised: {container.reason}" if {
	is_string(container.reason)
} else := $"image `{text.image(container)}` was read, but its program was not recognised"

# Where the reason says what to do, nothing is added.
how_to_mend(container) := "" if {
	container.fault == "told"
} else := $"; {cure}" if {
	cure := cures[fault_of(container)]
} else := "; ship it as one of the image kinds that the gate knows, or run it without a Wasm runtime class"

fault_of(container) := container.fault if {
	is_string(container.fault)
} else := "registry" if {
	container.class == "unread"
}

cures := {
	"name": "write the name of an image",
	"registry": "name an image that the gate can read, or give it access to the registry",
	"content": "build the image again without this fault, and push it",
	"size": "push a smaller image",
	"time": "try again, and give the registry and the gate more time if it stays so",
}
