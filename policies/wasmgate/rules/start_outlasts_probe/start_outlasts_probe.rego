package wasmgate.rules.start_outlasts_probe

import data.wasmgate.lib.text

# METADATA
# title: A program is compiled before a probe restarts it
# description: |
#   A program in a root file system is compiled in its container at every start, under the container's CPU limit. If
#   that takes longer than the startup probe or the liveness probe waits, the kubelet restarts the container, and it
#   never gets further. The time depends on the machine: 1.7 CPU seconds for each MB of code are the estimate, and 3.9
#   the most that was measured, on the slowest day of the calibrated node (`docs/sizing.md`) with runtimes that were
#   built without full optimisation. The rule goes by the most, so it may speak in vain where machines are faster. Only
#   runtimes with wasmtime are judged.
# custom:
#   remedy: |
#     Raise `resources.limits.cpu`, or that of the pod where it is lower (`spec.resources.limits.cpu`), let a
#     `startupProbe` wait longer, or push the program as a Wasm layer, which the node compiles once and outside of the
#     container. Under the limit that the gate fills in, a program compiles in at most 10 seconds as estimated, and in
#     23 at the slowest.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	is_number(container.resources.limitMillis)
	is_number(container.resources.compileMillis)
	is_number(container.resources.slowestCompileMillis)

	# Milliseconds of a whole CPU, divided by thousandths of a CPU, are seconds.
	fast := ceil(container.resources.compileMillis / container.resources.limitMillis)
	slow := ceil(container.resources.slowestCompileMillis / container.resources.limitMillis)
	slow > container.firstRestart.afterSeconds
	violation := {
		"rule": "start-outlasts-probe",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} compiles its program at every start, for {fast} to {slow} seconds under its CPU ",
			$"limit of {container.resources.limitMillis}m, and its `{container.firstRestart.probe}` may restart it after ",
			$"{container.firstRestart.afterSeconds}; {more_time(container)}, or push the program as a Wasm layer, which the ",
			"node compiles once (estimated at 1.7 to 3.9 CPU seconds for each MB of code, as on the calibrated node)",
		]),
	}
}

more_time(container) := $"write {limit(enough)}, or a `startupProbe` that waits longer" if {
	container.firstRestart.afterSeconds > 0
	enough := ceil(container.resources.slowestCompileMillis / container.firstRestart.afterSeconds)
} else := "write a `startupProbe` that waits longer"

# Kubernetes refuses a limit of a container that is over that of its pod.
limit(enough) := $"`spec.resources.limits.cpu: {enough}m` or more and no lower limit in the container" if {
	limit_of_pod < enough
} else := $"`resources.limits.cpu: {enough}m` or more"

limit_of_pod := input.workload.limits.cpuMillis
