# METADATA
# title: wasmgate baseline
# description: |
#   The rules that every gate starts with. Each file adds one rule to the set `violations`; what the input holds is
#   in `schema/input.v1alpha1.json`.
package wasmgate

# METADATA
# title: Violations
# description: "Entry point: every finding of every rule as `{rule, message, container?, capability?, action?}`."
# scope: document
# entrypoint: true

# METADATA
# title: The input is of a version that the rules read
# description: |
#   Guards all other rules: on a document of another version they would be undefined, and that would admit.
# custom:
#   remedy: Run a gate and a bundle that speak the same version of the input.
#   severity: high
violations contains violation if {
	not input.apiVersion == "wasmgate.dev/v1alpha1"
	violation := {
		"rule": "unknown-input",
		"message": $"the baseline rules read input `wasmgate.dev/v1alpha1`, and this is `{input.apiVersion}`",
	}
}
