package wasmgate.rules.grant_expired

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.text

# METADATA
# title: An expired grant allows nothing
# description: |
#   The program can use a capability that a grant covered until its `expiresAt`. Running pods are left alone; new ones
#   are refused until the grant is renewed.
# custom:
#   remedy: Ask the platform team to move `spec.expiresAt` of the grant that the message names, or to replace it.
#   severity: high
violations contains violation if {
	some found in capabilities.uncovered
	has_expired(found.entry)
	grants := [$"`{expired.grant}` on {expired.expiresAt}" | some expired in found.entry.expiredGrants]
	violation := {
		"rule": "grant-expired",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} may use {text.capability(found.entry)}, and what allowed it has ",
			$"expired: {concat(", ", grants)}{text.grounds(found.entry)}; {mend(found.container)}",
		]),
	}
}

mend(container) := "ask the platform team to renew it" if {
	capabilities.may_be_granted(container)
} else := capabilities.no_grant(container)

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	has_expired(found.entry)
}

has_expired(entry) if {
	capabilities.expired(entry)

	# Native code in an image is refused whatever is granted.
	not in_the_image(entry)
}

in_the_image(entry) if {
	entry.capability == "native.exec"
	not entry.opens
}
