package wasmgate.rules.needs_grant_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"effective": [fixture.clock, fixture.connect]})

admitted := fixture.pod({"effective": [
	fixture.clock,
	object.union(fixture.connect, {"coveredBy": ["WasiGrant/orders-api"]}),
]})

test_a_capability_that_no_grant_covers_is_refused_with_the_grant_that_would if {
	wasmgate.violations == {{
		"rule": "needs-grant",
		"mendedBy": "grant",
		"container": "web",
		"capability": "net.tcp.connect",
		"message": concat("", [
			"container `web` may use `net.tcp.connect` to `*:5432` and no grant allows it ",
			"(seen: import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect, ",
			"runwasi gives components the network); a WasiGrant in namespace `shop` would, ",
			"with this under `spec.capabilities`:\n",
			"- { name: net.tcp.connect, hosts: [\"*:5432\"] }",
		]),
	}} with input as fixture.pod({"effective": [fixture.clock, fixture.connect]})
}

test_why_a_grant_by_name_does_not_count_is_said if {
	why := "`WasiGrant/orders-api` does not count: `https://a.example` is a name"
	named := object.union(fixture.connect, {"notHeld": why})
	violations := wasmgate.violations with input as fixture.pod({"effective": [named]})
	said := $"runwasi gives components the network); {why}; a WasiGrant in namespace `shop` would"
	{contains(v.message, said) | some v in violations} == {true}
}

test_any_host_is_said_in_words if {
	anywhere := object.union(fixture.connect, {"host": "*://*:*"})
	violations := wasmgate.violations with input as fixture.pod({"effective": [anywhere]})
	{startswith(v.message, "container `web` may use `net.tcp.connect` to any host and") | some v in violations} == {true}
}

test_a_capability_that_a_grant_covers_is_admitted if {
	covered := object.union(fixture.connect, {"coveredBy": ["orders-api"]})
	wasmgate.violations == set() with input as fixture.pod({"effective": [fixture.clock, covered]})
}

test_required_alone_or_ambient_alone_needs_no_grant if {
	every list in ["requires", "ambient"] {
		wasmgate.violations == set() with input as fixture.pod({list: [fixture.connect]})
	}
}

test_an_entry_that_does_not_say_who_covers_it_is_refused if {
	entry := json.remove(fixture.connect, ["coveredBy"])
	fixture.rules_of(fixture.pod({"effective": [entry]})) == {"needs-grant"}
}

test_every_uncovered_capability_of_every_container_is_named if {
	document := fixture.with_containers(fixture.pod({}), [
		object.union(fixture.web, {"name": "a", "role": "initContainer", "effective": [fixture.connect]}),
		object.union(fixture.web, {"name": "b", "effective": [
			{"capability": "env", "name": "DB_PASSWORD", "secret": true, "evidence": ["env"], "coveredBy": []},
			{"capability": "fs", "path": "/data", "access": "read-write", "evidence": ["mount"], "coveredBy": []},
			{"capability": "net.listen", "port": 8080, "evidence": ["a", "b", "c", "d", "e"], "coveredBy": []},
			{"capability": "nn", "evidence": [], "coveredBy": []},
		]}),
	])
	violations := wasmgate.violations with input as document
	{[v.container, v.capability, split(v.message, " and no grant")[0]] | some v in violations} == {
		["a", "net.tcp.connect", "init container `a` may use `net.tcp.connect` to `*:5432`"],
		["b", "env", "container `b` may use `env` `DB_PASSWORD` (a secret)"],
		["b", "fs", "container `b` may use `fs` on `/data` (read-write)"],
		["b", "net.listen", "container `b` may use `net.listen` on port `8080`"],
		["b", "nn", "container `b` may use `nn`"],
	}
}

test_long_evidence_is_cut_short if {
	long := object.union(fixture.connect, {"evidence": ["a", "b", "c", "d", "e"]})
	violations := wasmgate.violations with input as fixture.pod({"effective": [long]})
	{contains(v.message, "(seen: a, b, c, and 2 more)") | some v in violations} == {true}
}

# What the rule says of a container that another rule refuses whatever is granted.
said_of(document) := {v.message |
	some v in violations
	v.rule == "needs-grant"
} if {
	violations := wasmgate.violations with input as document
}

test_no_grant_is_offered_where_none_helps if {
	open := {"effective": [fixture.connect]}
	every refused_by, document in {
		"not-inspected": fixture.pod(object.union(open, {"class": "unknown", "kind": "unknown"})),
		"native-code": fixture.pod(object.union(open, {"native": [{"magic": "ELF", "source": "/app"}]})),
		"runtime-mismatch": fixture.on(fixture.none, open),
	} {
		refused_by in fixture.rules_of(document)
		messages := said_of(document)
		count(messages) == 1
		every message in messages {
			endswith(message, $"; no grant helps as long as `{refused_by}` refuses the container")
			not contains(message, "WasiGrant")
		}
	}
	cannot_start := object.union(open, {"kind": "module", "runnableBy": ["crun-wasmedge"]})
	{endswith(message, "; no grant helps as long as `runtime-mismatch` refuses the container") |
		some message in said_of(fixture.pod(cannot_start))
	} == {true}
}

test_a_grant_is_offered_where_no_rule_refuses_what_was_not_recognised if {
	unknown := {"class": "unknown", "kind": "unknown", "effective": [fixture.connect]}
	document := fixture.on(fixture.none, unknown)
	fixture.rules_of(document) == {"needs-grant"}
	messages := said_of(document)
	count(messages) == 1
	every message in messages {
		contains(message, "WasiGrant")
	}
	suspect := object.union(fixture.none, {"suspicion": "when annotation `a: b` asks for a Wasm handler"})
	{endswith(message, "; no grant helps as long as `not-inspected` refuses the container") |
		some message in said_of(fixture.on(suspect, unknown))
	} == {true}
}
