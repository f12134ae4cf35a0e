package wasmgate.rules.resize_ignored_test

import data.wasmgate
import data.wasmgate.fixture

refused := resized({"ignoresResize": true})

admitted := resized({})

resized(runtime) := object.union(fixture.pod({}), {
	"request": {"operation": "UPDATE", "subResource": "resize"},
	"runtime": runtime,
})

test_a_resize_that_changes_nothing_on_the_node_is_warned_of if {
	wasmgate.violations == {{
		"rule": "resize-ignored",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			"runtime class `wasmtime` ignores a resize: the API will report it as completed, and the containers keep the ",
			"limits with which they started, although those of the pod as a whole may change; create the pod again with the ",
			"new sizes",
		]),
	}} with input as refused
}

test_a_runtime_that_is_not_known_may_change_nothing if {
	violations := wasmgate.violations with input as resized({"ignoresResize": true, "ambient": "everything"})
	said := concat("", [
		"runtime class `wasmtime` may ignore a resize: the API will report it as completed, and the containers may keep ",
		"the limits with which they started",
	])
	{contains(v.message, said) | some v in violations; v.rule == "resize-ignored"} == {true}
}

test_a_new_pod_of_the_same_runtime_is_fine if {
	wasmgate.violations == set() with input as object.union(fixture.pod({}), {"runtime": {"ignoresResize": true}})
}
