# METADATA
# title: wasmgate baseline
# description: |
#   The rules that every gate starts with. Each is a package of its own below `wasmgate.rules`; what the input holds is
#   in `schema/input.v1alpha1.json`.
package wasmgate

# METADATA
# title: Violations
# description: |
#   Every finding of every rule, as `{rule, message, container?, capability?, action?, mendedBy?}`.
# scope: document
# entrypoint: true
violations contains violation if {
	some rule
	some violation in data.wasmgate.rules[rule].violations
}
