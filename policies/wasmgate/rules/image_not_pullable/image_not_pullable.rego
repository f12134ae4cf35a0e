package wasmgate.rules.image_not_pullable

import data.wasmgate.lib.text

# METADATA
# title: The node can pull the image
# description: |
#   containerd pulls from an index only the entry of the node's own platform. An index that holds nothing for Linux, or
#   nothing for the architectures of the nodes where `images.nodeArchitectures` says which there are, cannot be pulled
#   by a kubelet, although the same manifest can be pulled without the index.
#   The rule speaks of programs that were recognised. Of Wasm layers behind an index none is, since no shim reads them
#   there: under a Wasm runtime class `not-inspected` refuses the pod. Without one, and with nothing else in it that is
#   Wasm, no rule judges the pod: it is admitted, and the warning that its program was not recognised says that
#   containerd does not pull the index.
# custom:
#   remedy: |
#     Push the manifest itself instead of an index: with buildx, `--provenance=false` and one platform. Or name the
#     manifest by its digest. An index that holds Linux images needs one for the architecture of the nodes.
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	is_string(container.unmatchedPlatform)
	lacks := platforms(container.unmatchedPlatform)
	violation := {
		"rule": "image-not-pullable",
		"container": container.name,
		"action": "warn",
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)} names an index that holds nothing for {lacks}, only `{container.unmatchedPlatform}`: ",
			"containerd finds no match for the node's platform and does not pull it; push the manifest itself ",
			"(buildx: `--provenance=false`), or name the manifest by its digest",
		]),
	}
}

# What an index holds nothing for whose image is of this platform.
platforms(unmatched) := "the nodes" if {
	startswith(unmatched, "linux/")
} else := "Linux"
