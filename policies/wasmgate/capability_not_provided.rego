package wasmgate

import data.wasmgate.text

# METADATA
# title: The runtime hands over what the program needs
# description: |
#   A program that can call something which its runtime does not hand over fails when it does. This never refuses:
#   it may be code that is linked in and never runs.
# custom:
#   remedy: Mount, configure or trigger what is missing, or choose a runtime class that hands it over.
#   severity: low
violations contains violation if {
	some container in input.containers
	some entry in container.missing
	not entry.capability in plumbing
	violation := {
		"rule": "capability-not-provided",
		"container": container.name,
		"capability": entry.capability,
		"action": "warn",
		"message": concat("", [
			$"{text.container(container)} can call {text.capability(entry)} (seen: {text.places(entry)}), ",
			$"but {the_runtime} does not hand it over: the call will fail there",
		]),
	}
}

# Nearly every toolchain links these in, used or not. Imports that nobody mapped have a rule of their own.
plumbing := {"stdio", "args", "clock", "random", "unknown-import"}
