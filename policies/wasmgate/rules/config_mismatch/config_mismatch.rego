package wasmgate.rules.config_mismatch

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

mismatch(claim) := $"leaves out of `{claim.field}` what its bytes have: `{claim.found}`" if {
	claim.claimed == ""
} else := $"says in `{claim.field}` what its bytes do not have: `{claim.claimed}`" if {
	claim.found == ""
} else := $"says `{claim.claimed}` in `{claim.field}`, and its bytes say `{claim.found}`"
