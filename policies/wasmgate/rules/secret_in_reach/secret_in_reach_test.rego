package wasmgate.rules.secret_in_reach_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"effective": [token]})

admitted := fixture.pod({"ambient": [token]})

token := {
	"capability": "fs",
	"path": "/var/run/secrets/kubernetes.io/serviceaccount",
	"access": "read-only",
	"secret": true,
	"evidence": ["import wasi_snapshot_preview1 path_open", "service-account token", "runtime wasmtime preopens /"],
	"coveredBy": [],
	"needsGrant": concat("", [
		"{ name: fs, paths: [\"/var/run/secrets/kubernetes.io/serviceaccount\"], ",
		"access: read-only, secrets: true }",
	]),
}

mount := {
	"capability": "fs",
	"path": "/etc/db",
	"access": "read-only",
	"secret": true,
	"evidence": ["volumeMount /etc/db (secret db)"],
	"coveredBy": [],
}

test_the_token_is_to_be_left_out if {
	wasmgate.violations == {{
		"rule": "secret-in-reach",
		"mendedBy": "grant",
		"container": "web",
		"capability": "fs",
		"message": concat("", [
			"container `web` can read the service-account token at `/var/run/secrets/kubernetes.io/serviceaccount` ",
			"and no grant allows it (seen: import wasi_snapshot_preview1 path_open, service-account token, ",
			"runtime wasmtime preopens /); write `automountServiceAccountToken: false` in the pod spec; ",
			"if it must be read, a WasiGrant in namespace `shop` would, with this under `spec.capabilities`:\n- { name: fs, ",
			"paths: [\"/var/run/secrets/kubernetes.io/serviceaccount\"], access: read-only, secrets: true }",
		]),
	}} with input as refused
}

# The token in a volume of this name.
mounted(name) := object.union(token, {"evidence": [
	"import wasi_snapshot_preview1 path_open",
	$"volumeMount {token.path} (projected {name})",
]})

test_a_token_in_a_volume_of_the_pod_is_to_be_left_out_with_the_mount if {
	violations := wasmgate.violations with input as fixture.pod({"effective": [mounted("own")]})
	said := "(projected own)); leave out the mount, and write `automountServiceAccountToken: false` in the pod spec; "
	{contains(v.message, said) | some v in violations} == {true}
}

test_a_token_that_kubernetes_mounted_is_to_be_left_out_by_the_pod_alone if {
	violations := wasmgate.violations with input as fixture.pod({"effective": [mounted("kube-api-access")]})
	said := "(projected kube-api-access)); write `automountServiceAccountToken: false` in the pod spec; "
	{contains(v.message, said) | some v in violations} == {true}
}

test_a_mounted_secret_is_to_be_left_out if {
	violations := wasmgate.violations with input as fixture.pod({"effective": [mount]})
	{v.message | some v in violations} == {concat("", [
		"container `web` can read the secret at `/etc/db` and no grant allows it ",
		"(seen: volumeMount /etc/db (secret db)); leave out the mount; ",
		"if it must be read, ask the platform team for a WasiGrant",
	])}
}

test_a_secret_that_a_grant_covers_is_admitted if {
	granted := object.union(mount, {"coveredBy": ["WasiGrant/db"]})
	wasmgate.violations == set() with input as fixture.pod({"effective": [granted]})
}

test_files_and_variables_are_for_needs_grant if {
	fixture.rules_of(fixture.pod({"effective": [json.remove(mount, ["secret"])]})) == {"needs-grant"}
	variable := {"capability": "env", "name": "DB_PASSWORD", "secret": true, "evidence": ["env"], "coveredBy": []}
	fixture.rules_of(fixture.pod({"effective": [variable]})) == {"needs-grant"}
}
