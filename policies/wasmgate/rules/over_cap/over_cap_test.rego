package wasmgate.rules.over_cap_test

import data.wasmgate
import data.wasmgate.fixture

refused := capped(134217728, 33554432)

admitted := capped(33554432, 33554432)

capped(limit, cap) := fixture.pod({"resources": {"limitBytes": limit, "capBytes": cap}})

test_a_limit_over_the_cap_is_refused_with_the_most_that_may_stand_there if {
	wasmgate.violations == {{
		"rule": "over-cap",
		"mendedBy": "pod",
		"container": "web",
		"message": concat("", [
			"container `web` has a memory limit of 128Mi, and runtime class `wasmtime` leaves it at most 32Mi; ",
			"leave it out or write `resources.limits.memory: 32Mi` (wasmgate does so on new pods: its mutating webhook ",
			"warned why not, failed or was not called; see its `failurePolicy`, `namespaceSelector` and ",
			"`reinvocationPolicy`)",
		]),
	}} with input as capped(134217728, 33554432)
}

test_an_amount_that_is_no_whole_mebibyte_can_be_written_as_it_is_named if {
	violations := wasmgate.violations with input as capped(134217728, 33554433)
	{contains(v.message, "leave it out or write `resources.limits.memory: 33554433` (") | some v in violations} == {true}
}

test_processors_are_capped_too if {
	violations := wasmgate.violations with input as fixture.pod({"resources": {"limitMillis": 201, "capMillis": 200}})
	{contains(v.message, "has a cpu limit of 201m,") | some v in violations} == {true}
}

test_nothing_said_of_a_limit_or_no_cap_is_fine if {
	wasmgate.violations == set() with input as capped(null, 33554432)
	wasmgate.violations == set() with input as capped(134217728, null)
	wasmgate.violations == set() with input as unlimited({})
}

# A container without a limit of its own, under a profile that clamps.
unlimited(changes) := fixture.pod({"resources": object.union(unsized, changes)})

unsized := {"limitBytes": null, "limitMillis": null, "capBytes": 33554432, "capMillis": 200}

test_a_limit_of_zero_is_over_every_cap if {
	wasmgate.violations == {{
		"rule": "over-cap",
		"mendedBy": "pod",
		"container": "web",
		"message": concat("", [
			"container `web` has no memory limit, of its own or of its pod (zero means none), and runtime class ",
			"`wasmtime` leaves it at most 32Mi; write `resources.limits.memory: 32Mi` in the container, and no limit of ",
			"zero there or in `spec.resources`",
		]),
	}} with input as unlimited({"unlimited": ["memory"]})
	violations := wasmgate.violations with input as unlimited({"unlimited": ["memory", "cpu"]})
	{contains(v.message, "write `resources.limits.cpu: 200m`") | some v in violations} == {true, false}
}

test_a_limit_of_the_pod_over_the_cap_is_refused_where_the_container_has_no_other if {
	wasmgate.violations == {{
		"rule": "over-cap",
		"mendedBy": "pod",
		"container": "web",
		"message": concat("", [
			"container `web` has no memory limit but that of its pod, 8192Mi, and runtime class `wasmtime` leaves it at ",
			"most 32Mi; write `resources.limits.memory: 32Mi` in the container",
		]),
	}} with input as unlimited({"podLimitBytes": 8589934592, "podLimitMillis": 200})
	violations := wasmgate.violations with input as unlimited({"podLimitMillis": 201})
	{contains(v.message, "no cpu limit but that of its pod, 201m,") | some v in violations} == {true}
	wasmgate.violations == set() with input as unlimited({"podLimitBytes": 33554432})
}

test_a_resize_to_no_limit_is_judged_and_another_update_is_not if {
	resized := {"request": {"operation": "UPDATE", "subResource": "resize"}}
	document := unlimited({"unlimited": ["cpu"]})
	"over-cap" in fixture.rules_of(object.union(document, resized))
	updated := {"request": {"operation": "UPDATE", "subResource": null}}
	not "over-cap" in fixture.rules_of(object.union(document, updated))
}

test_an_update_that_changes_no_size_is_not_held_up_and_a_resize_is_judged if {
	document := capped(134217728, 33554432)
	with_request := object.union(document, {"request": {"operation": "UPDATE", "subResource": ""}})
	not "over-cap" in fixture.rules_of(with_request)
	resized := wasmgate.violations with input as object.union(with_request, {"request": {"subResource": "resize"}})
	{endswith(v.message, "write `resources.limits.memory: 32Mi`") | some v in resized} == {true}
	"over-cap" in fixture.rules_of(object.union(with_request, {"workload": {"template": true}}))
}
