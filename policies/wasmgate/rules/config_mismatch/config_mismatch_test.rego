package wasmgate.rules.config_mismatch_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"claims": [{
	"field": "component.imports",
	"claimed": "",
	"found": "wasi:sockets/tcp@0.2.6",
}]})

admitted := fixture.pod({"claims": []})

test_a_config_that_says_something_else_than_the_bytes_is_refused if {
	wasmgate.violations == {{
		"rule": "config-mismatch",
		"mendedBy": "image",
		"container": "web",
		"message": concat("", [
			"container `web`: the config of image `ghcr.io/myorg/orders:1.4` says `wasi:cli/stdout@0.2.6` in ",
			"`component.imports`, and its bytes say `wasi:sockets/tcp@0.2.6`: build the image again with a tool that ",
			"writes the config from the module",
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
	fixture.rules_of(object.union(refused, {"containers": [object.union(
		refused.containers[0],
		{"role": "imageVolume"},
	)]})) == set()
}

strict_platform(value, runtime, evidence) := fixture.with_options(
	fixture.on(runtime, {"kind": "module", "evidence": [{"seen": "config platform", "value": evidence}]}),
	{"strictPlatform": value},
)

test_an_image_for_wasm_is_refused_where_another_may_start_in_its_place if {
	wasmgate.violations == {{
		"rule": "config-mismatch",
		"mendedBy": "image",
		"container": "web",
		"message": concat("", [
			"container `web`: the config of image `ghcr.io/myorg/orders:1.4` is not of a Linux platform, so runtime class ",
			"`wasmtime` may start the layers of another image with the same config: build it for `linux/amd64`, with the ",
			"module as a file",
		]),
	}} with input as strict_platform(true, fixture.wasmtime, "wasip1/wasm")
	every platform in ["wasi/wasm", "linux/wasm", "none"] {
		fixture.rules_of(strict_platform("yes", fixture.wasmtime, platform)) == {"config-mismatch"}
	}
}

test_an_image_for_linux_and_one_under_a_runtime_of_files_are_admitted if {
	fixture.rules_of(strict_platform(true, fixture.wasmtime, "linux/amd64")) == set()
	fixture.rules_of(strict_platform(false, fixture.wasmtime, "wasip1/wasm")) == set()
	every family in ["crun-wasmtime", "youki-wasmtime"] {
		files := object.union(fixture.wasmtime, {"ambient": family})
		fixture.rules_of(strict_platform(true, files, "wasip1/wasm")) == set()
	}
}
