package wasmgate.rules.start_outlasts_probe_test

import data.wasmgate
import data.wasmgate.fixture

refused := probed(100, "livenessProbe", 23)

admitted := probed(1600, "livenessProbe", 23)

# The StarlingMonkey of `src/plan/floor.rs`: 9,007 KB of code.
probed(limit, probe, seconds) := fixture.pod({
	"resources": {"limitMillis": limit, "compileMillis": 15312, "slowestCompileMillis": 35128},
	"firstRestart": {"probe": probe, "afterSeconds": seconds},
})

test_a_probe_that_ends_every_start_is_warned_of_with_the_limit_that_is_enough if {
	wasmgate.violations == {{
		"rule": "start-outlasts-probe",
		"container": "web",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			"container `web` compiles its program at every start, for 154 to 352 seconds under its CPU limit of 100m, and its ",
			"`livenessProbe` may restart it after 23; write `resources.limits.cpu: 1528m` or more, or a `startupProbe` that ",
			"waits longer, or push the program as a Wasm layer, which the node compiles once ",
			"(estimated from the size of its code, as on the calibrated node)",
		]),
	}} with input as refused
}

test_the_limit_that_the_message_names_is_enough if {
	wasmgate.violations == set() with input as probed(1528, "livenessProbe", 23)
	"start-outlasts-probe" in fixture.rules_of(probed(1527, "livenessProbe", 23))
}

test_a_limit_of_the_pod_that_is_too_low_is_the_one_to_raise if {
	said := concat("", [
		"after 23; write `spec.resources.limits.cpu: 1528m` or more and no lower limit in the container, ",
		"or a `startupProbe` that waits longer, or push",
	])
	every limit in [100, 1527] {
		document := fixture.with_workload(refused, {"limits": {"cpuMillis": limit}})
		violations := wasmgate.violations with input as document
		{contains(v.message, said) | some v in violations} == {true}
	}
}

test_a_container_gets_the_limit_that_its_pod_leaves_it if {
	said := "after 23; write `resources.limits.cpu: 1528m` or more, or a `startupProbe` that waits longer, or push"
	every limits in [{"cpuMillis": 1528}, {"memoryBytes": 16777216}] {
		document := fixture.with_workload(refused, {"limits": limits})
		violations := wasmgate.violations with input as document
		{contains(v.message, said) | some v in violations} == {true}
	}
}

# As estimated it would take 22 seconds.
test_a_probe_that_waits_longer_than_estimated_and_not_as_long_as_measured_is_warned_of if {
	"start-outlasts-probe" in fixture.rules_of(probed(700, "livenessProbe", 23))
}

test_a_probe_that_allows_no_time_needs_a_startup_probe if {
	violations := wasmgate.violations with input as probed(100, "livenessProbe", 0)
	said := "may restart it after 0; write a `startupProbe` that waits longer, or push"
	{contains(v.message, said) | some v in violations} == {true}
}

test_more_than_two_processors_count_as_two if {
	said := concat("", [
		"for 8 to 18 seconds under its CPU limit of 16000m, and its `startupProbe` may restart it after 17; write a ",
		"`startupProbe` that waits longer, or push",
	])
	violations := wasmgate.violations with input as probed(16000, "startupProbe", 17)
	{contains(v.message, said) | some v in violations} == {true}
	wasmgate.violations == set() with input as probed(16000, "startupProbe", 18)
	"start-outlasts-probe" in fixture.rules_of(probed(1951, "startupProbe", 18))
	wasmgate.violations == set() with input as probed(1952, "startupProbe", 18)
}

# The highest limit that a profile allows which clamps.
capped(limit, cap) := json.patch(probed(limit, "livenessProbe", 23), [{
	"op": "add",
	"path": "/containers/0/resources/capMillis",
	"value": cap,
}])

test_a_cap_that_forbids_the_limit_that_is_enough_is_named if {
	said := concat("", [
		"after 23; write a `startupProbe` that waits longer (the profile of the runtime allows a CPU limit of 1527m, and ",
		"1528m would be enough), or push",
	])
	every limit in [100, 1527] {
		violations := wasmgate.violations with input as capped(limit, 1527)
		{contains(v.message, said) | some v in violations} == {true}
	}
	every cap in [1528, null] {
		violations := wasmgate.violations with input as capped(100, cap)
		{contains(v.message, "`resources.limits.cpu: 1528m` or more") | some v in violations} == {true}
	}
}

# Two programs that are compiled at the same time under the CPU limit of their pod.
together(limit, seconds) := json.patch(probed(limit, "livenessProbe", seconds), [{
	"op": "add",
	"path": "/containers/0/resources/sharedStart",
	"value": {"limitMillis": limit, "compileMillis": 30624, "slowestCompileMillis": 70256},
}])

test_programs_that_are_compiled_together_for_longer_than_a_probe_waits_are_warned_of if {
	wasmgate.violations == {{
		"rule": "start-outlasts-probe",
		"container": "web",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			"container `web` compiles its program at every start beside other programs of the pod, for 20 to 44 seconds under ",
			"the CPU limit of the pod of 1600m, and its `livenessProbe` may restart it after 23; write ",
			"`spec.resources.limits.cpu: 3055m` or more and no lower limit in the containers, or a `startupProbe` that waits ",
			"longer, or push the programs as Wasm layers, which the node compiles once (estimated from the size of their code, ",
			"as on the calibrated node)",
		]),
	}} with input as together(1600, 23)
	wasmgate.violations == set() with input as together(3055, 23)
	"start-outlasts-probe" in fixture.rules_of(together(3054, 23))
}

test_a_program_that_takes_too_long_alone_is_not_warned_of_twice if {
	violations := wasmgate.violations with input as together(1500, 23)
	{contains(v.message, "under its CPU limit of 1500m") | some v in violations} == {true}
}

test_programs_that_are_compiled_together_under_a_cap_are_told_to_wait if {
	document := json.patch(together(1600, 23), [{
		"op": "add",
		"path": "/containers/0/resources/capMillis",
		"value": 2000,
	}])
	violations := wasmgate.violations with input as document
	said := "write a `startupProbe` that waits longer (the profile of the runtime allows a CPU limit of 2000m, and 3055m"
	{contains(v.message, said) | some v in violations} == {true}
}

# As where the CPU limit of the pod is over the cap, and the container has no limit of its own.
test_programs_are_compiled_together_where_the_limit_of_one_alone_is_not_known if {
	document := json.patch(together(1600, 23), [{
		"op": "replace",
		"path": "/containers/0/resources/limitMillis",
		"value": null,
	}])
	violations := wasmgate.violations with input as document
	{contains(v.message, "beside other programs of the pod") | some v in violations} == {true}
}

test_without_a_limit_a_probe_or_a_measured_time_nothing_is_said if {
	every absent in ["/resources/limitMillis", "/resources/compileMillis", "/resources/slowestCompileMillis"] {
		document := json.patch(refused, [{"op": "replace", "path": $"/containers/0{absent}", "value": null}])
		wasmgate.violations == set() with input as document
	}
	unprobed := json.patch(refused, [{"op": "remove", "path": "/containers/0/firstRestart"}])
	wasmgate.violations == set() with input as unprobed
}
