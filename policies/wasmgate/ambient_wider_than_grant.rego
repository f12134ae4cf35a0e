package wasmgate

import data.wasmgate.text

# METADATA
# title: Nothing is handed over that nobody granted
# description: |
#   The rest of what a runtime hands over: mounts, variables and networks that the program cannot use as it is now, and
#   the next version of it may. Off unless the configuration says `policies: {options: {strictAmbient: true}}`; what the
#   program can use today is for the other rules.
# custom:
#   remedy: Take away what the message names, or ask the platform team for a grant that covers it.
#   severity: medium
violations contains object.union(handed_over(container, words), {"capability": entry.capability}) if {
	strict
	some container in input.containers
	runs(container)
	some entry in container.ambient
	idle(container, entry)
	not anything(entry)
	words := $"{text.capability(entry)} and no grant allows it{text.grounds(entry)}"
}

# METADATA
# title: No runtime is taken to hand over everything
# description: As above, for all that a runtime may hand over because nobody described it, in one message.
# custom:
#   remedy: Describe what the runtime hands over in its profile, or place the pod on a runtime that is described.
#   severity: medium
violations contains handed_over(container, words) if {
	strict
	some container in input.containers
	runs(container)
	names := [$"`{entry.capability}`" | some entry in container.ambient; idle(container, entry); anything(entry)]
	count(names) > 0
	words := $"everything, as far as is known of {the_runtime}, and no grant allows {concat(", ", names)}"
}

handed_over(container, words) := {
	"rule": "ambient-wider-than-grant",
	"container": container.name,
	"message": concat("", [
		$"{text.container(container)} is handed {words}; its program cannot use it as it is: take it away, or ask ",
		"the platform team for a grant",
	]),
}

# Anything but a plain `false` is strict: a slip of the pen must not switch the rule off unseen.
strict if not object.get(input.options, "strictAmbient", false) == false

# Whether an entry is neither granted nor within the program's reach, where the other rules would speak of it.
idle(container, entry) if {
	not covered(entry)
	every other in container.effective {
		not same(entry, other)
	}
}

# Whether an entry is there only because the runtime is taken to hand over everything.
anything(entry) if {
	input.runtime.ambient == "everything"
	every parameter in parameters {
		not entry[parameter]
	}
}

parameters := ["path", "host", "name", "port"]

same(a, b) if {
	a.capability == b.capability
	every parameter in parameters {
		object.get(a, parameter, null) == object.get(b, parameter, null)
	}
}
