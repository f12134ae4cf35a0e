package wasmgate.rules.config_mismatch

import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: The image's config matches its module
# description: |
#   Some images list the imports and exports of their module in the config. The gate reads the module and ignores the
#   list, but scanners and people read the list. A list that differs from the module comes from a broken tool, or hides
#   what the module does.
# custom:
#   remedy: Build the image again with a tool that writes the config from the module, such as `wkg oci push`.
#   severity: high
violations contains violation if {
	some container in input.containers
	not container.role == "imageVolume"
	some claim in container.claims
	violation := {
		"rule": "config-mismatch",
		"container": container.name,
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)}: the config of image `{text.image(container)}` {mismatch(claim)}: build the image ",
			"again with a tool that writes the config from the module",
		]),
	}
}

# METADATA
# title: No other image can start in the place of this one
# description: |
#   A node knows an image by the digest of its config. Where the config says the architecture `wasm`, the shims of
#   runwasi and Spin take the Wasm layers of whichever image with this config the node has under the first name, so that
#   another image may start if a tenant got it onto the node without a verdict. Where it says `linux/amd64` or the like,
#   they start files, whose digests the config holds. Off unless the configuration says
#   `policies: {options: {strictPlatform: true}}`, for platforms whose tenants share nodes and do not trust each other.
# custom:
#   remedy: Build the image for `linux/amd64` with the module as a file, or place the pod on crun or youki.
#   severity: high
violations contains violation if {
	strict(input.options)
	takes_layers
	some container in input.containers
	container.class == "wasm"
	not is_of_linux(container)
	violation := {
		"rule": "config-mismatch",
		"container": container.name,
		"mendedBy": "image",
		"message": concat("", [
			$"{text.container(container)}: the config of image `{text.image(container)}` is not of a Linux platform, so ",
			$"{runtime.name} may start the layers of another image with the same config: build it for `linux/amd64`, with ",
			"the module as a file",
		]),
	}
}

# Every value except `false` is strict: a misspelt value must not silently switch the rule off.
strict(options) if not object.get(options, "strictPlatform", false) == false

takes_layers if {
	input.runtime.wasm
	not startswith(input.runtime.ambient, "crun-")
	not startswith(input.runtime.ambient, "youki-")
}

is_of_linux(container) if {
	some evidence in container.evidence
	evidence.seen == "config platform"
	startswith(evidence.value, "linux/")
	not endswith(evidence.value, "/wasm")
}

mismatch(claim) := $"leaves out of `{claim.field}` what its bytes have: `{claim.found}`" if {
	claim.claimed == ""
} else := $"says in `{claim.field}` what its bytes do not have: `{claim.claimed}`" if {
	claim.found == ""
} else := $"says `{claim.claimed}` in `{claim.field}`, and its bytes say `{claim.found}`"
