package wasmgate

import data.wasmgate.text

# METADATA
# title: The image's config says what its bytes say
# description: |
#   Some images carry a list of their imports and exports beside the module. The gate reads the module and never the
#   list, but scanners and people read the list. One that says something else was made by a broken tool or by somebody
#   who has something to hide.
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
		"message": concat("", [
			$"{text.container(container)}: the config of image `{text.image(container)}` {lie(claim)}: build the image ",
			"again with a tool that writes the config from the module",
		]),
	}
}

lie(claim) := $"leaves out of `{claim.field}` what its bytes have: `{claim.found}`" if {
	claim.claimed == ""
} else := $"says in `{claim.field}` what its bytes do not have: `{claim.claimed}`" if {
	claim.found == ""
} else := $"says `{claim.claimed}` in `{claim.field}`, and its bytes say `{claim.found}`"
