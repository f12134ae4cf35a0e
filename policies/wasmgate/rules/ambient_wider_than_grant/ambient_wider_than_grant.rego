package wasmgate.rules.ambient_wider_than_grant

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Nothing is handed over without a grant
# description: |
#   Reports mounts, variables and networks that the runtime hands over and this build of the program cannot use, since
#   the next build may. Off unless the configuration says `policies: {options: {strictAmbient: true}}`. Other rules
#   report what the program can use today.
# custom:
#   remedy: Remove what the message names, or ask the platform team for a grant that covers it.
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
# title: The runtime is described by a profile
# description: |
#   A runtime that no profile describes is assumed to hand over every capability. One violation names all capabilities
#   that this build of the program cannot use and no grant covers. Off unless the configuration says
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
	$"{text.container(container)} is handed {what}; its program cannot use it as it is: take it away",
	or_ask(container),
])

or_ask(container) := ", or ask the platform team for a grant" if {
	capabilities.may_be_granted(container)
} else := $"; {capabilities.no_grant(container)}"

# Every value except `false` is strict: a misspelt value must not silently switch the rule off.
strict(options) if not object.get(options, "strictAmbient", false) == false

# Whether an entry is neither granted nor usable by the program; other rules report usable ones.
idle(container, entry) if {
	# Every root file system has the kernel's files, and a program that opens no file does not reach them.
	not entry.opens
	not capabilities.covered(entry)
	not usable(container, entry)
}

# Whether the program can use just this entry. Most others are of another capability, which is looked at first.
usable(container, entry) if {
	capability := entry.capability
	some other in container.effective
	other.capability == capability
	object.get(other, "path", null) == object.get(entry, "path", null)
	object.get(other, "name", null) == object.get(entry, "name", null)
	object.get(other, "host", null) == object.get(entry, "host", null)
	object.get(other, "port", null) == object.get(entry, "port", null)
}

# Whether an entry exists only because the runtime is assumed to hand over everything.
anything(entry) if {
	input.runtime.ambient == "everything"
	not entry.path
	not entry.host
	not entry.name
	not entry.port
}
