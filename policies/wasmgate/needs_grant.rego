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

# Nothing is shown for native code, which `native-code` refuses also where a grant names it.
grant(entry) := concat("", [
	$"; a WasiGrant in namespace `{input.workload.namespace}` would, with this under `spec.capabilities`:\n",
	$"- {entry.needsGrant}",
]) if {
	is_string(entry.needsGrant)
	not entry.capability == "native.exec"
} else := ""
