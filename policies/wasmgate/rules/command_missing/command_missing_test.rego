package wasmgate.rules.command_missing_test

import data.wasmgate
import data.wasmgate.fixture

refused := fixture.pod({"namesNoCommand": true})

admitted := fixture.pod({"namesNoCommand": false})

test_a_container_without_a_command_is_warned_of if {
	wasmgate.violations == {{
		"rule": "command-missing",
		"container": "web",
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			"container `web` will not start: neither its image nor the pod names a command, and containerd creates no ",
			"container without one (`no command specified`); write `command: [\"/\"]`",
		]),
	}} with input as refused
}

test_a_linux_container_is_not_reported if {
	not "command-missing" in fixture.rules_of(fixture.with_containers(
		fixture.pod({}),
		[fixture.web, object.union(fixture.proxy, {"namesNoCommand": true})],
	))
}
