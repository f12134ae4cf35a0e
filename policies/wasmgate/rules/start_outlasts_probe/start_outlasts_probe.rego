package wasmgate.rules.start_outlasts_probe

import data.wasmgate.lib.text

# METADATA
# title: A program is compiled before a probe restarts it
# description: |
#   A program in a root file system is compiled in its container at every start, under the container's CPU limit. If
#   that takes longer than the startup probe or the liveness probe waits, the kubelet restarts the container, and it
#   never gets further. The time depends on the machine: the message says the seconds on the quickest and on the
#   slowest that was measured (`docs/sizing.md`), with runtimes that were built without full optimisation. The rule
#   goes by the slowest, so it may speak in vain where machines are faster. A CPU limit of more than two processors
#   counts as two, with which it was measured. Only runtimes with wasmtime are judged.
# custom:
#   remedy: |
#     Raise `resources.limits.cpu`, or that of the pod where it is lower (`spec.resources.limits.cpu`), let a
#     `startupProbe` wait longer, or push the program as a Wasm layer, which the node compiles once and outside of the
#     container. Or leave the limit out: the gate fills one in with which the program is compiled before the probe
#     restarts it, unless the profile clamps, a LimitRange allows less, or the probe waits for less time than two
#     processors take.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	outlasts_alone(container)

	# Milliseconds of a whole CPU, divided by thousandths of a CPU, are seconds.
	fast := ceil(container.resources.compileMillis / counted(container.resources.limitMillis))
	slow := ceil(container.resources.slowestCompileMillis / counted(container.resources.limitMillis))
	violation := {
		"rule": "start-outlasts-probe",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} compiles its program at every start, for {fast} to {slow} seconds under its CPU ",
			$"limit of {container.resources.limitMillis}m, and its `{container.firstRestart.probe}` may restart it after ",
			$"{container.firstRestart.afterSeconds}; {more_time(container)}, or push the program as a Wasm layer, which the ",
			"node compiles once (estimated from the size of its code, as on the calibrated node)",
		]),
	}
}

# METADATA
# title: Programs that start together are compiled before a probe restarts one of them
# description: |
#   Under a CPU limit of the pod (`spec.resources`) its containers share that limit. Where several programs are
#   compiled at the same time, each may take as long as all of them together, and a probe may restart the last. A
#   sidecar may still be compiled when the next container starts. An init container that is no sidecar is compiled
#   beside the sidecars before it alone.
# custom:
#   remedy: |
#     Raise `spec.resources.limits.cpu`, let a `startupProbe` wait longer, or push the programs as Wasm layers, which
#     the node compiles once and outside of the pod.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	not outlasts_alone(container)
	shared := container.resources.sharedStart
	slow := ceil(shared.slowestCompileMillis / shared.limitMillis)
	slow > container.firstRestart.afterSeconds
	fast := ceil(shared.compileMillis / shared.limitMillis)
	violation := {
		"rule": "start-outlasts-probe",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} compiles its program at every start beside other programs of the pod, for {fast} to ",
			$"{slow} seconds under the CPU limit of the pod of {shared.limitMillis}m, and its ",
			$"`{container.firstRestart.probe}` may restart it after {container.firstRestart.afterSeconds}; ",
			$"{more_time_together(container)}, or push the programs as Wasm layers, which the node compiles once (estimated ",
			"from the size of their code, as on the calibrated node)",
		]),
	}
}

# Whether it takes too long even if nothing else is compiled.
outlasts_alone(container) if {
	is_number(container.resources.limitMillis)
	is_number(container.resources.compileMillis)
	is_number(container.resources.slowestCompileMillis)
	slow := ceil(container.resources.slowestCompileMillis / counted(container.resources.limitMillis))
	slow > container.firstRestart.afterSeconds
}

# What of a CPU limit counts for one program: that more than two processors compile it faster was not measured.
counted(limit) := 2000 if {
	limit > 2000
} else := limit

more_time(container) := $"write {limit(enough)}, or a `startupProbe` that waits longer" if {
	enough := enough_alone(container)
	not is_over_cap(container, enough)
} else := longer_probe(container, enough_alone(container)) if {
	is_over_cap(container, enough_alone(container))
} else := "write a `startupProbe` that waits longer"

more_time_together(container) := concat("", [
	$"write `spec.resources.limits.cpu: {enough}m` or more and no lower limit in the containers, ",
	"or a `startupProbe` that waits longer",
]) if {
	enough := enough_for(container, container.resources.sharedStart.slowestCompileMillis)
	not is_over_cap(container, enough)
} else := longer_probe(container, enough) if {
	enough := enough_for(container, container.resources.sharedStart.slowestCompileMillis)
	is_over_cap(container, enough)
} else := "write a `startupProbe` that waits longer"

# The least limit under which the program alone is compiled in time; undefined where two processors are not enough.
enough_alone(container) := enough if {
	enough := enough_for(container, container.resources.slowestCompileMillis)
	counted(enough) == enough
}

# The least limit under which that much CPU time ends in time; undefined where the probe allows no time.
enough_for(container, millis) := ceil(millis / container.firstRestart.afterSeconds) if {
	container.firstRestart.afterSeconds > 0
}

is_over_cap(container, enough) if {
	is_number(container.resources.capMillis)
	container.resources.capMillis < enough
}

longer_probe(container, enough) := concat("", [
	"write a `startupProbe` that waits longer (the profile of the runtime allows a CPU limit of ",
	$"{container.resources.capMillis}m, and {enough}m would be enough)",
])

# Kubernetes refuses a limit of a container that is over that of its pod.
limit(enough) := $"`spec.resources.limits.cpu: {enough}m` or more and no lower limit in the container" if {
	limit_of_pod < enough
} else := $"`resources.limits.cpu: {enough}m` or more"

limit_of_pod := input.workload.limits.cpuMillis
