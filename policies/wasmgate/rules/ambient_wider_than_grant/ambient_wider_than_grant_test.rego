package wasmgate.rules.ambient_wider_than_grant_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.with_options(fixture.pod({"ambient": [data_mount]}), {"strictAmbient": true})

admitted := fixture.pod({"ambient": [data_mount]})

data_mount := {
	"capability": "fs",
	"path": "/data",
	"access": "read-write",
	"evidence": ["volumeMount /data (persistentVolumeClaim data)", "runtime wasmtime preopens /"],
	"coveredBy": [],
}

strict_ambient(value, changes) := fixture.with_options(fixture.pod(changes), {"strictAmbient": value})

test_a_mount_without_a_grant_is_refused_where_the_platform_is_strict if {
	wasmgate.violations == {{
		"rule": "ambient-wider-than-grant",
		"mendedBy": "ambient-grant",
		"container": "web",
		"capability": "fs",
		"message": concat("", [
			"container `web` is handed `fs` on `/data` (read-write) and no grant allows it ",
			"(seen: volumeMount /data (persistentVolumeClaim data), runtime wasmtime preopens /); ",
			"its program cannot use it as it is: take it away, or ask the platform team for a grant",
		]),
	}} with input as refused
}

test_only_a_plain_false_switches_it_off if {
	fixture.rules_of(strict_ambient(false, {"ambient": [data_mount]})) == set()
	every value in ["true", "no", 0, null] {
		fixture.rules_of(strict_ambient(value, {"ambient": [data_mount]})) == {"ambient-wider-than-grant"}
	}
}

test_what_the_kernel_shows_in_every_root_is_no_ambient_thing if {
	memory := {"capability": "native.exec", "opens": true, "evidence": ["/proc/self/mem"], "coveredBy": []}
	fixture.rules_of(strict_ambient(true, {"ambient": [memory]})) == set()
}

test_other_options_and_none_at_all_leave_it_off if {
	fixture.rules_of(fixture.with_options(fixture.pod({"ambient": [data_mount]}), {"other": true})) == set()
	fixture.rules_of(object.remove(fixture.pod({"ambient": [data_mount]}), ["options"])) == set()
}

test_a_mount_that_a_grant_covers_is_admitted if {
	granted := object.union(data_mount, {"coveredBy": ["WasiGrant/data"]})
	fixture.rules_of(strict_ambient(true, {"ambient": [granted]})) == set()
}

test_what_the_program_can_use_is_for_the_other_rules if {
	fixture.rules_of(strict_ambient(true, {"ambient": [data_mount], "effective": [data_mount]})) == {"needs-grant"}
	other := object.union(data_mount, {"path": "/other", "coveredBy": ["WasiGrant/data"]})
	fixture.rules_of(strict_ambient(true, {"ambient": [data_mount], "effective": [other]})) == {"ambient-wider-than-grant"}
}

test_an_entry_with_another_parameter_is_another_one if {
	every parameter in ["path", "name", "host", "port"] {
		entry := {"capability": "net.tcp.connect", parameter: "a", "evidence": [], "coveredBy": []}
		granted := object.union(entry, {"coveredBy": ["WasiGrant/a"]})
		every other in [object.union(granted, {parameter: "b"}), object.remove(granted, [parameter])] {
			document := strict_ambient(true, {"ambient": [entry], "effective": [other]})
			fixture.rules_of(document) == {"ambient-wider-than-grant"}
		}
		fixture.rules_of(strict_ambient(true, {"ambient": [entry], "effective": [granted]})) == set()
	}
}

test_a_runtime_that_may_hand_over_everything_is_told_of_in_one_message if {
	handed := [
		data_mount,
		{"capability": "nn", "evidence": ["taken to hand over everything"], "coveredBy": []},
		{"capability": "tls", "evidence": ["taken to hand over everything"], "coveredBy": ["WasiGrant/tls"]},
		{"capability": "threads", "evidence": ["taken to hand over everything"], "coveredBy": []},
	]
	wasmedge := object.union(fixture.wasmedge, {"runs": ["module"]})
	document := fixture.with_options(fixture.on(wasmedge, {"kind": "module", "ambient": handed}), {"strictAmbient": true})
	violations := wasmgate.violations with input as document
	count(violations) == 2
	wanted := {
		"rule": "ambient-wider-than-grant",
		"mendedBy": "platform",
		"container": "web",
		"message": concat("", [
			"container `web` is handed everything, as far as is known of runtime class `wasmedge`, and no grant allows ",
			"`nn`, `threads`; its program cannot use it as it is: take it away, or ask the platform team for a grant",
		]),
	}
	wanted in violations
}

test_a_program_that_the_runtime_does_not_run_is_handed_nothing if {
	document := strict_ambient(true, {"kind": "spin-app", "ambient": [data_mount]})
	fixture.rules_of(document) == {"runtime-mismatch"}
}

test_no_grant_is_offered_for_a_program_that_the_runtime_cannot_start if {
	changes := {"kind": "module", "runnableBy": ["crun-wasmedge"], "ambient": [data_mount]}
	violations := wasmgate.violations with input as strict_ambient(true, changes)
	{endswith(v.message, "take it away; no grant helps as long as `runtime-mismatch` refuses the container") |
		some v in violations
		v.rule == "ambient-wider-than-grant"
	} == {true}
}
