package wasmgate.rules.tag_not_pinned

import data.wasmgate.lib.text

# METADATA
# title: What was judged is what runs
# description: |
#   The verdict is about a digest, and a tag may name other bytes by the time the node pulls it. The mutating webhook
#   writes the digest on every new pod under a Wasm class, so an image without one came past it: the webhook did not
#   run, or the image of a pod was changed, or an ephemeral container added. Every program that such a pod starts
#   counts, Linux ones too: the tag of one may become a Wasm program. An update that cannot change an image is not held
#   up by it, and neither is one by an ephemeral container that was there before: it cannot be changed or removed. All
#   other rules go on to judge such a container, by what its tag means now.
# custom:
#   remedy: Write the image as the message shows it. For a new pod, see that the mutating webhook is called.
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
			$"those that were judged; write `image: {container.image}@{container.digest}` (wasmgate does so on new ",
			"pods: if this is one, its mutating webhook did not run, or could not read the image)",
		]),
	}
}

# METADATA
# title: What was judged may not be what runs
# description: |
#   `images.unpinned` in the gate's configuration exempts registries that keep no digest for long. No digest is written
#   on pods with their images, and it is no longer promised that the node runs what was judged. Warns.
# custom:
#   remedy: Take the registry out of `images.unpinned`, or write the digest on the image.
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

# A container that starts what a tag names, and whose image this request can bring or change.
starts_by_tag(container) if {
	input.runtime.wasm
	not contains(container.image, "@")
	is_string(container.digest)
	container.role in roles_that_may_change
	not container.unchanged
}

# An image volume is mounted and never started. A subresource changes its own part of the pod and nothing else.
default roles_that_may_change := {"container", "initContainer", "ephemeralContainer"}

roles_that_may_change := set() if {
	input.request.subResource == "resize"
} else := {"ephemeralContainer"} if {
	input.request.subResource == "ephemeralcontainers"
}
