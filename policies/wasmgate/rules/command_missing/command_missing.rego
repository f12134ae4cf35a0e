package wasmgate.rules.command_missing

import data.wasmgate.lib.text

# METADATA
# title: The image or the pod names a command
# description: |
#   containerd creates no container without a command (`no command specified`), not even for a Wasm runtime that does
#   not read it. The config of a CNCF Wasm artifact names none, and neither does that of a Spin application, so the
#   pod must.
# custom:
#   remedy: 'Write `command: ["/"]` for the container.'
#   severity: medium
violations contains violation if {
	some container in input.containers
	container.class == "wasm"
	container.namesNoCommand
	violation := {
		"rule": "command-missing",
		"container": container.name,
		"action": "warn",
		"mendedBy": "pod",
		"message": concat("", [
			$"{text.container(container)} will not start: neither its image nor the pod names a command, and containerd ",
			"creates no container without one (`no command specified`); write `command: [\"/\"]`",
		]),
	}
}
