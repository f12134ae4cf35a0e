package wasmgate.rules.plugin_env_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.on(fixture.wasmedge, {"kind": "module", "effective": [plug_in]})

admitted := fixture.on(fixture.wasmedge, {"kind": "module", "effective": [object.union(
	plug_in,
	{"coveredBy": ["ClusterWasiGrant/inference"]},
)]})

plug_in := {
	"capability": "native.plugin",
	"name": "WASMEDGE_PLUGIN_PATH",
	"evidence": ["env WASMEDGE_PLUGIN_PATH of the pod spec"],
	"coveredBy": [],
	"needsGrant": "{ name: native.plugin, names: [\"WASMEDGE_PLUGIN_PATH\"] }",
}

plugin_env(action, mended_by, message) := {{
	"rule": "plugin-env",
	"container": "web",
	"capability": "native.plugin",
	"action": action,
	"mendedBy": mended_by,
	"message": message,
}}

effective(changes) := fixture.on(fixture.wasmedge, {"kind": "module", "effective": [object.union(plug_in, changes)]})

test_a_variable_that_loads_a_plug_in_is_refused if {
	wasmgate.violations == plugin_env("deny", "grant", concat("", [
		"container `web` sets the variable `WASMEDGE_PLUGIN_PATH`, which loads native code into the runtime, ",
		"outside of the sandbox (seen: env WASMEDGE_PLUGIN_PATH of the pod spec); leave it out",
	])) with input as refused
}

test_a_whole_config_map_that_may_load_a_plug_in_is_refused if {
	wasmgate.violations == plugin_env("deny", "grant", concat("", [
		"container `web` takes all variables of a ConfigMap or Secret, and one named `WASMEDGE_PLUGIN_PATH` would load ",
		"native code into the runtime, outside of the sandbox (seen: envFrom configMap settings); ",
		"name the variables that it needs one by one",
	])) with input as effective({"evidence": ["envFrom configMap settings"]})
}

test_a_file_where_the_runtime_looks_for_plug_ins_is_refused if {
	wasmgate.violations == plugin_env("deny", "grant", concat("", [
		"container `web` has `/opt/kwasm/plugin/a.so`, from where runtime class `wasmedge` may load native code into the ",
		"runtime, outside of the sandbox (seen: file /opt/kwasm/plugin/a.so of the image); leave it out",
	])) with input as effective({
		"name": "/opt/kwasm/plugin/a.so",
		"evidence": ["file /opt/kwasm/plugin/a.so of the image"],
	})
}

test_more_than_are_told_apart_are_refused if {
	any_of_them := {"kind": "module", "effective": [json.remove(plug_in, ["name"])]}
	fixture.rules_of(fixture.on(fixture.wasmedge, any_of_them)) == {"plugin-env"}
}
