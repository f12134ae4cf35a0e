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

takes_all(name) := fixture.on(fixture.wasmedge, {"kind": "module", "ambient": [{
	"capability": "env",
	"name": name,
	"evidence": ["envFrom configMap settings"],
	"coveredBy": [],
}]})

test_a_variable_that_loads_a_plug_in_is_refused if {
	wasmgate.violations == plugin_env("deny", "grant", concat("", [
		"container `web` sets the variable `WASMEDGE_PLUGIN_PATH`, which loads native code into the runtime, ",
		"outside of the sandbox (seen: env WASMEDGE_PLUGIN_PATH of the pod spec); leave it out",
	])) with input as refused
}

test_unnamed_variables_that_may_load_a_plug_in_are_warned_of if {
	wasmgate.violations == plugin_env("warn", "pod", concat("", [
		"container `web` takes all variables of envFrom configMap settings; one named `WASMEDGE_PLUGIN_PATH` or ",
		"`WASMEDGE_WASINN_PRELOAD` would load native code into runtime class `wasmedge`: ",
		"name the variables that it needs one by one",
	])) with input as takes_all("*")
}

test_a_prefix_narrows_what_may_arrive if {
	fixture.rules_of(takes_all("WASMEDGE_*")) == {"plugin-env"}
	fixture.rules_of(takes_all("SHOP_*")) == set()
	fixture.rules_of(takes_all("WASMEDGE_PLUGIN")) == set()
}

test_what_the_platform_gives_every_container_is_no_danger if {
	own := {"op": "add", "path": "/containers/0/ambient/0/own", "value": true}
	document := json.patch(takes_all("*_SERVICE_HOST"), [own])
	fixture.rules_of(document) == set()
}

test_the_warning_does_not_depend_on_the_name_of_the_runtime if {
	document := object.union(takes_all("*"), {"runtime": object.union(fixture.wasmedge, {"ambient": "crun-wasmedge"})})
	fixture.rules_of(document) == {"plugin-env"}
}

test_other_runtimes_ignore_the_variables if {
	every runtime in [fixture.wasmtime, fixture.spin] {
		document := object.union(takes_all("*"), {"runtime": object.union(runtime, {"runs": ["module"]})})
		fixture.rules_of(document) == set()
	}
}
