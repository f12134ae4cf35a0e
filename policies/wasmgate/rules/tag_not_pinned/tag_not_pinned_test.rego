package wasmgate.rules.tag_not_pinned_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"image": "ghcr.io/myorg/orders:1.4"})

admitted := fixture.pod({"image": $"ghcr.io/myorg/orders@{fixture.digest}"})

test_an_image_without_a_digest_is_refused_with_the_one_that_was_judged if {
	wasmgate.violations == {{
		"rule": "tag-not-pinned",
		"mendedBy": "pod",
		"container": "web",
		"message": concat("", [
			"container `web`: image `ghcr.io/myorg/orders:1.4` has no digest, so the node may run other bytes than ",
			$"those that were judged; write `image: ghcr.io/myorg/orders:1.4@{fixture.digest}` ",
			"(wasmgate does so on new pods: its mutating webhook warned why not, failed or was not called; see its ",
			"`failurePolicy`, `namespaceSelector` and `reinvocationPolicy`)",
		]),
	}} with input as refused
}

test_an_update_is_not_told_of_the_mutating_webhook_which_does_not_see_it if {
	violations := wasmgate.violations with input as through("", [object.union(fixture.web, {"image": "a:1"})])
	{endswith(v.message, $"; write `image: a:1@{fixture.digest}`") | some v in violations} == {true}
}

test_every_program_of_a_pod_must_be_pinned_linux_ones_too if {
	every role in ["container", "initContainer", "ephemeralContainer"] {
		sidecar := object.union(fixture.proxy, {"role": role, "image": "envoy:v1"})
		document := fixture.with_containers(fixture.pod({}), [fixture.web, sidecar])
		fixture.rules_of(document) == {"mixed-pod", "tag-not-pinned"}
	}
}

test_an_image_that_is_only_mounted_or_could_not_be_read_is_not_asked_for if {
	fixture.rules_of(fixture.pod({"image": "a:1", "role": "imageVolume"})) == set()
	fixture.rules_of(fixture.pod({"image": "a:1", "class": "unread", "digest": null})) == {"not-inspected"}
}

test_a_pod_that_will_not_run_on_a_wasm_runtime_is_not_asked_for if {
	fixture.rules_of(fixture.on(fixture.none, {"image": "a:1"})) == {"runtime-mismatch"}
}

test_a_linux_image_alone_under_a_wasm_class_must_be_pinned_too if {
	sidecar := object.union(fixture.proxy, {"image": "envoy:v1"})
	fixture.rules_of(fixture.with_containers(fixture.pod({}), [sidecar])) == {"mixed-pod", "tag-not-pinned"}
	mounted := object.union(fixture.web, {"role": "imageVolume", "image": "a:1"})
	pinned := object.union(fixture.proxy, {"image": $"envoy@{fixture.digest}"})
	fixture.rules_of(fixture.with_containers(fixture.pod({}), [pinned, mounted])) == {"mixed-pod"}
}

through(sub_resource, containers) := object.union(
	fixture.with_containers(fixture.pod({}), containers),
	{"request": {"operation": "UPDATE", "subResource": sub_resource}},
)

test_an_update_that_cannot_change_an_image_is_not_held_up if {
	unpinned := object.union(fixture.web, {"image": "a:1"})
	late := object.union(unpinned, {"name": "debug", "role": "ephemeralContainer"})
	fixture.rules_of(through("resize", [unpinned, late])) == set()
	fixture.rules_of(through("ephemeralcontainers", [unpinned])) == set()
	violations := wasmgate.violations with input as through("ephemeralcontainers", [unpinned, late])
	{v.container | some v in violations} == {"debug"}
	every sub_resource in ["", null] {
		both := wasmgate.violations with input as through(sub_resource, [unpinned, late])
		{v.container | some v in both} == {"web", "debug"}
	}
}

test_an_ephemeral_container_that_was_there_before_is_not_asked_for_again if {
	old := object.union(fixture.web, {"name": "old", "image": "a:1", "role": "ephemeralContainer", "unchanged": true})
	late := object.union(old, {"name": "late", "unchanged": false})
	every sub_resource in ["ephemeralcontainers", ""] {
		fixture.rules_of(through(sub_resource, [old])) == set()
		violations := wasmgate.violations with input as through(sub_resource, [old, late])
		{v.container | some v in violations} == {"late"}
	}
}

test_a_registry_that_keeps_no_digests_is_warned_of if {
	violations := wasmgate.violations with input as fixture.pod({
		"image": "mirror.example/orders:1",
		"unpinnedBy": "mirror.example",
	})
	violations == {{
		"rule": "tag-not-pinned",
		"mendedBy": "platform",
		"action": "warn",
		"container": "web",
		"message": concat("", [
			"container `web`: image `mirror.example/orders:1` keeps its tag, since `images.unpinned` in the gate's ",
			$"configuration names `mirror.example`: `{fixture.digest}` was judged, and it is not promised that the node ",
			"runs it, because the tag may name another image when it is pulled, and the node may have pulled one before; ",
			$"write `image: mirror.example/orders:1@{fixture.digest}` to have that promised",
		]),
	}}
}
