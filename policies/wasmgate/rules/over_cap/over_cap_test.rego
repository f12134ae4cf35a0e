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

test_no_limit_or_no_cap_is_fine if {
	wasmgate.violations == set() with input as capped(null, 33554432)
	wasmgate.violations == set() with input as capped(134217728, null)
}

test_an_update_that_changes_no_size_is_not_held_up_and_a_resize_is_judged if {
	document := capped(134217728, 33554432)
	with_request := object.union(document, {"request": {"operation": "UPDATE", "subResource": ""}})
	not "over-cap" in fixture.rules_of(with_request)
	resized := wasmgate.violations with input as object.union(with_request, {"request": {"subResource": "resize"}})
	{endswith(v.message, "write `resources.limits.memory: 32Mi`") | some v in resized} == {true}
	"over-cap" in fixture.rules_of(object.union(with_request, {"workload": {"template": true}}))
}
