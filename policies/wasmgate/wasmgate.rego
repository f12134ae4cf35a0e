# METADATA
# title: wasmgate baseline
# description: |
#   The built-in rules. Each is a package of its own below `wasmgate.rules`; `schema/input.v1alpha1.json` describes the
#   input.
package wasmgate

# METADATA
# title: Violations
# description: |
#   All violations of all rules, as `{rule, message, container?, capability?, action?, mendedBy?}`.
# scope: document
# entrypoint: true
violations contains violation if {
	some rule
	some violation in data.wasmgate.rules[rule].violations
}
