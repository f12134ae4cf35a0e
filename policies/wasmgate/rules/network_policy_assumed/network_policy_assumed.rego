package wasmgate.rules.network_policy_assumed

import data.wasmgate.lib.text

# METADATA
# title: Grants that count by a NetworkPolicy are reported
# description: |
#   The runtime hands over any host or any port, and the grant names some. It counts because the profile of the runtime
#   says `networkPolicies: enforced`. The gate does not see which policies are in force, nor whether the network plug-in
#   enforces them.
# custom:
#   remedy: |
#     Apply what `wasmgate suggest --network-policy` writes for the workload, unless a policy with the same rules
#     selects its pods already.
#   severity: medium
violations contains violation if {
	input.runtime.networkPolicies
	some container in input.containers
	some entry in container.effective
	count(entry.heldByNetworkPolicy) > 0
	grants := [$"`{grant}`" | some grant in entry.heldByNetworkPolicy]
	violation := {
		"rule": "network-policy-assumed",
		"container": container.name,
		"capability": entry.capability,
		"action": "warn",
		"mendedBy": "platform",
		"message": concat("", [
			$"{text.container(container)} may use {text.capability(entry)} as far as its runtime goes, and only a ",
			$"NetworkPolicy holds it to the addresses and ports in {concat(", ", grants)}; the gate does not see whether ",
			"one is in force: `wasmgate suggest --network-policy -f FILE` writes it",
		]),
	}
}
