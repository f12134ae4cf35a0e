package wasmgate

import data.wasmgate.text

# METADATA
# title: A Wasm pod keeps to itself on its node
# description: |
#   The node's network, processes, shared memory, files and devices are behind the `/` and the network that a runtime
#   hands over, and a grant cannot tell them from the pod's own. Every container of the pod counts, a Linux one too.
# custom:
#   remedy: Leave out the field that the message names; use a Service for a port, and a persistent volume for files.
#   severity: critical
violations contains violation if {
	concerned
	some [field, why] in shared_with_node
	input.workload[field]
	violation := {
		"rule": "host-namespace",
		"message": $"the pod has `{field}: true`: {why}; leave `{field}` out",
	}
}

# METADATA
# title: A container of a Wasm pod keeps to itself on its node
# description: As above, for what a single container asks for.
# custom:
#   remedy: Leave out the field that the message names; use a Service for a port, and a persistent volume for files.
#   severity: critical
violations contains violation if {
	concerned
	some container in input.containers
	some finding in reaches_node(container)
	violation := {
		"rule": "host-namespace",
		"container": container.name,
		"message": $"{text.container(container)} {finding}",
	}
}

shared_with_node := [
	["hostNetwork", "its network is the node's, where no NetworkPolicy applies and the node's own services listen"],
	["hostPID", "`/proc` shows the node's processes with their files and environments to a program that opens files"],
	["hostIPC", "the node's shared memory is in reach of a program that opens files"],
]

reaches_node(container) := {finding | some finding in array.concat(privileges(container), array.concat(
	[$"mounts `{mount.path}` of the node at `{mount.mountPath}` ({access(mount)}): {files_of_node}" |
		some mount in container.hostPaths
	],
	[$"takes port {port} of the node (`hostPort`): everybody who reaches the node reaches it; use a Service" |
		not input.workload.hostNetwork
		some port in container.hostPorts
	],
))}

privileges(container) := ["has `securityContext.privileged: true`: the node's devices are in reach; leave it out"] if {
	container.privileged
} else := []

files_of_node := "a grant for a path cannot tell the node's files from the pod's; use another type of volume than `hostPath`"

access(mount) := "read-only" if {
	mount.readOnly
} else := "read-write"
