package wasmgate.rules.exec_probe_on_wasm_shim

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Probes and hooks run no command where the shim cannot
# description: |
#   The runwasi and Spin shims cannot run a command in a running container, not even in a Linux container of the pod.
#   Exec probes and lifecycle hooks fail every time, and the kubelet restarts or kills the container. A `preStop` hook
#   never runs; that is only a warning, as is any such hook on a runtime of which that is not known (crun, and those
#   that no profile describes).
# custom:
#   remedy: Use `httpGet`, `tcpSocket` or `grpc` instead of `exec`, or remove the hook.
#   severity: medium
violations contains violation if {
	input.runtime.wasm
	some container in input.containers
	not may_start_another(container)
	some hook in container.execHooks
	violation := {
		"rule": "exec-probe-on-wasm-shim",
		"container": container.name,
		"action": exec_action(hook),
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} has an `exec` command in its `{hook}`, and {runtime.name} {cannot_exec} run ",
			$"commands in a container, a Linux one included: {consequence[hook]}; use `httpGet`, or leave it out",
		]),
	}
}

# METADATA
# title: Probes and hooks start no program that was not judged
# description: |
#   youki starts the command of an exec probe or a lifecycle hook as it starts the container's own: if it names another
#   Wasm program of the image, that one runs, with all variables of the container. The same is assumed of a runtime that
#   no profile describes. Only the program of the container itself is judged.
# custom:
#   remedy: Use `httpGet`, `tcpSocket` or `grpc` instead of `exec`, or remove the hook.
#   severity: high
violations contains violation if {
	some container in input.containers
	may_start_another(container)
	some hook in container.execHooks
	violation := {
		"rule": "exec-probe-on-wasm-shim",
		"container": container.name,
		"action": "deny",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} has an `exec` command in its `{hook}`, and {runtime.name} may start it as another ",
			"Wasm program, which was not judged; use `httpGet`, or leave it out",
		]),
	}
}

# A container that starts a Linux program is as trusted as any program that a command can start in it.
may_start_another(container) if {
	input.runtime.mayExec
	container.class == "wasm"
}

may_start_another(container) if {
	input.runtime.mayExec
	input.runtime.wasm
	container.class in {"unknown", "unread"}
}

exec_action(hook) := "deny" if {
	input.runtime.noExec
	not hook == "lifecycle.preStop"
} else := "warn"

default cannot_exec := "probably cannot"

cannot_exec := "cannot" if input.runtime.noExec

consequence := {
	"livenessProbe": "the container is restarted again and again",
	"readinessProbe": "the pod never becomes ready",
	"startupProbe": "the container is restarted again and again",
	"lifecycle.postStart": "the container is killed as soon as it has started",
	"lifecycle.preStop": "the hook is passed over",
}
