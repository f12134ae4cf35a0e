# METADATA
# title: House rules for bundles
# description: |
#   Run by `policies/build` on the parsed sources of a bundle. The input holds `modules` (file name to the output of
#   `opa parse`) and `inspected` (the output of `opa inspect --annotations`).
package lint

# METADATA
# title: Problems
# description: A message for every breach, which names the file.
# scope: document
# entrypoint: true
problems contains $"{file}: reads the whole `input`, so which parts it needs is not known: name the property" if {
	some [file, ref] in reads
	not ref[1].type == "string"
}

problems contains $"{file}: reads `input.{ref[1].value}`, which the manifest says no rule reads" if {
	some [file, ref] in reads
	ref[1].value in input.inspected.manifest.metadata.wasmgate.omit
}

problems contains $"{file}: reads `input.{key}.{ref[2].value}`, which the manifest says no rule reads" if {
	some [file, ref] in reads
	some [key, property] in omitted_properties
	ref[1].value == key
	ref[2].value == property
}

problems contains $"{file}: reads the whole `input.{key}`, not all of which rules may read: name the property" if {
	some [file, ref] in reads
	some [key, _] in omitted_properties
	ref[1].value == key
	not ref[2].type == "string"
}

problems contains $"{annotation.location.file}: METADATA of a rule lacks `{concat(".", field)}`" if {
	some annotation in violation_annotations
	some field in [["title"], ["description"], ["custom", "remedy"], ["custom", "severity"]]
	object.get(annotation.annotations, field, "") == ""
}

problems contains $"{file}: a rule has no METADATA" if {
	some file, module in input.modules
	not file in entry_points
	rules := [rule | some rule in module.rules; is_violation(rule)]
	annotations := [a | some a in violation_annotations; a.location.file == file]
	count(annotations) < count(rules)
}

problems contains $"{file}: shares its package with {other}, whose rules of the same name would join its own" if {
	some file, module in input.modules
	some other, its in input.modules
	file < other
	path(module) == path(its)
}

path(module) := [part.value | some part in module.package.path]

reads contains [file, term.value] if {
	some file, module in input.modules
	walk(module, [_, term])
	term.type == "ref"
	term.value[0] == {"type": "var", "value": "input"}
}

omitted_properties contains split(path, ".") if {
	some path in input.inspected.manifest.metadata.wasmgate.omit
	contains(path, ".")
}

is_violation(rule) if rule.head.ref[0].value == "violations"

violation_annotations contains annotation if {
	some annotation in annotations_of_violations

	# Annotations of the whole set describe no rule.
	not annotation.annotations.scope == "document"
}

annotations_of_violations contains annotation if {
	some annotation in input.inspected.annotations
	annotation.path[count(annotation.path) - 1].value == "violations"
}

# The entry point unites the rules and has none of its own.
entry_points contains annotation.location.file if {
	some annotation in annotations_of_violations
	annotation.annotations.entrypoint
}
