package wasmgate.rules.tag_not_pinned

import data.wasmgate.lib.text

# METADATA
# title: What was judged is what runs
# description: |
#   The verdict is about a digest, and a tag may name other bytes by the time the node pulls it. The mutating webhook
#   writes the digest on every new pod under a Wasm class, so an image without one came past it: the webhook did not
#   run, or the image of a pod was changed, or an ephemeral container added. Every program that such a pod starts
#   counts, Linux ones too: the tag of one may become a Wasm program. An update that cannot change an image is not held
#   up by it.
# custom:
#   remedy: Write the image as the message shows it. For a new pod, see that the mutating webhook is called.
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

# An image volume is mounted and never started. A subresource changes its own part of the pod and nothing else.
default roles_that_may_change := {"container", "initContainer", "ephemeralContainer"}

roles_that_may_change := set() if {
	input.request.subResource == "resize"
} else := {"ephemeralContainer"} if {
	input.request.subResource == "ephemeralcontainers"
}
