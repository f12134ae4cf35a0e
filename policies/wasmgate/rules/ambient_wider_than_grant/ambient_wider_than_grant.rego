package wasmgate.rules.ambient_wider_than_grant

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Nothing is handed over without a grant
# description: |
#   The rest of what a runtime hands over: mounts, variables and networks that the program cannot use as it is now, and
#   the next version of it may. Off unless the configuration says `policies: {options: {strictAmbient: true}}`; what the
#   program can use today is for the other rules.
# custom:
#   remedy: Take away what the message names, or ask the platform team for a grant that covers it.
#   severity: medium
violations contains violation if {
	strict(input.options)
	some container in input.containers
	runtime.runs(container)
	some entry in container.ambient
	not anything(entry)
	idle(container, entry)
	violation := {
		"rule": "ambient-wider-than-grant",
		"container": container.name,
		"capability": entry.capability,
		"mendedBy": "ambient-grant",
		"message": handed(container, $"{text.capability(entry)} and no grant allows it{text.grounds(entry)}"),
	}
}

# METADATA
# title: No runtime is taken to hand over everything
# description: |
#   A runtime that no profile describes is taken to hand over every capability. One violation names all that a program
#   cannot use as it is now and no grant covers. Off unless the configuration says
#   `policies: {options: {strictAmbient: true}}`.
# custom:
#   remedy: Describe what the runtime hands over in its profile, or place the pod on a runtime that is described.
#   severity: medium
violations contains violation if {
	strict(input.options)
	some container in input.containers
	runtime.runs(container)
	names := [$"`{entry.capability}`" | some entry in container.ambient; anything(entry); idle(container, entry)]
	count(names) > 0
	everything := $"everything, as far as is known of {runtime.name}, and no grant allows {concat(", ", names)}"
	violation := {
		"rule": "ambient-wider-than-grant",
		"container": container.name,
		"mendedBy": "platform",
		"message": handed(container, everything),
	}
}

handed(container, what) := concat("", [
	$"{text.container(container)} is handed {what}; its program cannot use it as it is: take it away, or ask ",
	"the platform team for a grant",
])

# Anything but a plain `false` is strict: a misspelt value must not switch the rule off unseen.
strict(options) if not object.get(options, "strictAmbient", false) == false

# Whether an entry is neither granted nor within the program's reach, where the other rules would speak of it.
idle(container, entry) if {
	# What the kernel shows comes with every root file system, and a program that opens no file does not reach it.
	not entry.opens
	not capabilities.covered(entry)
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
