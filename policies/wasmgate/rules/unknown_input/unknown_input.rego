package wasmgate.rules.unknown_input

# METADATA
# title: The input has the version that the rules read
# description: |
#   Guards all other rules: with an input of another version they would be undefined, and the pod would be admitted.
# custom:
#   remedy: Use a gate and a bundle of the same input version.
#   severity: high
violations contains violation if {
	not input.apiVersion == "wasmgate.dev/v1alpha1"
	violation := {
		"rule": "unknown-input",
		"mendedBy": "platform",
		"message": $"the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `{input.apiVersion}`",
	}
}
