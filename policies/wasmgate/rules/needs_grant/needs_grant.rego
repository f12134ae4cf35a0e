package wasmgate.rules.needs_grant

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.text

# METADATA
# title: Every capability needs a grant
# description: |
#   A grant must cover what a program can call and its runtime hands over. By default only the image's own files,
#   standard streams, clocks, random numbers and arguments are allowed. Where another rule can say more about a
#   capability, that rule reports it instead of this one.
# custom:
#   remedy: Ask the platform team for the WasiGrant that the message shows, if any, or ship a program that does without.
#   severity: high
violations contains violation if {
	some i, found in capabilities.uncovered
	not i in reported_elsewhere
	violation := {
		"rule": "needs-grant",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} may use {text.capability(found.entry)} and no grant allows it",
			$"{text.grounds(found.entry)}{not_held(found.entry)}; {capabilities.grant(found.container, found.entry)}",
		]),
	}
}

# Why a grant by address does not count where NetworkPolicies hold pods to such grants.
not_held(entry) := $"; {entry.notHeld}" if {
	is_string(entry.notHeld)
} else := ""

# A rule that reports instead of this one has a set `reports`, so a new rule need not be named here.
reported_elsewhere contains i if {
	some rule
	some i in data.wasmgate.rules[rule].reports
}
