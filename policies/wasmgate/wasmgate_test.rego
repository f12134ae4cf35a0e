package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

# The tests of a rule say of one document that it is `refused`, and that the nearest one is `admitted`. `policies/docs`
# shows what the rule says of the first.
refused[rule] := document if {
	some name
	document := wasmgate.rules[name].refused
	rule := rule_of(name)
}

admitted[rule] := document if {
	some name
	document := wasmgate.rules[name].admitted
	rule := rule_of(name)
}

rule_of(name) := replace(trim_suffix(name, "_test"), "_", "-")

test_every_rule_speaks_of_its_example_and_not_of_the_nearest_neighbour if {
	object.keys(refused) == object.keys(admitted)
	every rule, document in refused {
		rule in fixture.rules_of(document)
	}
	every rule, document in admitted {
		not rule in fixture.rules_of(document)
	}
}

test_every_example_names_nothing_that_is_missing if {
	every document in refused {
		violations := wasmgate.violations with input as object.union({"apiVersion": "none"}, document)
		every violation in violations {
			not contains(violation.message, "<undefined>")
		}
	}
}

test_every_example_matches_the_schema if {
	every rule, document in object.remove(refused, ["unknown-input"]) {
		[rule, json.match_schema(document, data.schema.input)] == [rule, [true, []]]
	}
	every rule, document in admitted {
		[rule, json.match_schema(document, data.schema.input)] == [rule, [true, []]]
	}
}

test_every_violation_matches_the_schema_and_says_what_mends_it if {
	every rule, document in refused {
		violations := wasmgate.violations with input as document
		[rule, json.match_schema([v | some v in violations], data.schema.violations)] == [rule, [true, []]]
		every violation in violations {
			violation.mendedBy
		}
	}
}

test_one_uncovered_capability_is_one_denial if {
	expired := [{"grant": "WasiGrant/old", "expiresAt": "2026-01-01T00:00:00Z"}]
	every entry in [
		{"capability": "fs", "evidence": []},
		{"capability": "fs", "secret": true, "path": "/a", "evidence": []},
		{"capability": "fs", "secret": true, "path": "/a", "evidence": [], "expiredGrants": expired},
		{"capability": "native.plugin", "evidence": []},
		{"capability": "native.plugin", "evidence": [], "expiredGrants": expired},
		{"capability": "native.exec", "evidence": []},
		{"capability": "native.exec", "evidence": [], "expiredGrants": expired},
		{"capability": "unknown-import", "evidence": []},
		{"capability": "a later one", "evidence": [], "expiredGrants": []},
	] {
		every runtime in [fixture.wasmtime, fixture.wasmedge, fixture.spin] {
			document := fixture.on(object.union(runtime, {"runs": ["http-component"]}), {"effective": [entry]})
			violations := wasmgate.violations with input as document
			count([v | some v in violations; v.capability == entry.capability]) == 1
		}
	}
}

test_a_covered_component_on_its_runtime_is_admitted if {
	wasmgate.violations == set() with input as fixture.pod({})
}

test_a_linux_pod_is_admitted_whatever_is_known_of_it if {
	every class in ["linux", "unread", "unknown"] {
		document := fixture.on(fixture.none, {
			"image": "docker.io/library/nginx:1",
			"class": class,
			"kind": "unknown",
			"privileged": true,
			"hostPorts": [80],
			"hostPaths": [{"path": "/", "mountPath": "/host", "readOnly": false}],
			"execHooks": ["livenessProbe"],
		})
		wasmgate.violations == set() with input as fixture.with_options(
			fixture.with_workload(document, {"hostNetwork": true, "hostPID": true, "hostIPC": true}),
			{"strictAmbient": true},
		)
	}
}
