package wasmgate.rules.host_namespace_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"hostPaths": [{"path": "/var/run", "mountPath": "/host", "readOnly": true}]})

admitted := fixture.pod({"hostPaths": [], "privileged": false, "hostPorts": []})

of_pod(field, why) := {{
	"rule": "host-namespace",
	"mendedBy": "pod",
	"message": $"the pod has `{field}: true`: {why}; leave `{field}` out",
}}

of_container(finding) := {{
	"rule": "host-namespace",
	"mendedBy": "pod",
	"container": "web",
	"message": $"container `web` {finding}",
}}

on_node := {"hostNetwork": true}

test_the_namespaces_of_the_node_are_refused if {
	every field, why in {
		"hostNetwork": "its network is the node's, where no NetworkPolicy applies and the node's own services listen",
		"hostPID": "`/proc` shows the node's processes with their files and environments to a program that opens files",
		"hostIPC": "`/dev/shm` is the node's, where its processes share memory, to a program that opens files",
	} {
		wasmgate.violations == of_pod(field, why) with input as fixture.with_workload(fixture.pod({}), {field: true})
	}
}

test_files_of_the_node_are_refused if {
	wasmgate.violations == of_container(concat("", [
		"mounts `/var/run` of the node at `/host` (read-only): a grant for a path cannot tell the node's files from ",
		"the pod's; use another type of volume than `hostPath`",
	])) with input as refused
	violations := wasmgate.violations with input as fixture.pod({"hostPaths": [{
		"path": "/",
		"mountPath": "/host",
		"readOnly": false,
	}]})
	{contains(v.message, "at `/host` (read-write)") | some v in violations} == {true}
}

test_a_privileged_container_is_refused if {
	finding := "has `securityContext.privileged: true`: the node's devices are in reach; leave it out"
	wasmgate.violations == of_container(finding) with input as fixture.pod({"privileged": true})
}

test_a_port_of_the_node_is_refused if {
	finding := "takes port 8080 of the node (`hostPort`): every client that reaches the node reaches it; use a Service"
	wasmgate.violations == of_container(finding) with input as fixture.pod({"hostPorts": [8080]})
}

test_on_the_network_of_the_node_every_port_is_a_port_of_the_node if {
	violations := wasmgate.violations with input as fixture.with_workload(fixture.pod({"hostPorts": [8080]}), on_node)
	count(violations) == 1
}

test_a_linux_container_of_the_pod_counts if {
	document := fixture.with_containers(fixture.pod({}), [
		fixture.web,
		object.union(fixture.proxy, {"privileged": true}),
	])
	violations := wasmgate.violations with input as document
	{[v.rule, v.container] | some v in violations} == {["host-namespace", "proxy"], ["mixed-pod", "proxy"]}
}

test_a_wasm_program_without_a_wasm_runtime_counts if {
	"host-namespace" in fixture.rules_of(fixture.with_workload(fixture.on(fixture.none, {}), on_node))
}

test_a_linux_pod_that_mounts_a_wasm_image_does_not_count if {
	document := fixture.with_containers(fixture.on(fixture.none, {}), [
		object.union(fixture.proxy, {"privileged": true}),
		object.union(fixture.web, {"role": "imageVolume"}),
	])
	fixture.rules_of(document) == set()
}
