package wasmgate.rules.over_cap

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Limits stay within a profile that clamps
# description: |
#   Where the platform's runtime profile says `mode: clamp`, the mutating webhook lowers limits to those of the profile.
#   A resize bypasses that webhook, and so does a new pod while the webhook is not called. An update that cannot change
#   sizes is not affected.
# custom:
#   remedy: Use the limit that the message names, or ask the platform team for another profile.
#   severity: medium
violations contains violation if {
	some container in input.containers
	is_capped(container.resources)
	container.class == "wasm"
	may_change_sizes
	some [resource, limit, cap] in over(container.resources)
	violation := {
		"rule": "over-cap",
		"container": container.name,
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} has a {resource} limit of {limit}, and {runtime.name} leaves it at most {cap}; ",
			$"leave it out or write `resources.limits.{resource}: {cap}`{text.unmutated}",
		]),
	}
}

may_change_sizes if input.request.operation == "CREATE"

may_change_sizes if input.request.subResource == "resize"

# A template is judged as the pods that will be created from it.
may_change_sizes if input.workload.template

# Few containers are, and this check is cheaper than building two sets.
is_capped(resources) if is_number(resources.capBytes)

is_capped(resources) if is_number(resources.capMillis)

over(resources) := over_memory(resources) | over_processors(resources)

over_memory(resources) := {["memory", text.memory(resources.limitBytes), amount(resources.capBytes)] |
	is_number(resources.capBytes)
	resources.limitBytes > resources.capBytes
}

over_processors(resources) := {["cpu", $"{resources.limitMillis}m", $"{resources.capMillis}m"] |
	is_number(resources.capMillis)
	resources.limitMillis > resources.capMillis
}

amount(bytes) := text.mebibytes(bytes) if {
	bytes % 1048576 == 0
} else := $"{bytes}"
