package wasmgate.rules.secret_in_reach

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.text

# METADATA
# title: No secret lies where a program that opens files can read it
# description: |
#   runwasi preopens `/` with every mount in it, so a program that opens files can read each Secret volume and the
#   service-account token, wanted or not. Reports in the place of `needs-grant`, because most of these need no grant:
#   they need not be mounted.
# custom:
#   remedy: |
#     Write `automountServiceAccountToken: false`, or do not mount the Secret. A program that needs it gets a grant for
#     `fs` with the path and `secrets: true`.
#   severity: critical
violations contains violation if {
	some found in capabilities.uncovered
	is_open_secret(found.entry)
	violation := {
		"rule": "secret-in-reach",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} can read the {secret(found.entry)} and no grant allows it",
			$"{text.grounds(found.entry)}; {how_to_hide(found.entry)}; if it must be read, {text.grant(found.entry)}",
		]),
	}
}

is_token(entry) if startswith(entry.path, "/var/run/secrets/kubernetes.io/serviceaccount")

secret(entry) := $"service-account token at `{entry.path}`" if {
	is_token(entry)
} else := $"secret at `{entry.path}`"

how_to_hide(entry) := "write `automountServiceAccountToken: false` in the pod spec" if {
	is_token(entry)
} else := "leave out the mount"

# METADATA
# description: The uncovered capabilities that this rule reports in the place of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	is_open_secret(found.entry)
}

is_open_secret(entry) if {
	entry.capability == "fs"
	entry.secret
	not capabilities.expired(entry)
}
