package wasmgate.rules.host_process_in_reach_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"effective": reached})

admitted := fixture.pod({"ambient": reached})

reached := [memory, variables, files]

memory := {
	"capability": "native.exec",
	"opens": true,
	"evidence": [
		"import wasi_snapshot_preview1.path_open in /app.wasm",
		"runtime wasmtime preopens /; /proc/self/mem is the memory of the process that runs the program",
	],
	"coveredBy": [],
	"needsGrant": "{ name: native.exec }",
}

variables := {
	"capability": "env",
	"opens": true,
	"evidence": ["runtime wasmtime preopens /; /proc/self/environ holds the variables of that process"],
	"coveredBy": [],
	"needsGrant": "{ name: native.exec }",
}

files := {
	"capability": "fs",
	"path": "/proc",
	"access": "read-write",
	"opens": true,
	"evidence": ["runtime wasmtime preopens /; /proc is the kernel's, and not of the image"],
	"coveredBy": [],
	"needsGrant": "{ name: native.exec }",
}

test_a_program_that_opens_files_beside_its_own_process_is_refused_once if {
	wasmgate.violations == {{
		"rule": "host-process-in-reach",
		"mendedBy": "grant",
		"container": "web",
		"capability": "native.exec",
		"message": concat("", [
			"container `web` opens files, and runtime class `wasmtime` shows it `/proc`, so it can write into the memory ",
			"of the process that runs it, which is native code, and no grant allows it (seen: ",
			"import wasi_snapshot_preview1.path_open in /app.wasm, ",
			"runtime wasmtime preopens /; /proc/self/mem is the memory of the process that runs the program); ship a ",
			"program that opens no file or use a runtime that is not affected (docs/capabilities.md); a WasiGrant in ",
			"namespace `shop` would, with this under `spec.capabilities`:\n- { name: native.exec }",
		]),
	}} with input as refused
}

test_sql_that_runs_in_the_process_of_the_shim_is_told_as_that if {
	sql := {
		"capability": "native.exec",
		"opens": true,
		"evidence": ["SQLite runs in the process of runtime spin: `fts3_tokenizer` calls the address in a parameter"],
		"coveredBy": [],
		"needsGrant": "{ name: native.exec }",
	}
	violations := wasmgate.violations with input as fixture.pod({"effective": [sql]})
	{v.rule | some v in violations} == {"host-process-in-reach"}
	every v in violations {
		contains(v.message, "container `web` sends SQL that SQLite runs in the process of the shim, which is native code")
		contains(v.message, "; use a database on the network or a key-value store (docs/capabilities.md); ")
	}
}

test_a_program_that_the_shim_starts_for_credentials_is_told_as_that if {
	program := {
		"capability": "native.exec",
		"opens": true,
		"evidence": ["an SDK of a cloud may start a program of the container for credentials"],
		"coveredBy": [],
		"needsGrant": "{ name: native.exec }",
	}
	violations := wasmgate.violations with input as fixture.pod({"effective": [program]})
	{v.rule | some v in violations} == {"host-process-in-reach"}
	every v in violations {
		contains(v.message, "container `web` uses a service of a cloud, for whose credentials the shim may start")
		contains(v.message, "; leave `sh` and `az` out of the container, and mount no volume where programs are searched")
	}
}

test_a_grant_for_native_code_covers_all_of_it if {
	granted := [object.union(entry, {"coveredBy": ["WasiGrant/trusted"]}) | some entry in reached]
	wasmgate.violations == set() with input as fixture.pod({"effective": granted})
}

test_what_is_left_after_a_grant_for_files_is_still_refused if {
	granted := object.union(files, {"coveredBy": ["WasiGrant/files"]})
	fixture.rules_of(fixture.pod({"effective": [memory, variables, granted]})) == {"host-process-in-reach"}
}

test_what_a_program_only_reads_is_reported_by_itself if {
	read := object.union(files, {"access": "read-only"})
	violations := wasmgate.violations with input as fixture.pod({"effective": [variables, read]})
	{[v.rule, v.capability] | some v in violations} == {
		["host-process-in-reach", "env"],
		["host-process-in-reach", "fs"],
	}
	{contains(v.message, "shows it `fs` on `/proc` (read-only) of the kernel or of the process that") |
		some v in violations
		v.capability == "fs"
	} == {true}
}

test_a_container_that_only_reads_is_reported_beside_one_that_writes if {
	document := fixture.with_containers(fixture.pod({}), [
		object.union(fixture.web, {"name": "a", "effective": reached}),
		object.union(fixture.web, {"name": "b", "effective": [variables]}),
	])
	violations := wasmgate.violations with input as document
	{[v.container, v.capability] | some v in violations} == {["a", "native.exec"], ["b", "env"]}
}

test_native_code_in_the_image_is_for_native_code if {
	exec := {"capability": "native.exec", "evidence": ["ELF bytes in layer sha256:2c26"], "coveredBy": []}
	fixture.rules_of(fixture.pod({"effective": [exec]})) == {"native-code"}
}

test_an_expired_grant_is_for_grant_expired if {
	grant := {"grant": "WasiGrant/trusted", "expiresAt": "2026-03-31T00:00:00Z"}
	expired := object.union(memory, {"expiredGrants": [grant]})
	fixture.rules_of(fixture.pod({"effective": [expired]})) == {"grant-expired"}
}
