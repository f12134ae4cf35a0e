package wasmgate.rules.mixed_pod

import data.wasmgate.lib.containers
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Linux containers in a Wasm pod are reported
# description: |
#   A pod has one runtime class, so the shim also starts the Linux containers of a Wasm pod, as runc would.
#   Neither WASI nor a grant limits them, and they share the pod's network and volumes with the Wasm program. That is
#   often intended (a proxy, a log shipper), so this rule warns and does not deny.
# custom:
#   remedy: Move the Linux program to a pod of its own, unless it must share this one.
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
