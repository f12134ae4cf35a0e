package wasmgate.rules.unknown_import

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Every import is mapped to a capability
# description: |
#   An import that the gate maps to no capability could do anything, so it is refused where the runtime may provide it.
#   Reported instead of `needs-grant`.
# custom:
#   remedy: |
#     Build for interfaces that the gate knows, choose a runtime class that is known not to provide this one, or ask the
#     platform team for a grant that names the import.
#   severity: high
violations contains violation if {
	some found in capabilities.uncovered
	is_open_import(found.entry)
	violation := {
		"rule": "unknown-import",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} imports {imported(found.entry)}, what that lets it do is not known, ",
			$"and no grant allows it{text.grounds(found.entry)}; build it without, or else {text.grant(found.entry)}",
		]),
	}
}

# METADATA
# title: The runtime links every import
# description: |
#   If the runtime does not provide an import, the program stops before its first instruction.
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
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)} imports {imported(entry)}, which {runtime.name} is not known to provide: ",
			"it will probably not start there",
		]),
	}
}

imported(entry) := $"`{entry.name}`" if {
	is_string(entry.name)
} else := text.places(entry)

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	is_open_import(found.entry)
}

is_open_import(entry) if {
	entry.capability == "unknown-import"
	not capabilities.expired(entry)
}
