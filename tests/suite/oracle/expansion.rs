//! Compares how the gate reads variables in `command`, `args` and `env` with how the kubelet does (`tools/kubeletoracle`): the gate
//! takes a text as it is written only if the kubelet does, and knows each name that the kubelet looks for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use serde::{Deserialize, Serialize};
use wasmgate::image::entry::{expansion, references};

use super::property::{cases, is_usual, runner};
use crate::support::process::program;

#[derive(Debug, Serialize)]
struct Question<'a> {
    text: &'a str,
    variables: &'a BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    text: String,
    asked: Vec<String>,
}

struct Kubelet {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Kubelet {
    fn start() -> Self {
        let mut command = Command::new(program("kubeletoracle"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn ask(&mut self, question: &Question<'_>) -> Answer {
        writeln!(self.input, "{}", serde_json::to_string(question).unwrap()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the syntax is made of, alone and in what stands for itself.
const PIECES: [&str; 20] = [
    "$",
    "$$",
    "$$$",
    "(",
    ")",
    "$(",
    "$A",
    "$é",
    "$ ",
    "/a$b",
    "$(A)",
    "$$(A)",
    "$(B)",
    "$(none)",
    "$()",
    "$($(A)",
    "A",
    "/app.wasm",
    "é",
    " ",
];

/// Names may hold every printable character but `=` (`kubernetes:pkg/apis/core/validation/validation.go`), and values are not
/// expanded again.
const VARIABLES: [(&str, &str); 5] =
    [("A", "a"), ("B", "$(A)$$"), ("", "empty"), ("$(A", "odd"), ("(A", "bracket")];

const CASES: u32 = 4000;

fn text() -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_gate_takes_a_text_as_it_is_where_the_kubelet_does_and_knows_every_name_in_it() {
    let variables = BTreeMap::from(VARIABLES);
    let counts = RefCell::new((Kubelet::start(), [0_usize; 3]));
    let number = cases(CASES);
    let result = runner(number).run(&text(), |text| {
        let (kubelet, [plain, escaped, asked]) = &mut *counts.borrow_mut();
        let answer = kubelet.ask(&Question { text: &text, variables: &variables });
        let names: Vec<&str> = references(&text).collect();
        prop_assert_eq!(&names, &answer.asked, "the names in {:?}", text);
        match expansion(&text) {
            None => prop_assert_eq!(&answer.text, &text),
            Some(at) => prop_assert_eq!(answer.text.get(..at), text.get(..at), "before {} of {:?}", at, text),
        }
        *plain += usize::from(expansion(&text).is_none() && text.contains('$'));
        *escaped += usize::from(names.is_empty() && answer.text != text);
        *asked += usize::from(!names.is_empty());
        Ok::<(), TestCaseError>(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (_, counts) = counts.into_inner();
    println!("as written, with a dollar: {}; escaped: {}; with names: {}", counts[0], counts[1], counts[2]);
    assert!(!is_usual(number, CASES) || counts.iter().all(|count| *count > 100), "{counts:?}");
}
