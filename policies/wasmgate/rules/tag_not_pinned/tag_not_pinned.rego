package wasmgate.rules.tag_not_pinned

import data.wasmgate.lib.text

# METADATA
# title: The judged image is the one that runs
# description: |
#   The verdict is about a digest, and a tag may point to other bytes by the time the node pulls it. The mutating
#   webhook writes the digest on every new pod under a Wasm class. An image without one bypassed it: the webhook did not
#   run, the image of an existing pod was changed, or an ephemeral container was added. Linux containers count too,
#   since the tag of one may become a Wasm program. An update that cannot change an image is not affected. Nor is one
#   refused because of an earlier ephemeral container, since it can be neither changed nor removed; all other rules
#   still judge such a container, by the image that its tag names now.
# custom:
#   remedy: Write the image as the message shows it. For a new pod, make sure that the mutating webhook is called.
#   severity: high
violations contains violation if {
	some container in input.containers
	starts_by_tag(container)
	not container.unpinnedBy
	violation := {
		"rule": "tag-not-pinned",
		"container": container.name,
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)}: image `{container.image}` has no digest, so the node may run other bytes than ",
			$"those that were judged; write `image: {container.image}@{container.digest}`{text.unmutated}",
		]),
	}
}

# METADATA
# title: The judged image may not be the one that runs
# description: |
#   `images.unpinned` in the gate's configuration exempts registries that delete digests soon. The gate does not write
#   digests of their images on pods, so the node may run another image than the judged one. This rule warns.
# custom:
#   remedy: Remove the registry from `images.unpinned`, or write the digest on the image.
#   severity: medium
violations contains violation if {
	some container in input.containers
	starts_by_tag(container)
	container.unpinnedBy
	violation := {
		"rule": "tag-not-pinned",
		"container": container.name,
		"mendedBy": "platform",
		"action": "warn",
		"message": concat("", [
			$"{text.container(container)}: image `{container.image}` keeps its tag, since `images.unpinned` in the gate's ",
			$"configuration names `{container.unpinnedBy}`: `{container.digest}` was judged, and it is not promised ",
			"that the node runs it, because the tag may name another image when it is pulled, and the node may have ",
			$"pulled one before; write `image: {container.image}@{container.digest}` to have that promised",
		]),
	}
}

# Whether a container starts an image by its tag, and this request can add or change that image.
starts_by_tag(container) if {
	input.runtime.wasm
	not contains(container.image, "@")
	is_string(container.digest)
	container.role in roles_that_may_change
	not container.unchanged
}

# An image volume is mounted and never started. A subresource can change only its own part of the pod.
default roles_that_may_change := {"container", "initContainer", "ephemeralContainer"}

roles_that_may_change := set() if {
	input.request.subResource == "resize"
} else := {"ephemeralContainer"} if {
	input.request.subResource == "ephemeralcontainers"
}
