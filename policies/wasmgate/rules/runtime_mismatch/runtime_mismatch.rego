package wasmgate.rules.runtime_mismatch

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: A Wasm program needs a runtime class that runs its kind
# description: |
#   A container that starts a Wasm program needs a RuntimeClass whose runtime can start programs of that kind.
#   Without one the container fails on the node, or a runtime that no profile describes runs it. The mutating webhook
#   sets it on new pods, unless it warns why not. A new pod without one bypassed that webhook: it was not called, it
#   failed, or another webhook changed the pod later.
# custom:
#   remedy: |
#     Leave `runtimeClassName` out, so that the gate sets it, or write the one that the message names. If it was left
#     out, make sure that the mutating webhook is called.
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
			$"{text.evidence(container)}, and {what_the_class_does}; {what_would_run(class_for(container))}",
		]),
	}
}

# METADATA
# title: The runtime of the class can start the program
# description: |
#   A runtime that runs a kind of program may still be unable to start this one: crun and youki do not start Wasm
#   layers, only WasmEdge provides its own sockets, runwasi's wasmtime shim has one memory and one table for each core
#   module and runs no exceptions, and so on. The container would fail on the node. Where the nodes have a later engine,
#   the profile says which proposals of WebAssembly that one runs (`proposals`).
# custom:
#   remedy: |
#     Build or package the image as the message says, or use a class of a runtime that it names. If the nodes have a
#     later engine, or one that allocates on demand, have the profile say so.
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
			$"{text.evidence(container)}, and {runtime.name} is {input.runtime.ambient}, which {obstacle(container)}",
		]),
	}
}

# An input that was recorded by an earlier version does not say what the runtime lacks.
obstacle(container) := $"cannot start it: {container.cannotStart}; {elsewhere(container)}" if {
	is_string(container.cannotStart)
} else := concat("", [
	"cannot start it by how it is packed, by what it imports, by the memories and tables that it defines or by a ",
	$"proposal of WebAssembly that it uses: {others(container)}; ship it in another form, or use another class",
])

elsewhere(container) := $"{others(container)} under another class" if {
	count(container.runnableBy) > 0
} else := "no runtime that is described starts it as it is"

others(container) := $"it may run on {concat(", ", container.runnableBy)}" if {
	count(container.runnableBy) > 0
} else := "no runtime that is described does"

what_the_class_does := "the pod has no runtime class" if {
	not is_string(input.runtime.runtimeClass)
} else := $"runtime class `{input.runtime.runtimeClass}` is not known to run Wasm" if {
	not input.runtime.wasm
} else := $"runtime class `{input.runtime.runtimeClass}` runs only {concat(", ", input.runtime.runs)}"

class_for(container) := input.runtime.classFor[container.kind] if {
	input.runtime.classFor[container.kind]
} else := null

what_would_run(class) := $"{how} `runtimeClassName: {class}`{why_not_set}" if {
	is_string(class)
} else := "no runtime class is set up for this kind, ask the platform team for one"

default how := "write"

# No update changes the class of a pod.
how := "create a pod, since an update cannot set it, with" if {
	is_update_of_a_pod
} else := "give the container a pod of its own with" if {
	count(classes) > 1
}

# A rule of its own: in an `else` chain the compiled code no longer shows which keys of the input it reads.
is_update_of_a_pod if {
	input.request.operation == "UPDATE"
	not input.workload.template
}

# The classes on which the programs of the pod are placed.
classes contains input.runtime.classFor[container.kind] if {
	some container in input.containers
	container.class == "wasm"
	container.role in {"container", "initContainer"}
}

# The mutating webhook keeps a class that a pod has, and sets none where one does not do.
default why_not_set := ""

why_not_set := text.unmutated if {
	not is_string(input.runtime.runtimeClass)
	count(classes) == 1
}
