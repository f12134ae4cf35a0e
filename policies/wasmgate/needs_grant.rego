package wasmgate

import data.wasmgate.text

# METADATA
# title: Every capability needs a grant
# description: |
#   What a program can call and its runtime hands over must be covered by a grant. Nothing is allowed because nobody
#   thought of it.
# custom:
#   remedy: Ask the platform team for the WasiGrant that the message shows, or ship a program that does without.
#   severity: high
violations contains violation if {
	some container in input.containers
	some entry in container.effective
	not covered(entry)
	violation := {
		"rule": "needs-grant",
		"container": container.name,
		"capability": entry.capability,
		"message": $"{text.container(container)} may use {text.capability(entry)} and no grant allows it{grounds(entry)}{grant(entry)}",
	}
}

covered(entry) if count(entry.coveredBy) > 0

grounds(entry) := $" (seen: {text.places(entry)})" if {
	count(entry.evidence) > 0
} else := ""

grant(entry) := $"; this would:\n{trim_right(entry.needsGrant, "\n")}" if {
	is_string(entry.needsGrant)
} else := ""
