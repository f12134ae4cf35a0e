package wasmgate.rules.runtime_mismatch

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: A Wasm program needs a runtime class that runs its kind
# description: |
#   A container that starts a Wasm program needs a RuntimeClass whose runtime can start programs of that kind.
#   Without one the container fails on the node, or a runtime that no profile describes runs it.
# custom:
#   remedy: Leave `runtimeClassName` out, so that the gate sets it, or write the one that the message names.
#   severity: high
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	not container.role == "imageVolume"
	not runtime.runs(container)
	violation := {
		"rule": "runtime-mismatch",
		"container": container.name,
		"mendedBy": "runtime",
		"message": concat("", [
			$"{text.container(container)} starts {text.kind(container)} from `{text.image(container)}`",
			$"{text.evidence(container)}, and {what_the_class_does}; {what_would_run(container)}",
		]),
	}
}

# METADATA
# title: The runtime of the class can start the program
# description: |
#   A runtime that runs a kind of program may still be unable to start this one: crun and youki do not start Wasm
#   layers, only WasmEdge provides its own sockets, and so on. The container would fail on the node.
# custom:
#   remedy: Package the image in a form that the runtime starts, or use a class of a runtime that the message names.
#   severity: high
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	not container.role == "imageVolume"
	runtime.runs(container)
	runtime.cannot_start(container)
	violation := {
		"rule": "runtime-mismatch",
		"container": container.name,
		"mendedBy": "runtime",
		"message": concat("", [
			$"{text.container(container)} starts {text.kind(container)} from `{text.image(container)}`",
			$"{text.evidence(container)}, and {runtime.name} is {input.runtime.ambient}, which cannot start it by how it ",
			$"is packed or by what it imports: {others(container)}; ship it in another form, or use another class",
		]),
	}
}

others(container) := $"it runs on {concat(", ", container.runnableBy)}" if {
	count(container.runnableBy) > 0
} else := "no runtime that is described does"

what_the_class_does := "the pod has no runtime class" if {
	not is_string(input.runtime.runtimeClass)
} else := $"runtime class `{input.runtime.runtimeClass}` is not known to run Wasm" if {
	not input.runtime.wasm
} else := $"runtime class `{input.runtime.runtimeClass}` runs only {concat(", ", input.runtime.runs)}"

what_would_run(container) := $"write `runtimeClassName: {input.runtime.classFor[container.kind]}`" if {
	input.runtime.classFor[container.kind]
} else := "no runtime class is set up for this kind, ask the platform team for one"
