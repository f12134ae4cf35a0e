package wasmgate.rules.mixed_pod

import data.wasmgate.lib.containers
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Linux containers in a Wasm pod are pointed out
# description: |
#   A pod has one runtime class, so the Linux containers beside a Wasm program go through the same shim, which starts
#   them as it would under runc. Nothing limits them to WASI and no grant bounds them, and they share the pod's network
#   and volumes with the Wasm program. That is often wanted (a proxy, a log shipper), so this warns and does not refuse.
# custom:
#   remedy: Give the Linux program a pod of its own where it need not share this one.
#   severity: low
violations contains violation if {
	input.runtime.wasm
	some container in input.containers
	container.class == "linux"
	containers.inspected(container)
	not container.role == "imageVolume"
	violation := {
		"rule": "mixed-pod",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} starts a Linux program under {runtime.name}: WASI does not limit what it can ",
			"do and no grant bounds it; give it a pod of its own where it need not share this one",
		]),
	}
}
