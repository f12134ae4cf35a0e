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
			"(estimated at 1.7 to 3.9 CPU seconds for each MB of code, as on the calibrated node)",
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

test_without_a_limit_a_probe_or_a_measured_time_nothing_is_said if {
	every absent in ["/resources/limitMillis", "/resources/compileMillis", "/resources/slowestCompileMillis"] {
		document := json.patch(refused, [{"op": "replace", "path": $"/containers/0{absent}", "value": null}])
		wasmgate.violations == set() with input as document
	}
	unprobed := json.patch(refused, [{"op": "remove", "path": "/containers/0/firstRestart"}])
	wasmgate.violations == set() with input as unprobed
}
