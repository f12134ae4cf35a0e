package wasmgate.rules.mixed_pod_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.with_containers(fixture.pod({}), [fixture.web, fixture.proxy])

admitted := fixture.with_containers(fixture.pod({}), [fixture.web, object.union(
	fixture.proxy,
	{"role": "imageVolume"},
)])

test_a_linux_container_beside_a_wasm_program_is_warned_of if {
	wasmgate.violations == {{
		"rule": "mixed-pod",
		"mendedBy": "pod",
		"container": "proxy",
		"action": "warn",
		"message": concat("", [
			"container `proxy` starts a Linux program under runtime class `wasmtime`: WASI does not limit what it can do ",
			"and no grant bounds it; give it a pod of its own where it need not share this one",
		]),
	}} with input as refused
}

test_init_and_ephemeral_containers_are_warned_of_too if {
	every role in ["initContainer", "ephemeralContainer"] {
		document := fixture.with_containers(fixture.pod({}), [fixture.web, object.union(fixture.proxy, {"role": role})])
		fixture.rules_of(document) == {"mixed-pod"}
	}
}
