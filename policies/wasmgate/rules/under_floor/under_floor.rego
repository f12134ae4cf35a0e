package wasmgate.rules.under_floor

import data.wasmgate.lib.text

# METADATA
# title: The memory limit is enough to start
# description: |
#   With a memory limit below what the program needs to start, the kernel kills it (OOM). The floor is an estimate from
#   the size of its code, its initial memory, and whether the shim or the container compiles it; a container that does
#   also reads the whole file, debug information included, and takes more with more than two processors. No measured
#   program needed more; small ones started with less (`docs/sizing.md`). Spin's shim was not measured: its 24Mi is a
#   guess. A kill under runwasi's shims or Spin's does not show as `OOMKilled`, so it looks like a crash of the program,
#   and where the profile says `ambient: everything`, one of them may be the runtime.
# custom:
#   remedy: |
#     Raise `resources.limits.memory`, or leave it out so that the gate sets it. Where the pod has a limit that is too
#     low, raise `spec.resources.limits.memory` first: Kubernetes refuses a higher one of a container.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	is_number(container.resources.limitBytes)
	is_number(container.resources.floorBytes)
	container.resources.limitBytes < container.resources.floorBytes
	violation := {
		"rule": "under-floor",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} has a memory limit of {text.memory(container.resources.limitBytes)} and needs about ",
			$"{text.mebibytes(container.resources.floorBytes)} to start: it may be killed, {killed}; write ",
			cure(text.mebibytes(container.resources.floorBytes), container.resources.floorBytes),
		]),
	}
}

# METADATA
# title: The memory limit of the pod is enough for its programs together
# description: |
#   Under a memory limit of the pod (`spec.resources`) its containers share that memory, and the kernel kills one of
#   them where it is less than the programs need that run together. An init container that is no sidecar runs beside
#   the sidecars before it alone. What Linux containers need is not known, and not counted.
# custom:
#   remedy: Raise `spec.resources.limits.memory`, or leave it out and limit each container.
#   severity: medium
violations contains violation if {
	shared := input.workload.sharedMemory
	shared.limitBytes < shared.floorBytes
	violation := {
		"rule": "under-floor",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"the pod has a memory limit of {text.memory(shared.limitBytes)}, and its Wasm containers that run together need ",
			$"about {text.mebibytes(shared.floorBytes)} to start: one of them may be killed, {killed}; write ",
			$"`spec.resources.limits.memory: {text.mebibytes(shared.floorBytes)}`, or leave it out and limit each container",
		]),
	}
}

default killed := "which shows as `OOMKilled`"

killed := $"which this runtime {shows} as `Error` with exit code 137, and not as `OOMKilled`" if {
	input.runtime.hidesOutOfMemory
}

default shows := "shows"

# The runtime is not known, as of `crun-wasm` and `wasmer` among the built-in classes: crun and youki show the reason.
shows := "may show" if input.runtime.ambient == "everything"

# Kubernetes refuses a limit of a container that is over that of its pod.
cure(size, least) := $"`spec.resources.limits.memory: {size}` or leave it out, and no lower limit in the container" if {
	limit_of_pod < ceil(least / 1048576) * 1048576
} else := $"`resources.limits.memory: {size}` or leave it out"

limit_of_pod := input.workload.limits.memoryBytes
