package wasmgate.rules.tag_not_pinned

import data.wasmgate.lib.text

# METADATA
# title: The judged image is the one that runs
# description: |
#   The verdict is about a digest, and a tag may point to other bytes by the time the node pulls it. The mutating
#   webhook writes the digest on every new pod under a Wasm class. An image without one bypassed it: the webhook did not
#   run, the image of an existing pod was changed, or an ephemeral container was added. Linux containers count too,
#   since the tag of one may become a Wasm program. An update that cannot change an image is not affected.
# custom:
#   remedy: Write the image as the message shows it. For a new pod, make sure that the mutating webhook is called.
#   severity: high
violations contains violation if {
	input.runtime.wasm
	some container in input.containers
	not contains(container.image, "@")
	is_string(container.digest)
	container.role in roles_that_may_change
	violation := {
		"rule": "tag-not-pinned",
		"container": container.name,
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)}: image `{container.image}` has no digest, so the node may run other bytes than ",
			$"those that were judged; write `image: {container.image}@{container.digest}` (wasmgate does so on new ",
			"pods: if this is one, its mutating webhook did not run, or could not read the image)",
		]),
	}
}

# An image volume is mounted and never started. A subresource can change only its own part of the pod.
default roles_that_may_change := {"container", "initContainer", "ephemeralContainer"}

roles_that_may_change := set() if {
	input.request.subResource == "resize"
} else := {"ephemeralContainer"} if {
	input.request.subResource == "ephemeralcontainers"
}
