package lint_test

import data.lint

test_a_named_property_that_is_sent_is_fine if {
	lint.problems == set() with input as bundle(["input", "containers"])
}

test_an_omitted_property_is_a_problem if {
	document := bundle(["input", "object"])
	lint.problems == {"a.rego: reads `input.object`, which the manifest says no rule reads"} with input as document
}

test_an_omitted_property_of_a_property_is_a_problem if {
	lint.problems == {"a.rego: reads `input.request.uid`, which the manifest says no rule reads"} with input as bundle([
		"input",
		"request",
		"uid",
	])
}

test_a_property_beside_an_omitted_one_is_none if {
	lint.problems == set() with input as bundle(["input", "request", "operation"])
	lint.problems == set() with input as bundle(["input", "workload", "uid"])
}

test_a_whole_property_with_an_omitted_one_is_a_problem if {
	lint.problems == {concat("", [
		"a.rego: reads the whole `input.request`, not all of which rules may read: name the property",
	])} with input as bundle(["input", "request"])
}

test_the_whole_input_is_a_problem if {
	lint.problems == reads_all with input as bundle(["input"])
}

test_a_reference_to_a_key_that_varies_is_a_problem if {
	lint.problems == reads_all with input as {
		"inspected": inspected([]),
		"modules": {"a.rego": {"rules": [{"body": [{"terms": {"type": "ref", "value": [
			{"type": "var", "value": "input"},
			{"type": "var", "value": "key"},
		]}}]}]}},
	}
}

test_a_rule_without_metadata_is_a_problem if {
	lint.problems == {"a.rego: a rule has no METADATA"} with input as {
		"inspected": inspected([]),
		"modules": {"a.rego": {"rules": [{"head": {"ref": [{"type": "var", "value": "violations"}]}}]}},
	}
}

test_metadata_without_a_remedy_is_a_problem if {
	lint.problems == {"a.rego: METADATA of a rule lacks `custom.remedy`"} with input as {
		"modules": {},
		"inspected": inspected([{
			"annotations": {"title": "t", "description": "d", "custom": {"severity": "low"}},
			"location": {"file": "a.rego", "row": 1},
			"path": [{"type": "var", "value": "data"}, {"type": "string", "value": "violations"}],
		}]),
	}
}

test_the_words_about_the_whole_set_need_no_remedy_and_stand_for_no_rule if {
	annotated := {
		"annotations": {"scope": "document", "title": "t"},
		"location": {"file": "a.rego", "row": 1},
		"path": [{"type": "var", "value": "data"}, {"type": "string", "value": "violations"}],
	}
	lint.problems == set() with input as {"modules": {}, "inspected": inspected([annotated])}
	lint.problems == {"a.rego: a rule has no METADATA"} with input as {
		"inspected": inspected([annotated]),
		"modules": {"a.rego": {"rules": [{"head": {"ref": [{"type": "var", "value": "violations"}]}}]}},
	}
}

test_the_entry_point_unites_the_rules_and_needs_no_metadata_of_a_rule if {
	lint.problems == set() with input as {
		"inspected": inspected([{
			"annotations": {"scope": "document", "title": "t", "entrypoint": true},
			"location": {"file": "a.rego", "row": 1},
			"path": [{"type": "var", "value": "data"}, {"type": "string", "value": "violations"}],
		}]),
		"modules": {"a.rego": {"rules": [{"head": {"ref": [{"type": "var", "value": "violations"}]}}]}},
	}
}

test_two_files_of_one_package_are_a_problem if {
	lint.problems == {concat("", [
		"a.rego: shares its package with b.rego, whose rules of the same name would join its own",
	])} with input as {
		"inspected": inspected([]),
		"modules": {"a.rego": package_of("one"), "b.rego": package_of("one"), "c.rego": package_of("two")},
	}
}

reads_all := {"a.rego: reads the whole `input`, so which parts it needs is not known: name the property"}

bundle(path) := {
	"inspected": inspected([]),
	"modules": {"a.rego": {"rules": [{"body": [{"terms": {"type": "ref", "value": array.concat(
		[{"type": "var", "value": path[0]}],
		[{"type": "string", "value": part} | some part in array.slice(path, 1, count(path))],
	)}}]}]}},
}

inspected(annotations) := {
	"annotations": annotations,
	"manifest": {"metadata": {"wasmgate": {"omit": ["object", "request.uid"]}}},
}

package_of(name) := {"package": {"path": [{"type": "var", "value": "data"}, {"type": "string", "value": name}]}}
