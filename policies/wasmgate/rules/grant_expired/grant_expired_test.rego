package wasmgate.rules.grant_expired_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"effective": [object.union(
	fixture.connect,
	{"expiredGrants": [{"grant": "WasiGrant/orders-api", "expiresAt": "2026-03-31T00:00:00Z"}]},
)]})

admitted := fixture.pod({"effective": [object.union(fixture.connect, {"expiredGrants": []})]})

test_the_grant_that_expired_is_named_in_place_of_one_that_is_needed if {
	wasmgate.violations == {{
		"rule": "grant-expired",
		"mendedBy": "grant",
		"container": "web",
		"capability": "net.tcp.connect",
		"message": concat("", [
			"container `web` may use `net.tcp.connect` to `*:5432`, and what allowed it has expired: ",
			"`WasiGrant/orders-api` on 2026-03-31T00:00:00Z (seen: ",
			"import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect, runwasi gives components the network); ",
			"ask the platform team to renew it",
		]),
	}} with input as refused
}

test_a_capability_that_no_grant_ever_covered_needs_one if {
	fixture.rules_of(admitted) == {"needs-grant"}
}

test_what_another_grant_covers_has_not_expired if {
	wasmgate.violations == set() with input as json.patch(refused, [{
		"op": "replace",
		"path": "/containers/0/effective/0/coveredBy",
		"value": ["WasiGrant/new"],
	}])
}

test_no_renewal_is_asked_for_where_another_rule_refuses_the_container if {
	mismatch := wasmgate.violations with input as object.union(refused, {"runtime": {"runs": ["module"]}})
	{endswith(v.message, "; no grant helps as long as `runtime-mismatch` refuses the container") |
		some v in mismatch
		v.rule == "grant-expired"
	} == {true}
}
