package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["config-mismatch"] := fixture.pod({"claims": [{
	"field": "component.imports",
	"claimed": "",
	"found": "wasi:sockets/tcp@0.2.6",
}]})

admitted["config-mismatch"] := fixture.pod({"claims": []})

test_a_config_that_says_something_else_than_the_bytes_is_refused if {
	wasmgate.violations == {{
		"rule": "config-mismatch",
		"container": "web",
		"message": concat("", [
			"container `web`: the config of image `ghcr.io/myorg/orders:1.4` says `wasi:cli/stdout@0.2.6` in `component.imports`, ",
			"and its bytes say `wasi:sockets/tcp@0.2.6`: build the image again with a tool that writes the config ",
			"from the module",
		]),
	}} with input as fixture.pod({"claims": [{
		"field": "component.imports",
		"claimed": "wasi:cli/stdout@0.2.6",
		"found": "wasi:sockets/tcp@0.2.6",
	}]})
}

test_what_the_config_leaves_out_or_makes_up_is_told_so if {
	violations := wasmgate.violations with input as fixture.pod({"claims": [
		{"field": "component.imports", "claimed": "", "found": "wasi:sockets/tcp@0.2.6"},
		{"field": "component.exports", "claimed": "wasi:cli/run@0.2.6", "found": ""},
	]})
	{split(v.message, "orders:1.4` ")[1] | some v in violations} == {
		concat("", [
			"leaves out of `component.imports` what its bytes have: `wasi:sockets/tcp@0.2.6`: build the image again ",
			"with a tool that writes the config from the module",
		]),
		concat("", [
			"says in `component.exports` what its bytes do not have: `wasi:cli/run@0.2.6`: build the image again ",
			"with a tool that writes the config from the module",
		]),
	}
}

test_an_image_that_is_only_mounted_may_say_what_it_likes if {
	rules_of(object.union(refused["config-mismatch"], {"containers": [object.union(
		refused["config-mismatch"].containers[0],
		{"role": "imageVolume"},
	)]})) == set()
}
