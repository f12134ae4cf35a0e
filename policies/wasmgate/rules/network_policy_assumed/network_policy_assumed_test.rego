package wasmgate.rules.network_policy_assumed_test

import data.wasmgate
import data.wasmgate.fixture

refused := enforced({"heldByNetworkPolicy": ["WasiGrant/orders-api"]})

admitted := enforced({})

# A pod that may connect anywhere, which a grant covers, on a runtime whose pods are held by NetworkPolicies.
enforced(changes) := fixture.on(
	object.union(fixture.wasmtime, {"networkPolicies": true}),
	{"effective": [object.union_n([fixture.connect, anywhere, changes])]},
)

anywhere := {"host": "*://*:*", "coveredBy": ["WasiGrant/orders-api"]}

test_a_grant_that_counts_by_a_network_policy_is_warned_of if {
	wasmgate.violations == {{
		"rule": "network-policy-assumed",
		"container": "web",
		"capability": "net.tcp.connect",
		"action": "warn",
		"mendedBy": "platform",
		"message": concat("", [
			"container `web` may use `net.tcp.connect` to any host as far as its runtime goes, and only a NetworkPolicy holds ",
			"it to the addresses and ports in `WasiGrant/orders-api`; the gate does not see whether one is in force: ",
			"`wasmgate suggest --network-policy -f FILE` writes it",
		]),
	}} with input as refused
}

test_every_grant_is_named if {
	two := enforced({"heldByNetworkPolicy": ["WasiGrant/a", "ClusterWasiGrant/b"]})
	violations := wasmgate.violations with input as two
	{contains(v.message, "in `WasiGrant/a`, `ClusterWasiGrant/b`; the gate") | some v in violations} == {true}
}
