package wasmgate.rules.start_outlasts_probe

import data.wasmgate.lib.text

# METADATA
# title: A program is compiled before a probe restarts it
# description: |
#   A program in a root file system is compiled in its container at every start, under the container's CPU limit. If
#   that takes longer than the startup probe or the liveness probe waits, the kubelet restarts the container, and it
#   never gets further. The time is an estimate: 1.7 CPU seconds for each MB of code, as measured on the calibrated node
#   (`docs/sizing.md`) with runtimes that were built without full optimisation. A slower machine takes longer: on its
#   slowest day that node took 3.9. Only runtimes with wasmtime are judged.
# custom:
#   remedy: |
#     Raise `resources.limits.cpu` or leave it out, let a `startupProbe` wait longer, or push the program as a Wasm
#     layer, which the node compiles once and outside of the container.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	is_number(container.resources.limitMillis)
	is_number(container.resources.compileMillis)

	# Milliseconds of a whole CPU, divided by thousandths of a CPU, are seconds.
	seconds := ceil(container.resources.compileMillis / container.resources.limitMillis)
	seconds > container.firstRestart.afterSeconds
	violation := {
		"rule": "start-outlasts-probe",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} compiles its program at every start, for about {seconds} seconds under its CPU limit ",
			$"of {container.resources.limitMillis}m, and its `{container.firstRestart.probe}` may restart it after ",
			$"{container.firstRestart.afterSeconds}; {more_time(container)}, or push the program as a Wasm layer, which the ",
			"node compiles once (estimated at 1.7 CPU seconds for each MB of code, as on the calibrated node)",
		]),
	}
}

more_time(container) := $"write `resources.limits.cpu: {enough}m` or more, or a `startupProbe` that waits longer" if {
	container.firstRestart.afterSeconds > 0
	enough := ceil(container.resources.compileMillis / container.firstRestart.afterSeconds)
} else := "write a `startupProbe` that waits longer"
