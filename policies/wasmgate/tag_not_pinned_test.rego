package wasmgate_test

import data.wasmgate
import data.wasmgate.fixture

refused["tag-not-pinned"] := fixture.pod({"image": "ghcr.io/myorg/orders:1.4"})

admitted["tag-not-pinned"] := fixture.pod({"image": $"ghcr.io/myorg/orders@{fixture.digest}"})

test_an_image_without_a_digest_is_refused_with_the_one_that_was_judged if {
	wasmgate.violations == {{
		"rule": "tag-not-pinned",
		"container": "web",
		"message": concat("", [
			"container `web`: image `ghcr.io/myorg/orders:1.4` has no digest, so the node may run other bytes than ",
			$"those that were judged; write `image: ghcr.io/myorg/orders:1.4@{fixture.digest}` ",
			"(wasmgate does so on new pods: if this is one, its mutating webhook did not run, or could not read the image)",
		]),
	}} with input as refused["tag-not-pinned"]
}

test_programs_by_every_entry_point_must_be_pinned_linux_ones_too if {
	every role in ["container", "initContainer", "ephemeralContainer"] {
		sidecar := object.union(fixture.proxy, {"role": role, "image": "envoy:v1"})
		document := fixture.with_containers(fixture.pod({}), [fixture.web, sidecar])
		rules_of(document) == {"mixed-pod", "tag-not-pinned"}
	}
}

test_an_image_that_is_only_mounted_or_could_not_be_read_is_not_asked_for if {
	rules_of(fixture.pod({"image": "a:1", "role": "imageVolume"})) == set()
	rules_of(fixture.pod({"image": "a:1", "class": "unread", "digest": null})) == {"not-inspected"}
}

test_a_pod_that_will_not_run_on_a_wasm_runtime_is_not_asked_for if {
	rules_of(fixture.on(fixture.none, {"image": "a:1"})) == {"runtime-mismatch"}
}

test_a_linux_image_alone_under_a_wasm_class_must_be_pinned_too if {
	sidecar := object.union(fixture.proxy, {"image": "envoy:v1"})
	rules_of(fixture.with_containers(fixture.pod({}), [sidecar])) == {"mixed-pod", "tag-not-pinned"}
	mounted := object.union(fixture.web, {"role": "imageVolume", "image": "a:1"})
	pinned := object.union(fixture.proxy, {"image": $"envoy@{fixture.digest}"})
	rules_of(fixture.with_containers(fixture.pod({}), [pinned, mounted])) == {"mixed-pod"}
}

through(sub_resource, containers) := object.union(
	fixture.with_containers(fixture.pod({}), containers),
	{"request": {"operation": "UPDATE", "subResource": sub_resource}},
)

test_an_update_that_cannot_change_an_image_is_not_held_up if {
	unpinned := object.union(fixture.web, {"image": "a:1"})
	late := object.union(unpinned, {"name": "debug", "role": "ephemeralContainer"})
	rules_of(through("resize", [unpinned, late])) == set()
	rules_of(through("ephemeralcontainers", [unpinned])) == set()
	violations := wasmgate.violations with input as through("ephemeralcontainers", [unpinned, late])
	{v.container | some v in violations} == {"debug"}
	every sub_resource in ["", null] {
		both := wasmgate.violations with input as through(sub_resource, [unpinned, late])
		{v.container | some v in both} == {"web", "debug"}
	}
}
