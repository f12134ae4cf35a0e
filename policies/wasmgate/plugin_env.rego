package wasmgate

import data.wasmgate.text

# METADATA
# title: No variable loads a native plug-in into the runtime
# description: |
#   WasmEdge's shim sets every `WASMEDGE_*` variable of the container in its own process, so `WASMEDGE_PLUGIN_PATH` and
#   `WASMEDGE_WASINN_PRELOAD` choose native code that runs beside the sandbox, on the node. Speaks in place of
#   `needs-grant` where such a variable is set, and warns where a whole ConfigMap or Secret may bring one. Runtimes that
#   are known to be other ones ignore them.
# custom:
#   remedy: Leave the variable out, and name the variables of a ConfigMap or Secret one by one.
#   severity: critical
violations contains plugin(found.container, "deny", message) if {
	some found in uncovered
	speaks_of(found.entry) == "plugin-env"
	message := concat("", [
		$"{text.container(found.container)} sets the variable `{found.entry.name}`, which loads native code into ",
		$"the runtime, outside of the sandbox{text.grounds(found.entry)}; leave it out",
	])
}

# METADATA
# title: No unnamed variables where one could load a native plug-in
# description: As above, for variables that arrive by `envFrom`.
# custom:
#   remedy: Name the variables of a ConfigMap or Secret one by one.
#   severity: medium
violations contains plugin(container, "warn", message) if {
	input.runtime.ambient == "everything"
	some container in input.containers
	some entry in container.ambient
	entry.capability == "env"
	endswith(entry.name, "*")
	not entry.own
	brought := [$"`{name}`" | some name in plugin_variables; startswith(name, trim_suffix(entry.name, "*"))]
	count(brought) > 0
	message := concat("", [
		$"{text.container(container)} takes all variables of {text.places(entry)}; one named {concat(" or ", brought)} ",
		$"would load native code into {the_runtime}: name the variables that it needs one by one",
	])
}

plugin_variables := ["WASMEDGE_PLUGIN_PATH", "WASMEDGE_WASINN_PRELOAD"]

plugin(container, action, message) := {
	"rule": "plugin-env",
	"container": container.name,
	"capability": "native.plugin",
	"action": action,
	"message": message,
}
