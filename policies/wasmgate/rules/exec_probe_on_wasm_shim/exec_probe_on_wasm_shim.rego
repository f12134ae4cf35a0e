package wasmgate.rules.exec_probe_on_wasm_shim

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: No probe or hook runs a command where the shim cannot
# description: |
#   The runwasi and Spin shims cannot run a command in a container that runs, not even in a Linux container of the pod:
#   exec probes and lifecycle hooks fail every time, and the container is restarted or killed for it. A `preStop` hook
#   never runs, which is a warning, as is any such hook on a runtime that no profile describes.
# custom:
#   remedy: Use `httpGet`, `tcpSocket` or `grpc` in the place of `exec`, or leave the hook out.
#   severity: medium
violations contains violation if {
	input.runtime.wasm
	some container in input.containers
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

# Known not to (`containerd-shimkit:src/shim/local.rs`).
shims_without_exec := {"runwasi-wasmtime", "spin"}

exec_action(hook) := "deny" if {
	input.runtime.ambient in shims_without_exec
	not hook == "lifecycle.preStop"
} else := "warn"

default cannot_exec := "probably cannot"

cannot_exec := "cannot" if input.runtime.ambient in shims_without_exec

consequence := {
	"livenessProbe": "the container is restarted again and again",
	"readinessProbe": "the pod never becomes ready",
	"startupProbe": "the container is restarted again and again",
	"lifecycle.postStart": "the container is killed as soon as it has started",
	"lifecycle.preStop": "the hook is passed over",
}
