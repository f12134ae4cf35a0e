//! Reads what can be read of a wrong configuration, so that a report has the problems of all fields.

use serde_json::Value;

use super::{Error, File, parse};

/// Sections whose fields refer to each other: one of them alone would be wrong in turn.
const WHOLE: &[&str] = &["runtimes", "enforcement"];

/// The file without the fields that cannot be parsed, and why not. No file when nothing of it can be used. Of a list, and of
/// a section whose fields refer to each other, only the first problem is known. The problems are the same for every order
/// of the fields.
pub fn parse_in_part(name: &str, text: &str) -> (Option<File>, Vec<Error>) {
    let first = match parse(name, text) {
        Ok(file) => return (Some(file), Vec::new()),
        Err(first) => first,
    };
    // As `check` reads documents: a name such as `NO` stays a string.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let Ok(mut rest) = serde_saphyr::from_str_with_options::<Value>(text, options) else {
        return (None, vec![first]);
    };
    let mut problems = Vec::new();
    // Each turn removes a field, so there are no more turns than fields.
    let file = loop {
        let problem = match parse(name, &rest.to_string()) {
            Ok(file) => break Some(file),
            Err(problem) => problem,
        };
        let removed = remove(&mut rest, field_of(&problem));
        problems.push(problem.without_place());
        if !removed {
            break None;
        }
    };
    (file, with_place(problems, first))
}

/// The first problem of the text has a place in it, which takes the place of the same problem without one.
fn with_place(mut problems: Vec<Error>, first: Error) -> Vec<Error> {
    if problems.is_empty() {
        // It is about the text alone, such as a key that is given twice.
        return vec![first];
    }
    if let Some(same) = problems.iter_mut().find(|problem| field_of(problem) == field_of(&first)) {
        *same = first;
    }
    problems
}

fn field_of(error: &Error) -> &str {
    match error {
        Error::ParseFile { problem, .. } => &problem.field,
        _ => "",
    }
}

/// Removes the field of a section, or the section if the field is in a list, or its section is a whole.
fn remove(document: &mut Value, field: &str) -> bool {
    let mut steps = field.split(['.', '[']);
    let section = steps.next().unwrap_or_default();
    let inner = steps.next().filter(|_| !WHOLE.contains(&section));
    let Some(fields) = document.as_object_mut() else { return false };
    let in_section = inner.zip(fields.get_mut(section).and_then(Value::as_object_mut));
    if in_section.is_some_and(|(inner, fields)| fields.remove(inner).is_some()) {
        return true;
    }
    fields.remove(section).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";

    fn fields(text: &str) -> (Option<File>, Vec<String>) {
        let (file, problems) = parse_in_part("gate.yaml", &format!("{HEAD}{text}"));
        (file, problems.iter().map(|problem| field_of(problem).to_string()).collect())
    }

    #[test]
    fn a_wrong_field_does_not_hide_the_others() {
        let text = "server: {reviewTimeout: soon, maxConcurrentReviews: many}\nsever: {}\ngrants: /g\n";
        let (file, problems) = fields(text);
        assert_eq!(file.unwrap().grants, Some("/g".into()), "what is right stays");
        assert_eq!(problems.len(), 3, "{problems:?}");
        for field in ["server.reviewTimeout", "server.maxConcurrentReviews", "sever"] {
            assert!(problems.iter().any(|problem| problem == field), "{field}: {problems:?}");
        }
    }

    #[test]
    fn the_order_of_the_fields_does_not_change_the_problems() {
        let (one, two) = ("server: {reviewTimeout: soon}\n", "audit: {}\n");
        let order = |text: String| fields(&text).1;
        assert_eq!(order(format!("{one}{two}")), order(format!("{two}{one}")));
    }

    #[test]
    fn what_is_no_configuration_has_one_problem_and_ends() {
        for text in ["[1, 2]", "", "a: [", "apiVersion: v1\nkind: Pod\n", "1"] {
            let (file, problems) = parse_in_part("gate.yaml", text);
            assert!(file.is_none() && problems.len() == 1, "{text}: {problems:?}");
        }
    }
}
