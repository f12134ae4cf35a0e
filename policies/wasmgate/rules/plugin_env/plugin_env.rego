package wasmgate.rules.plugin_env

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: Nothing loads a native plug-in into the runtime
# description: |
#   WasmEdge's shim sets every `WASMEDGE_*` variable of the container in its own process, so `WASMEDGE_PLUGIN_PATH` and
#   `WASMEDGE_WASINN_PRELOAD` load native code that runs outside of the sandbox. A ConfigMap or Secret that `envFrom`
#   takes as a whole may hold them. runwasi's shim also loads every `.so` file in the folder `wasmedge` or `plugin`
#   beside its own path, which it looks up in the files of the container: those of the image, and of volumes. Where
#   the runtime is built with glibc (that shim, crun with WasmEdge or WAMR, and runwasi's wasmtime where its profile
#   does not say `builtWithMusl: true`), a program that resolves names makes it load `libnss_*.so*` from these files
#   too. runwasi's shims of WasmEdge and wasmtime, and youki, built so, load these files for any program, to look up the
#   user of a container that has no variable `HOME`. This rule reports all of these instead of `needs-grant`. Other
#   known runtimes load nothing.
# custom:
#   remedy: |
#     Remove the variable, and list the variables of a ConfigMap or Secret one by one. Remove the file from the image,
#     or mount the volume elsewhere. A container that writes a value for `HOME` has its user not looked up.
#   severity: critical
violations contains violation if {
	some found in capabilities.uncovered
	is_open_plugin(found.entry)
	violation := {
		"rule": "plugin-env",
		"container": found.container.name,
		"capability": "native.plugin",
		"action": "deny",
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} {brings(found.entry)} native code into the runtime, outside of the ",
			$"sandbox{text.grounds(found.entry)}; {mend(found.entry)}",
		]),
	}
}

brings(entry) := $"has `{entry.name}`, from where {runtime.name} may load" if {
	startswith(entry.name, "/")
} else := $"takes all variables of a ConfigMap or Secret, and one named `{entry.name}` would load" if {
	takes_all(entry)
} else := $"sets the variable `{entry.name}`, which loads" if {
	is_string(entry.name)
} else := "has more variables and files than are told apart, which may load"

mend(entry) := "name the variables that it needs one by one" if {
	takes_all(entry)
} else := "leave it out"

takes_all(entry) if {
	not startswith(entry.name, "/")
	some place in entry.evidence
	startswith(place, "envFrom ")
}

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
