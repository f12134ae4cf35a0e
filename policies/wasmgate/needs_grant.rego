package wasmgate

import data.wasmgate.text

# METADATA
# title: Every capability needs a grant
# description: |
#   What a program can call and its runtime hands over must be covered by a grant. Nothing is allowed because nobody
#   thought of it. Where more can be said, another rule says it instead: `grant-expired`, `secret-in-reach`,
#   `plugin-env`, `native-code`, `unknown-import`.
# custom:
#   remedy: Ask the platform team for the WasiGrant that the message shows, or ship a program that does without.
#   severity: high
violations contains violation if {
	some found in uncovered
	speaks_of(found.entry) == "needs-grant"
	violation := {
		"rule": "needs-grant",
		"container": found.container.name,
		"capability": found.entry.capability,
		"message": concat("", [
			$"{text.container(found.container)} may use {text.capability(found.entry)} and no grant allows it",
			$"{text.grounds(found.entry)}; {text.grant(found.entry)}",
		]),
	}
}
