package wasmgate.rules.capability_not_provided

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: The runtime hands over what the program needs
# description: |
#   A call fails when the runtime does not hand over what it needs. This rule only warns, because the code may be linked
#   in and never run.
# custom:
#   remedy: Mount or configure what is missing, add the trigger, or choose a runtime class that provides it.
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
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} can call {text.capability(entry)} (seen: {text.places(entry)}), ",
			$"but {runtime.name} does not hand it over: the call will fail there",
		]),
	}
}

# Nearly every toolchain links these in, used or not. `unknown-import` reports unknown imports.
plumbing := {"stdio", "args", "clock", "random", "unknown-import"}
