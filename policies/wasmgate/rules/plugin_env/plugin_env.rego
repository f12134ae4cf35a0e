package wasmgate.rules.plugin_env

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: No variable loads a native plug-in into the runtime
# description: |
#   WasmEdge's shim sets every `WASMEDGE_*` variable of the container in its own process, so `WASMEDGE_PLUGIN_PATH` and
#   `WASMEDGE_WASINN_PRELOAD` load native code that runs on the node, outside of the sandbox. Where such a variable is
#   set, this rule reports it instead of `needs-grant`. Other known runtimes ignore these variables.
# custom:
#   remedy: Remove the variable, and list the variables of a ConfigMap or Secret one by one.
#   severity: critical
violations contains violation if {
	some found in capabilities.uncovered
	is_open_plugin(found.entry)
	violation := plugin(found.container, {"action": "deny", "mendedBy": "grant", "message": concat("", [
		$"{text.container(found.container)} sets the variable `{found.entry.name}`, which loads native code into ",
		$"the runtime, outside of the sandbox{text.grounds(found.entry)}; leave it out",
	])})
}

# METADATA
# title: No whole ConfigMap or Secret as variables where one could load a native plug-in
# description: |
#   A ConfigMap or Secret that `envFrom` takes as a whole may hold `WASMEDGE_PLUGIN_PATH` or `WASMEDGE_WASINN_PRELOAD`,
#   with which WasmEdge's shim loads native code outside of the sandbox. This rule warns, since the names are not known.
# custom:
#   remedy: List the variables of a ConfigMap or Secret one by one.
#   severity: medium
violations contains violation if {
	some container in input.containers
	some entry in container.ambient
	entry.capability == "env"
	endswith(entry.name, "*")
	not entry.own
	brought := [$"`{name}`" | some name in input.runtime.pluginVariables; startswith(name, trim_suffix(entry.name, "*"))]
	count(brought) > 0
	violation := plugin(container, {"action": "warn", "mendedBy": "pod", "message": concat("", [
		$"{text.container(container)} takes all variables of {text.places(entry)}; one named {concat(" or ", brought)} ",
		$"would load native code into {runtime.name}: name the variables that it needs one by one",
	])})
}

plugin(container, rest) := object.union(rest, {
	"rule": "plugin-env",
	"container": container.name,
	"capability": "native.plugin",
})

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	is_open_plugin(found.entry)
}

is_open_plugin(entry) if {
	entry.capability == "native.plugin"
	not capabilities.expired(entry)
}
