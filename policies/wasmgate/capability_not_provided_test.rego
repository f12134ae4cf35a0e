package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["capability-not-provided"] := fixture.pod({"missing": [{
	"capability": "keyvalue",
	"name": "default",
	"evidence": ["import wasi:keyvalue/store"],
}]})

admitted["capability-not-provided"] := fixture.pod({"missing": [{
	"capability": "clock",
	"evidence": ["import wasi:clocks/wall-clock"],
}]})

test_what_the_runtime_does_not_hand_over_is_warned_of if {
	wasmgate.violations == {{
		"rule": "capability-not-provided",
		"container": "web",
		"capability": "keyvalue",
		"action": "warn",
		"message": concat("", [
			"container `web` can call `keyvalue` `default` (seen: import wasi:keyvalue/store), ",
			"but runtime class `wasmtime` does not hand it over: the call will fail there",
		]),
	}} with input as fixture.pod({"missing": [{
		"capability": "keyvalue",
		"name": "default",
		"evidence": ["import wasi:keyvalue/store"],
	}]})
}

test_a_pod_without_a_class_is_told_of_its_runtime if {
	violations := wasmgate.violations with input as fixture.on(fixture.none, {
		"class": "linux",
		"kind": "linux",
		"missing": [{"capability": "keyvalue", "evidence": ["import wasi:keyvalue/store"]}],
	})
	{v.message | some v in violations} == {concat("", [
		"container `web` can call `keyvalue` (seen: import wasi:keyvalue/store), ",
		"but the pod's runtime does not hand it over: the call will fail there",
	])}
}

test_what_every_toolchain_links_in_is_not_warned_of if {
	wasmgate.violations == set() with input as fixture.pod({"missing": [entry |
		some capability in ["stdio", "args", "clock", "random"]
		entry := {"capability": capability, "evidence": ["import"]}
	]})
}
