package wasmgate

import data.wasmgate.text

# METADATA
# title: The runtime links every import
# description: |
#   An import that is mapped to no capability and that the runtime does not provide stops the program before its first
#   instruction. Where the runtime may provide it, it is a capability like any other, and `needs-grant` refuses it.
# custom:
#   remedy: Build for the interfaces that the runtime provides, or choose a runtime class that provides this one.
#   severity: medium
violations contains violation if {
	some container in input.containers
	some entry in container.missing
	entry.capability == "unknown-import"
	violation := {
		"rule": "unknown-import",
		"container": container.name,
		"capability": entry.capability,
		"action": "warn",
		"message": concat("", [
			$"{text.container(container)} imports {imported(entry)}, which {the_runtime} is not known to provide: ",
			"it will probably not start there",
		]),
	}
}

imported(entry) := $"`{entry.name}`" if {
	is_string(entry.name)
} else := text.places(entry)
