# METADATA
# title: The page of the rules
# description: |
#   Run by `policies/docs`. The input holds `inspected` (the output of `opa inspect --annotations`) and `examples` (rule
#   to what it says of the document in its tests).
package page

# METADATA
# title: Page
# description: docs/rules.md, from the METADATA of every rule.
# scope: document
# entrypoint: true
page := concat("\n", array.concat([heading, table], array.concat([section(rule) | some rule in rules], [""])))

# METADATA
# title: Problems
# description: What would leave a hole in the page.
# scope: document
problems contains $"{files[rule]}: no document in `refused`, in its tests, shows what `{rule}` says" if {
	some rule in rules
	not input.examples[rule]
}

problems contains $"`refused` has a document for `{rule}`, and no file is named after such a rule" if {
	some rule, _ in input.examples
	not files[rule]
}

heading := concat("\n", [
	"# The baseline rules\n",
	"Made by `policies/docs` from the METADATA of the rules and the documents in their tests; edit those.\n",
	"What a rule denies comes to what the enforcement action of the namespace makes of it, or to less where the configuration says so",
	"for the rule. A bundle that could not be evaluated denies under the name `policy-error`, whatever the enforcement action.\n",
])

table := concat("\n", array.concat(
	["| rule | severity | what it does | about |", "|---|---|---|---|"],
	[$"| [{rule}](#{rule}) | {annotations[rule][0].custom.severity} | {action(rule)} | {annotations[rule][0].title} |" |
		some rule in rules
	],
))

section(rule) := concat("\n", array.concat(
	[$"\n## {rule}\n"],
	array.concat(
		[paragraph | some annotation in annotations[rule]; paragraph := about(annotation)],
		["It says, for example:\n", concat("\n", [$"> {said.message}" | some said in input.examples[rule]])],
	),
))

about(annotation) := concat("\n", [
	$"**{annotation.title}** (severity: {annotation.custom.severity})\n",
	$"{trim_space(annotation.description)}\n",
	$"Remedy: {trim_space(annotation.custom.remedy)}\n",
])

action(rule) := "warns" if {
	every said in input.examples[rule] {
		said.action == "warn"
	}
} else := "denies"

rules := sort(object.keys(files))

# Rule to the file that it is named after.
files[rule] := annotation.location.file if {
	some annotation in input.inspected.annotations
	is_of_rule(annotation)
	rule := name(annotation)
}

# Rule to its METADATA, in the order of the file.
annotations[rule] := [in_order[2] |
	some in_order in sort([[annotation.location.row, i, annotation.annotations] |
		some i, annotation in input.inspected.annotations
		is_of_rule(annotation)
		name(annotation) == rule
	])
] if {
	some rule in rules
}

is_of_rule(annotation) if {
	annotation.path[count(annotation.path) - 1].value == "violations"
	not annotation.annotations.scope == "document"
}

name(annotation) := replace(trim_suffix(base, ".rego"), "_", "-") if {
	parts := split(annotation.location.file, "/")
	base := parts[count(parts) - 1]
}
