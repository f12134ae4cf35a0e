package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["native-code"] := fixture.pod({"native": [{"source": "sha256:2c26", "magic": "ELF"}]})

admitted["native-code"] := fixture.pod({
	"role": "imageVolume",
	"native": [{"source": "sha256:2c26", "magic": "ELF"}],
})

native_code(found) := {{
	"rule": "native-code",
	"container": "web",
	"capability": "native.exec",
	"message": concat("", [
		$"container `web`: image `ghcr.io/myorg/orders:1.4` is packed as Wasm and holds native code: {found}; ",
		"no grant can bound what native code does: ship the portable `.wasm` file and let the runtime compile it",
	]),
}}

test_native_code_in_a_wasm_layer_is_refused if {
	wasmgate.violations == native_code("`ELF` in `sha256:2c26`") with input as fixture.pod({"native": [{
		"source": "sha256:2c26",
		"magic": "ELF",
	}]})
}

test_a_native_program_in_an_image_packed_as_wasm_is_refused_on_any_runtime if {
	every runtime in [fixture.wasmtime, fixture.none, fixture.undescribed] {
		wasmgate.violations == native_code("`#!` in `/app/run`") with input as fixture.on(runtime, {
			"class": "native",
			"kind": "unknown",
			"native": [{"source": "/app/run", "magic": "#!"}],
		})
	}
}

test_a_native_program_is_refused_when_nothing_says_where_it_is if {
	wasmgate.violations == native_code("the program that it starts") with input as fixture.pod({"class": "native"})
}

test_native_code_is_refused_once_whatever_is_granted if {
	exec := {"capability": "native.exec", "evidence": ["ELF bytes in layer sha256:2c26"], "coveredBy": []}
	every covered_by in [[], ["WasiGrant/native"]] {
		entry := object.union(exec, {"coveredBy": covered_by})
		wasmgate.violations == native_code("ELF bytes in layer sha256:2c26") with input as fixture.pod({"effective": [entry]})
		wasmgate.violations == native_code("`ELF` in `sha256:2c26`") with input as fixture.pod({
			"effective": [entry],
			"native": [{"source": "sha256:2c26", "magic": "ELF"}],
		})
	}
}

test_every_place_with_native_code_is_named if {
	violations := wasmgate.violations with input as fixture.pod({"native": [
		{"source": "sha256:2c26", "magic": "ELF"},
		{"source": "sha256:fcde", "magic": "ELF"},
	]})
	violations == native_code("`ELF` in `sha256:2c26`") | native_code("`ELF` in `sha256:fcde`")
}

test_native_code_that_is_only_mounted_is_admitted if {
	wasmgate.violations == set() with input as fixture.pod({
		"role": "imageVolume",
		"native": [{"source": "sha256:2c26", "magic": "ELF"}],
	})
}
