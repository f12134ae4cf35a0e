package wasmgate.rules.secret_in_reach

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.text

# METADATA
# title: A program that opens files finds no secret that it was not granted
# description: |
#   runwasi preopens `/` with every mount below it, so a program that opens files can read every Secret volume and the
#   service-account token. Reported instead of `needs-grant`, because most of these secrets should not get a grant but
#   should not be mounted.
# custom:
#   remedy: |
#     Write `automountServiceAccountToken: false`, or do not mount the Secret. If the program needs it, ask for a grant
#     for `fs` with the path and `secrets: true`.
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
			$"{text.grounds(found.entry)}; {how_to_hide(found.entry)}; {how_to_keep(found.container, found.entry)}",
		]),
	}
}

is_token(entry) if startswith(entry.path, "/var/run/secrets/kubernetes.io/serviceaccount")

secret(entry) := $"service-account token at `{entry.path}`" if {
	is_token(entry)
} else := $"secret at `{entry.path}`"

how_to_hide(entry) := $"leave out the mount, and {no_token}" if {
	is_token(entry)
	is_of_own_volume(entry)
} else := no_token if {
	is_token(entry)
} else := "leave out the mount"

no_token := "write `automountServiceAccountToken: false` in the pod spec"

# Where the pod mounts a volume of its own, Kubernetes mounts none. It names its own one `kube-api-access-` and five
# letters, which the evidence leaves out.
is_of_own_volume(entry) if {
	some seen in entry.evidence
	startswith(seen, "volumeMount ")
	not contains(seen, "(projected kube-api-access)")
}

how_to_keep(container, entry) := $"if it must be read, {text.grant(entry)}" if {
	capabilities.may_be_granted(container)
} else := capabilities.no_grant(container)

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	is_open_secret(found.entry)
}

is_open_secret(entry) if {
	entry.capability == "fs"
	entry.secret
	not capabilities.expired(entry)
}
