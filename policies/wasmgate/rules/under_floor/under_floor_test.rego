package wasmgate.rules.under_floor_test

import data.wasmgate
import data.wasmgate.fixture

refused := sized(16777216, 20971520)

admitted := sized(20971520, 20971520)

sized(limit, needed) := fixture.pod({"resources": {"limitBytes": limit, "floorBytes": needed}})

test_a_limit_under_the_floor_is_warned_of if {
	wasmgate.violations == {{
		"rule": "under-floor",
		"mendedBy": "pod",
		"container": "web",
		"action": "warn",
		"message": concat("", [
			"container `web` has a memory limit of 20971519 bytes and needs about 20Mi to start: it may be killed, ",
			"which shows as `OOMKilled`; write `resources.limits.memory: 20Mi` or leave it out",
		]),
	}} with input as sized(20971519, 20971520)
}

# A pod whose memory limit is `limit`; that of its container is 16Mi, and 20Mi are needed.
beside(limit) := fixture.with_workload(refused, {"limits": {"memoryBytes": limit}})

test_a_limit_of_the_pod_that_is_too_low_is_the_one_to_raise if {
	said := concat("", [
		"; write `spec.resources.limits.memory: 20Mi` or leave it out, ",
		"and no lower limit in the container",
	])
	every limit in [16777216, 20971519] {
		violations := wasmgate.violations with input as beside(limit)
		{endswith(v.message, said) | some v in violations} == {true}
	}
}

test_a_container_gets_the_limit_that_its_pod_leaves_it if {
	said := "; write `resources.limits.memory: 20Mi` or leave it out"
	every document in [beside(20971520), fixture.with_workload(refused, {"limits": {"cpuMillis": 100}})] {
		violations := wasmgate.violations with input as document
		{endswith(v.message, said) | some v in violations} == {true}
	}
}

# 20Mi would be over 19.5Mi.
test_the_limit_that_the_message_names_is_held_to_that_of_the_pod_as_it_is_written if {
	document := fixture.with_workload(sized(16777216, 20000000), {"limits": {"memoryBytes": 20447232}})
	violations := wasmgate.violations with input as document
	{contains(v.message, "; write `spec.resources.limits.memory: 20Mi`") | some v in violations} == {true}
}

test_a_limit_is_named_as_it_is_written if {
	violations := wasmgate.violations with input as sized(16777216, 20971520)
	{startswith(v.message, "container `web` has a memory limit of 16Mi and needs") | some v in violations} == {true}
}

test_a_runtime_that_hides_the_reason_of_the_kill_is_said_to if {
	document := object.union(refused, {"runtime": {"hidesOutOfMemory": true}})
	violations := wasmgate.violations with input as document
	shown := "it may be killed, which this runtime shows as `Error` with exit code 137, and not as `OOMKilled`; write"
	{contains(v.message, shown) | some v in violations} == {true}
}

test_a_runtime_that_is_not_known_may_hide_the_reason_of_the_kill if {
	runtime := {"hidesOutOfMemory": true, "ambient": "everything"}
	violations := wasmgate.violations with input as object.union(refused, {"runtime": runtime})
	shown := "it may be killed, which this runtime may show as `Error` with exit code 137, and not as `OOMKilled`; write"
	{contains(v.message, shown) | some v in violations; v.rule == "under-floor"} == {true}
}

shared(limit, needed) := fixture.with_workload(fixture.pod({}), {"sharedMemory": {
	"limitBytes": limit,
	"floorBytes": needed,
}})

test_a_limit_of_the_pod_under_what_its_programs_need_together_is_warned_of if {
	wasmgate.violations == {{
		"rule": "under-floor",
		"mendedBy": "pod",
		"action": "warn",
		"message": concat("", [
			"the pod has a memory limit of 20Mi, and its Wasm containers that run together need about 30Mi to start: one of ",
			"them may be killed, which shows as `OOMKilled`; write `spec.resources.limits.memory: 30Mi`, or leave it out and ",
			"limit each container",
		]),
	}} with input as shared(20971520, 31457280)
}

test_a_limit_of_the_pod_that_is_enough_for_all_is_fine if {
	wasmgate.violations == set() with input as shared(31457280, 31457280)
}

test_a_limit_at_the_floor_is_fine if {
	wasmgate.violations == set() with input as sized(20971520, 20971520)
}

test_no_limit_or_no_floor_is_fine if {
	wasmgate.violations == set() with input as sized(null, 20971520)
	wasmgate.violations == set() with input as sized(20971520, null)
}

test_the_floor_of_a_program_that_is_not_wasm_is_not_known if {
	not "under-floor" in fixture.rules_of(fixture.pod({
		"class": "linux",
		"kind": "linux",
		"resources": {"limitBytes": 1, "floorBytes": 20971520},
	}))
}
