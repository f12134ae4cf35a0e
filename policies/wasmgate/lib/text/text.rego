# METADATA
# title: Wording
# description: How containers, kinds, sizes and capabilities are named in messages.
package wasmgate.lib.text

# METADATA
# description: The name of the list of the pod spec that contains an image.
roles := {
	"container": "container",
	"initContainer": "init container",
	"ephemeralContainer": "ephemeral container",
	"imageVolume": "image volume",
}

# METADATA
# description: The kind of a program, in words.
kinds := {
	"module": "a Wasm module",
	"component": "a Wasm component",
	"http-component": "an HTTP component",
	"spin-app": "a Spin application",
}

# METADATA
# description: The container as a message names it, such as "init container `migrate`".
container(c) := $"{object.get(roles, c.role, "container")} `{c.name}`"

# METADATA
# description: The kind of program with its article.
kind(c) := object.get(kinds, object.get(c, "kind", "unknown"), "Wasm of a kind that no known runtime can start")

# METADATA
# description: Why the image was taken for what it is, in brackets with a leading blank; empty when nothing is known.
evidence(c) := $" (seen: {concat(", ", array.slice(seen, 0, shown))})" if {
	seen := [$"{e.seen} = {e.value}" | some e in c.evidence]
	count(seen) > 0
} else := ""

# METADATA
# description: |
#   The capability with its parameters, such as "`fs` on `/data` (read-write)". Absent parameters mean any, and
#   are left out. Each part is a text for any entry, so they are joined as they are: a `{}` takes much longer.
capability(entry) := concat("", [
	$"`{entry.capability}`",
	called(entry),
	to_host(entry),
	on_port(entry),
	on_path(entry),
	remarks(entry),
])

# METADATA
# description: Where a capability was seen, at most the first few places.
places(entry) := concat(", ", array.concat(array.slice(entry.evidence, 0, shown), more(entry)))

# METADATA
# description: Where a capability was seen, in brackets with a leading blank; empty when nothing is known.
grounds(entry) := $" (seen: {places(entry)})" if {
	count(entry.evidence) > 0
} else := ""

# METADATA
# description: The grant that would cover an entry, ready to be pasted; follows "no grant allows it".
grant(entry) := concat("", [covering, "- ", entry.needsGrant]) if {
	is_string(entry.needsGrant)
} else := "ask the platform team for a WasiGrant"

# The same for every entry, and made once.
covering := $"a WasiGrant in namespace `{input.workload.namespace}` would, with this under `spec.capabilities`:\n"

# METADATA
# description: |
#   The image as its users know it. With both a tag and a digest, only the tag is shown: the gate wrote the digest.
image(c) := tagged if {
	[tagged, _] := split(c.image, "@")
	segments := split(tagged, "/")
	contains(segments[count(segments) - 1], ":")
} else := c.image

# METADATA
# description: |
#   Why a new pod may lack what the mutating webhook writes, and where to look, in brackets with a leading blank;
#   follows what it would have written. Empty for an update, for which that webhook is not called, and for a template.
# scope: document
default unmutated := ""

unmutated := concat("", [
	" (wasmgate does so on new pods: its mutating webhook warned why not, failed or was not called; see its ",
	"`failurePolicy`, `namespaceSelector` and `reinvocationPolicy`)",
]) if {
	is_new_pod
}

is_new_pod if {
	input.request.operation == "CREATE"
	not input.workload.template
}

# METADATA
# description: Bytes as a pod spec has them, such as `32Mi`; bytes that are not whole mebibytes as a number.
memory(bytes) := mebibytes(bytes) if {
	bytes % 1048576 == 0
} else := $"{bytes} bytes"

# METADATA
# description: Bytes as mebibytes, rounded up, as a Kubernetes quantity.
mebibytes(bytes) := $"{ceil(bytes / 1048576)}Mi"

# A message stays readable at this many pieces of evidence; the record has them all.
shown := 3

more(entry) := [$"and {count(entry.evidence) - shown} more"] if {
	count(entry.evidence) > shown
} else := []

called(entry) := $" `{entry.name}`" if {
	entry.name
} else := ""

to_host(entry) := " to any host" if {
	entry.host == "*://*:*"
} else := $" to `{entry.host}`" if {
	entry.host
} else := ""

on_port(entry) := $" on port `{entry.port}`" if {
	entry.port
} else := ""

on_path(entry) := $" on `{entry.path}`" if {
	entry.path
} else := ""

remarks(entry) := $" ({entry.access}, a secret)" if {
	entry.access
	entry.secret
} else := $" ({entry.access})" if {
	entry.access
} else := " (a secret)" if {
	entry.secret
} else := ""
