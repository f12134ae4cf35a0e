package wasmgate.rules.over_cap

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Limits stay within a profile that clamps
# description: |
#   Where the platform's runtime profile says `mode: clamp`, the mutating webhook lowers limits to those of the profile.
#   A resize bypasses that webhook, and so does a new pod while the webhook is not called. An update that cannot change
#   sizes is not affected. A limit of zero means none, and so it is over every other. Where a pod has sizes of its own
#   (`spec.resources`), that webhook fills none in for its containers. So for a container without a limit of its own,
#   that of the pod counts, which it may use up alone; if the pod has none, the container is over the limit of the
#   profile. A container for which no size says anything is not reported.
# custom:
#   remedy: Use the limit that the message names, or ask the platform team for another profile.
#   severity: medium
violations contains violation if {
	some container in input.containers
	is_capped(container.resources)
	container.class == "wasm"
	may_change_sizes
	some [found, cap, cure] in over(container.resources)
	violation := {
		"rule": "over-cap",
		"container": container.name,
		"mendedBy": "pod",
		"message": $"{text.container(container)} has {found}, and {runtime.name} leaves it at most {cap}; {cure}",
	}
}

may_change_sizes if input.request.operation == "CREATE"

may_change_sizes if input.request.subResource == "resize"

# A template is judged as the pods that will be created from it.
may_change_sizes if input.workload.template

# Few containers are, and this check is cheaper than building two sets.
is_capped(resources) if is_number(resources.capBytes)

is_capped(resources) if is_number(resources.capMillis)

over(resources) := of_container(resources) | beside_pod(resources)

of_container(resources) := {[$"a {resource} limit of {limit}", cap, cure] |
	some [resource, limit, cap] in own(resources)
	cure := $"leave it out or write `resources.limits.{resource}: {cap}`{text.unmutated}"
}

own(resources) := own_memory(resources) | own_processors(resources)

own_memory(resources) := {["memory", text.memory(resources.limitBytes), amount(resources.capBytes)] |
	is_number(resources.capBytes)
	resources.limitBytes > resources.capBytes
}

own_processors(resources) := {["cpu", $"{resources.limitMillis}m", $"{resources.capMillis}m"] |
	is_number(resources.capMillis)
	resources.limitMillis > resources.capMillis
}

beside_pod(resources) := of_pod(resources) | without(resources)

of_pod(resources) := {[$"no {resource} limit but that of its pod, {limit}", cap, in_container(resource, cap)] |
	some [resource, limit, cap] in pods(resources)
}

pods(resources) := pods_memory(resources) | pods_processors(resources)

pods_memory(resources) := {["memory", text.memory(resources.podLimitBytes), amount(resources.capBytes)] |
	is_number(resources.capBytes)
	resources.podLimitBytes > resources.capBytes
}

pods_processors(resources) := {["cpu", $"{resources.podLimitMillis}m", $"{resources.capMillis}m"] |
	is_number(resources.capMillis)
	resources.podLimitMillis > resources.capMillis
}

without(resources) := {[found, cap, cure] |
	some resource in resources.unlimited
	found := $"no {resource} limit, of its own or of its pod (zero means none)"
	cap := caps(resources)[resource]
	cure := $"{in_container(resource, cap)}, and no limit of zero there or in `spec.resources`"
}

caps(resources) := {"memory": amount(resources.capBytes), "cpu": $"{resources.capMillis}m"}

in_container(resource, cap) := $"write `resources.limits.{resource}: {cap}` in the container"

amount(bytes) := text.mebibytes(bytes) if {
	bytes % 1048576 == 0
} else := $"{bytes}"
