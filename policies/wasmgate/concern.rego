package wasmgate

# Whether the pod has to do with Wasm at all: a Linux pod is none of these rules' business.
concerned if input.runtime.wasm

concerned if {
	some container in input.containers
	container.class in {"wasm", "native"}
	not container.role == "imageVolume"
}

# Capabilities that a program can use and no grant covers. A list, because the entries are large to compare.
uncovered := [{"container": container, "entry": entry} |
	some container in input.containers
	some entry in container.effective
	not covered(entry)
]

covered(entry) if count(entry.coveredBy) > 0

# Which rule speaks of an uncovered entry: the first that fits, so that one fact is one violation, and the last one
# fits everything.
speaks_of(entry) := "native-code" if {
	entry.capability == "native.exec"
} else := "grant-expired" if {
	count(entry.expiredGrants) > 0
} else := "plugin-env" if {
	entry.capability == "native.plugin"
} else := "secret-in-reach" if {
	entry.capability == "fs"
	entry.secret
} else := "unknown-import" if {
	entry.capability == "unknown-import"
} else := "needs-grant"

the_runtime := $"runtime class `{input.runtime.runtimeClass}`" if {
	is_string(input.runtime.runtimeClass)
} else := "the pod's runtime"
