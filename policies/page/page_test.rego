package page_test

import data.page

test_every_rule_has_its_metadata_and_its_words if {
	text := page.markdown with input as written
	contains(text, "| [a-rule](#a-rule) | low | warns | pod | A title |")
	contains(text, "\n## a-rule\n\n**A title** (severity: low)\n\nWhy.\n\nRemedy: Mend it.\n")
	contains(text, "**Further** (severity: high)")
	contains(text, "> container `web` is wrong")
	page.problems == set() with input as written
}

test_a_rule_that_denies_in_one_case_denies if {
	text := page.markdown with input as object.union(written, {"examples": {"a-rule": [
		{"rule": "a-rule", "message": "one", "action": "warn", "mendedBy": "pod"},
		{"rule": "a-rule", "message": "two", "mendedBy": "grant"},
	]}})
	contains(text, "| low | denies | grant, pod |")
}

test_a_rule_without_a_document_is_a_problem if {
	missing := "wasmgate/a_rule.rego: no document in `refused`, in its tests, shows what `a-rule` says"
	page.problems == {missing} with input as {
		"inspected": written.inspected,
		"examples": {},
	}
}

test_a_document_without_a_rule_is_a_problem if {
	page.problems == {"`refused` has a document for `b-rule`, and no file is named after such a rule"} with input as {
		"inspected": written.inspected,
		"examples": object.union(written.examples, {"b-rule": []}),
	}
}

test_a_violation_that_does_not_say_what_mends_it_is_a_problem if {
	page.problems == {"wasmgate/a_rule.rego: what `a-rule` says has no `mendedBy`"} with input as {
		"inspected": written.inspected,
		"examples": {"a-rule": [{"rule": "a-rule", "message": "one"}]},
	}
}

written := {
	"inspected": {"annotations": [
		annotation(20, {"title": "Further", "description": "More.", "custom": {"remedy": "Mend.", "severity": "high"}}),
		annotation(3, {"title": "A title", "description": "Why.\n", "custom": {"remedy": "Mend it.", "severity": "low"}}),
		annotation(1, {"scope": "document", "title": "All"}),
	]},
	"examples": {"a-rule": [{
		"rule": "a-rule",
		"message": "container `web` is wrong",
		"action": "warn",
		"mendedBy": "pod",
	}]},
}

annotation(row, words) := {
	"annotations": words,
	"location": {"file": "wasmgate/a_rule.rego", "row": row},
	"path": [{"type": "var", "value": "data"}, {"type": "string", "value": "violations"}],
}
