package wasmgate.rules.image_not_pullable_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"unmatchedPlatform": "wasi/wasm"})

admitted := fixture.pod({})

test_an_index_without_the_platform_of_the_node_is_warned_of if {
	wasmgate.violations == {{
		"rule": "image-not-pullable",
		"container": "web",
		"action": "warn",
		"mendedBy": "image",
		"message": concat("", [
			"container `web` names an index that holds nothing for Linux, only `wasi/wasm`: containerd finds no match for the ",
			"node's platform and does not pull it; push the manifest itself (buildx: `--provenance=false`), or name the ",
			"manifest by its digest",
		]),
	}} with input as refused
}

test_an_index_without_the_architecture_of_the_nodes_is_warned_of if {
	violations := wasmgate.violations with input as fixture.pod({"unmatchedPlatform": "linux/arm64"})
	said := "container `web` names an index that holds nothing for the nodes, only `linux/arm64`: containerd finds no"
	{startswith(v.message, said) | some v in violations} == {true}
}

test_an_image_that_starts_no_wasm_is_not_reported if {
	not "image-not-pullable" in fixture.rules_of(fixture.pod({
		"class": "linux",
		"kind": "linux",
		"unmatchedPlatform": "wasi/wasm",
	}))
}
