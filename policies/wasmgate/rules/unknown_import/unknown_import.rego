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
			$"{importing(found)}, and no grant allows it{text.grounds(found.entry)}; ",
			mend(found.container, found.entry),
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

importing(found) := $"{text.container(found.container)} imports `{found.entry.name}`, of which nothing is known" if {
	is_string(found.entry.name)
} else := $"it is not known what {text.container(found.container)} imports, so it may do anything"

mend(container, entry) := $"build it without, or else {text.grant(entry)}" if {
	capabilities.may_be_granted(container)
	is_string(entry.name)
} else := capabilities.grant(container, entry)

imported(entry) := $"`{entry.name}`" if {
	is_string(entry.name)
} else := $"something without a known name{text.grounds(entry)}"

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
