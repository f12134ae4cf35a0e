# METADATA
# title: Capabilities
# description: Which capabilities of the input no grant covers.
package wasmgate.lib.capabilities

import data.wasmgate.lib.containers
import data.wasmgate.lib.runtime
import data.wasmgate.lib.text

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

# METADATA
# description: |
#   What a message says of the grant for an entry: the one that would cover it, or that none helps. Follows "no grant
#   allows it".
grant(container, entry) := text.grant(entry) if {
	may_be_granted(container)
} else := no_grant(container)

# METADATA
# description: Whether a grant can get a container admitted. Its image or its runtime may be what it is refused for.
may_be_granted(container) if not refused_by(container)

# METADATA
# description: That no grant helps, and which rule is the reason.
no_grant(container) := $"no grant helps as long as `{refused_by(container)}` refuses the container"

refused_by(container) := "not-inspected" if {
	not containers.inspected(container)
	runtime.may_run_wasm
} else := "native-code" if {
	is_native(container)
} else := "runtime-mismatch" if {
	is_mismatch(container)
}

is_native(container) if container.class == "native"

is_native(container) if count(container.native) > 0

is_mismatch(container) if {
	container.class == "wasm"
	not runtime.runs(container)
}

is_mismatch(container) if {
	container.class == "wasm"
	runtime.cannot_start(container)
}
