package wasmgate.rules.host_process_in_reach

import data.wasmgate.lib.capabilities
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

# METADATA
# title: No program reaches the process that runs it
# description: |
#   A runtime that opens `/` for its programs also opens `/proc`. So a program that opens files can read the
#   variables of the process that runs it, and write into its memory through `/proc/self/mem`: that amounts to native
#   code outside of the sandbox, and no other capability limits it. Not affected are programs that open no file,
#   HTTP components on runwasi's wasmtime, youki with wasmtime, crun with wasmer, crun with wasmtime where the working
#   directory is not `/`, and applications of the Spin shim that use no SQLite: their SQL runs in the process of the
#   shim, opens any file of the container, and can call native code. Reported instead of `needs-grant`.
# custom:
#   remedy: |
#     Ship a program that opens no file and uses no SQLite, or use a runtime that is not affected. The platform team
#     may trust the image like a native one, with a grant for `native.exec`; give the rule a lower action
#     (`enforcement.rules`); or, where its own build of the shim hides `/proc` from its programs, say so in the profile
#     (`hidesHostProcess: true`). For SQL under Spin use a database on the network or a key-value store; a profile may
#     say that its build of the shim confines SQL to its database (`confinesSqlite: true`).
#   severity: critical
violations contains violation if {
	some i in reports
	found := capabilities.uncovered[i]
	found.entry.capability == "native.exec"
	violation := {
		"rule": "host-process-in-reach",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} {way(found.entry)}, which is native code, and no grant allows it",
			$"{text.grounds(found.entry)}; {cure(found.entry)} (docs/capabilities.md); ",
			capabilities.grant(found.container, found.entry),
		]),
	}
}

# METADATA
# title: No program reads the process that runs it
# description: |
#   A program that is handed a folder of the kernel read-only, such as by `files` of a Spin application in a root file
#   system, cannot write into the memory of the process that runs it. It still reads the variables of that process, and
#   what the kernel says of the node. Reported instead of `needs-grant`.
# custom:
#   remedy: Hand over folders of the image alone, or ask the platform team for a grant for `native.exec`.
#   severity: high
violations contains violation if {
	some i in reports
	found := capabilities.uncovered[i]
	not found.container.name in rewritten
	violation := {
		"rule": "host-process-in-reach",
		"container": found.container.name,
		"capability": found.entry.capability,
		"mendedBy": "grant",
		"message": concat("", [
			$"{text.container(found.container)} opens files, and {runtime.name} shows it {text.capability(found.entry)} ",
			"of the kernel or of the process that runs it, and no grant allows it",
			$"{text.grounds(found.entry)}; hand over folders of the image alone (docs/capabilities.md); ",
			capabilities.grant(found.container, found.entry),
		]),
	}
}

way(entry) := "sends SQL that SQLite runs in the process of the shim" if {
	by_sql(entry)
} else := "uses a service of a cloud, for whose credentials the shim may start a program of the container" if {
	by_credentials(entry)
} else := concat("", [
	$"opens files, and {runtime.name} shows it `/proc`, so it can write into the memory of the process that runs it",
])

cure(entry) := "use a database on the network or a key-value store" if {
	by_sql(entry)
} else := "leave `sh` and `az` out of the container, and mount no volume where programs are searched" if {
	by_credentials(entry)
} else := "ship a program that opens no file or use a runtime that is not affected"

by_sql(entry) if {
	some evidence in entry.evidence
	startswith(evidence, "SQLite ")
}

by_credentials(entry) if {
	some evidence in entry.evidence
	startswith(evidence, "an SDK of a cloud ")
}

# The containers of which the first rule says everything: who writes into the process has all that it has.
rewritten contains found.container.name if {
	some i in reports
	found := capabilities.uncovered[i]
	found.entry.capability == "native.exec"
}

# METADATA
# description: The uncovered capabilities that this rule reports instead of `needs-grant`.
reports contains i if {
	some i, found in capabilities.uncovered
	found.entry.opens
	not capabilities.expired(found.entry)
}
