package wasmgate.rules.resize_ignored

import data.wasmgate.lib.runtime

# METADATA
# title: A resize reaches the running container
# description: |
#   The runwasi and Spin shims do not change the sizes of a running container, and where the profile says
#   `ambient: everything`, as that of `wasmer` does, one of them may be. The API server accepts the resize and reports
#   it as completed, and the container's cgroup keeps its old limits; what the kubelet changes is the cgroup of the pod
#   as a whole. A resize that restarts each container which it changes, as their `resizePolicy` says, is not judged:
#   they start again with the new sizes. A
#   container without a limit of its own has that of its pod (`spec.resources`), and is changed with it. Where every
#   container keeps its limits and the pod alone is resized, that reaches it.
# custom:
#   remedy: |
#     Change the sizes in the workload's template, or delete the pod and create it with the new ones. Where pods are to
#     be resized, write `resizePolicy` with `restartPolicy: RestartContainer` for `cpu` and `memory` beforehand.
#   severity: medium
violations contains violation if {
	input.request.subResource == "resize"
	input.runtime.ignoresResize
	violation := {
		"rule": "resize-ignored",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{runtime.name} {ignores} a resize: the API will report it as completed, and the containers {keep} the limits ",
			"with which they started, although those of the pod as a whole may change; create the pod again with the new sizes",
		]),
	}
}

# The runtime is not known, as of `crun-wasm` and `wasmer` among the built-in classes.
is_any_runtime if input.runtime.ambient == "everything"

default ignores := "ignores"

ignores := "may ignore" if is_any_runtime

default keep := "keep"

keep := "may keep" if is_any_runtime
