# METADATA
# title: Capabilities
# description: Which capabilities of the input no grant covers.
package wasmgate.lib.capabilities

# METADATA
# description: |
#   What the programs can use and no grant covers, as `{container, entry}`. A list and not a set, because entries are
#   expensive to compare. A rule that reports one of them instead of `needs-grant` names it by its index.
uncovered := [{"container": container, "entry": entry} |
	some container in input.containers
	some entry in container.effective
	not covered(entry)
]

# METADATA
# description: Whether a grant covers an entry.
covered(entry) if count(entry.coveredBy) > 0

# METADATA
# description: Whether an expired grant would cover an entry.
expired(entry) if count(entry.expiredGrants) > 0
