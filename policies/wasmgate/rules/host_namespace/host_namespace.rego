package wasmgate.rules.host_namespace

import data.wasmgate.lib.text

# METADATA
# title: A Wasm pod shares no namespace with its node
# description: |
#   With `hostNetwork`, `hostPID` or `hostIPC` the `/` and the network that a runtime hands over include the node's
#   network, processes and shared memory, and a grant cannot tell these from the pod's own. This counts for every
#   container of the pod, also a Linux one.
# custom:
#   remedy: Leave out the field that the message names; use a Service for a port, and a persistent volume for files.
#   severity: critical
violations contains violation if {
	some [field, why] in [
		["hostNetwork", "its network is the node's, where no NetworkPolicy applies and the node's own services listen"],
		["hostPID", "`/proc` shows the node's processes with their files and environments to a program that opens files"],
		["hostIPC", "`/dev/shm` is the node's, where its processes share memory, to a program that opens files"],
	]
	field in namespaces_of_node
	may_run_wasm
	violation := {
		"rule": "host-namespace",
		"mendedBy": "pod",
		"message": $"the pod has `{field}: true`: {why}; leave `{field}` out",
	}
}

# METADATA
# title: A container of a Wasm pod uses no files, devices or ports of its node
# description: |
#   When a container asks for files, devices or ports of the node, the runtime hands them over with the pod's own, and a
#   grant cannot tell them apart. This counts for every container of the pod, also a Linux one.
# custom:
#   remedy: Leave out the field that the message names; use a Service for a port, and a persistent volume for files.
#   severity: critical
violations contains violation if {
	some container in input.containers
	asks_for_node(container)
	may_run_wasm
	some finding in reaches_node(container)
	violation := {
		"rule": "host-namespace",
		"mendedBy": "pod",
		"container": container.name,
		"message": $"{text.container(container)} {finding}",
	}
}

namespaces_of_node contains "hostNetwork" if input.workload.hostNetwork

namespaces_of_node contains "hostPID" if input.workload.hostPID

namespaces_of_node contains "hostIPC" if input.workload.hostIPC

# Pods without Wasm are not restricted here.
may_run_wasm if input.runtime.wasm

may_run_wasm if {
	some container in input.containers
	container.class in {"wasm", "native"}
	not container.role == "imageVolume"
}

# Few containers do, and this check is cheaper than building three sets.
asks_for_node(container) if container.privileged

asks_for_node(container) if count(container.hostPaths) > 0

asks_for_node(container) if count(container.hostPorts) > 0

reaches_node(container) := privileges(container) | (files(container) | ports(container))

privileges(container) := {"has `securityContext.privileged: true`: the node's devices are in reach; leave it out" |
	container.privileged
}

files(container) := {finding |
	some mount in container.hostPaths
	finding := concat("", [
		$"mounts `{mount.path}` of the node at `{mount.mountPath}` ({access(mount)}): a grant for a path cannot tell the ",
		"node's files from the pod's; use another type of volume than `hostPath`",
	])
}

# On the node's network, every port is the node's.
ports(container) := {finding |
	not input.workload.hostNetwork
	some port in container.hostPorts
	finding := concat("", [
		$"takes port {port} of the node (`hostPort`): every client that reaches the node reaches it; ",
		"use a Service",
	])
}

access(mount) := "read-only" if {
	mount.readOnly
} else := "read-write"
