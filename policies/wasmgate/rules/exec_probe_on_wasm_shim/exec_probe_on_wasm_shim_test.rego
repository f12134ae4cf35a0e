package wasmgate.rules.exec_probe_on_wasm_shim_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"execHooks": ["livenessProbe"]})

admitted := fixture.pod({"execHooks": []})

exec_probe(container, action, message) := {{
	"rule": "exec-probe-on-wasm-shim",
	"mendedBy": "pod",
	"container": container,
	"action": action,
	"message": message,
}}

exec_actions(document) := {[v.container, v.action] |
	some v in violations
	v.rule == "exec-probe-on-wasm-shim"
} if {
	violations := wasmgate.violations with input as document
}

test_a_probe_that_runs_a_command_is_refused if {
	wasmgate.violations == exec_probe("web", "deny", concat("", [
		"container `web` has an `exec` command in its `livenessProbe`, and runtime class `wasmtime` cannot run commands ",
		"in a container, a Linux one included: the container is restarted again and again; ",
		"use `httpGet`, or leave it out",
	])) with input as refused
}

test_every_hook_but_the_last_is_refused_on_both_shims if {
	every runtime in [fixture.wasmtime, object.union(fixture.spin, {"runs": ["http-component"]})] {
		every hook in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart"] {
			exec_actions(fixture.on(runtime, {"execHooks": [hook]})) == {["web", "deny"]}
		}
		exec_actions(fixture.on(runtime, {"execHooks": ["lifecycle.preStop"]})) == {["web", "warn"]}
	}
}

test_the_hooks_of_a_linux_sidecar_count if {
	sidecar := object.union(fixture.proxy, {"execHooks": ["lifecycle.postStart"]})
	exec_actions(fixture.with_containers(fixture.pod({}), [fixture.web, sidecar])) == {["proxy", "deny"]}
}

test_a_probe_is_refused_on_every_runtime_that_is_known_to_run_no_command if {
	document := fixture.on(fixture.wasmedge, {"kind": "module", "execHooks": ["readinessProbe"]})
	known := object.union(fixture.wasmedge, {"runs": ["module"], "ambient": "runwasi-wamr", "noExec": true})
	exec_actions(object.union(document, {"runtime": known})) == {["web", "deny"]}
}

test_a_runtime_of_which_it_is_not_known_is_warned_of if {
	document := fixture.on(fixture.wasmedge, {"kind": "module", "execHooks": ["readinessProbe"]})
	wasmgate.violations == exec_probe("web", "warn", concat("", [
		"container `web` has an `exec` command in its `readinessProbe`, and runtime class `wasmedge` probably cannot run ",
		"commands in a container, a Linux one included: the pod never becomes ready; use `httpGet`, or leave it out",
	])) with input as object.union(document, {"runtime": object.union(fixture.wasmedge, {"runs": ["module"]})})
}

may_exec := object.union(fixture.wasmedge, {"runs": ["module"], "ambient": "youki-wasmtime", "mayExec": true})

test_a_command_that_may_start_another_program_is_refused_in_every_hook if {
	every hook in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"] {
		document := fixture.on(may_exec, {"kind": "module", "execHooks": [hook]})
		exec_actions(document) == {["web", "deny"]}
	}
	wasmgate.violations == exec_probe("web", "deny", concat("", [
		"container `web` has an `exec` command in its `lifecycle.preStop`, and runtime class `wasmedge` may start it as ",
		"another Wasm program, which was not judged; use `httpGet`, or leave it out",
	])) with input as fixture.on(may_exec, {"kind": "module", "execHooks": ["lifecycle.preStop"]})
}

test_a_command_in_a_linux_container_is_warned_of if {
	linux := {"class": "linux", "kind": "linux", "execHooks": ["livenessProbe"]}
	exec_actions(fixture.on(may_exec, linux)) == {["web", "warn"]}
}

test_a_command_under_a_class_without_a_profile_is_refused_only_where_wasm_starts if {
	undescribed := object.union(fixture.undescribed, {"mayExec": true})
	exec_actions(fixture.on(undescribed, {"kind": "module", "execHooks": ["livenessProbe"]})) == {["web", "deny"]}
	unread := {"class": "unread", "kind": "unknown", "execHooks": ["livenessProbe"]}
	exec_actions(fixture.on(undescribed, unread)) == set()
}
