//! The node: `tools/nodeoracle`, which is asked line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::support::process::program;

/// Set where the machine is known to allow no namespaces.
const WITHOUT: &str = "WASMGATE_TEST_NO_NAMESPACES";

/// One image, and what is asked of it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Folder of an image layout.
    pub layout: PathBuf,
    /// Layouts that the node ran earlier.
    pub before: Vec<PathBuf>,
    /// Platform of the node.
    pub platform: String,
    /// `transfer` or `client`.
    pub pull: String,
    /// Mount paths of volumes.
    pub mounts: Vec<String>,
    /// Folders that the volumes are copies of, in the same order; without, they are empty.
    pub contents: Vec<PathBuf>,
    /// The parts of the volumes that are mounted, in the same order; an empty one is the whole volume.
    pub sub_paths: Vec<String>,
    /// The mounts are made as the CRI plugin makes them, with those that it and the kubelet add.
    pub whole: bool,
    /// The container's `terminationMessagePath`.
    pub termination_log: String,
    /// The container's working directory, which the runtime makes where there is none.
    pub working_dir: String,
    /// Paths inside the container.
    pub ask: Vec<String>,
}

impl Question {
    /// About a layout, on an empty node of the usual kind.
    pub fn about(layout: &Path, ask: &[&str]) -> Self {
        Self {
            layout: layout.to_path_buf(),
            platform: "linux/amd64".into(),
            pull: "transfer".into(),
            ask: ask.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }
}

/// What the node makes of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Why the node does not start it.
    #[serde(default)]
    pub refused: Option<String>,
    /// What the image starts by itself.
    #[serde(default)]
    pub program: ImageProgram,
    /// By the asked path.
    #[serde(default)]
    pub files: BTreeMap<String, Found>,
    /// Where the volumes really are, by their mount path.
    #[serde(default)]
    pub mounted: BTreeMap<String, String>,
}

/// The image config as containerd reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageProgram {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: String,
    pub env: Option<Vec<String>>,
}

/// What a path leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Found {
    /// `file`, `folder`, `absent`, `loop`, `other`.
    pub kind: String,
    /// Where it really is.
    pub path: String,
    /// Of its content.
    pub digest: String,
    /// Its first four bytes, in hexadecimal digits.
    pub head: String,
    pub size: u64,
    /// Permission bits, in octal.
    pub mode: String,
    /// Target, where the path's own last part is a symbolic link.
    pub link: String,
}

/// A program that answers for nodes.
pub struct Node {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    hello: Hello,
    // Its file system in memory is mounted here, in a namespace of its own.
    _work: tempfile::TempDir,
}

/// How it runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Hello {
    /// Version of containerd.
    pub containerd: String,
    /// `root` or `user`.
    pub namespace: String,
}

impl Node {
    /// Builds the program if need be, and starts it. None where the machine allows no namespaces, as a person says.
    pub fn start() -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some() {
            eprintln!("not compared with a node, because {WITHOUT} is set");
            return None;
        }
        let work = tempfile::Builder::new().prefix("wasmgate-oracle-").tempdir().unwrap();
        let mut child = Command::new(program("nodeoracle"))
            .arg(work.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let hello = serde_json::from_str(&line(&mut answers, &mut child)).unwrap();
        Some(Self { questions: child.stdin.take(), child, answers, hello, _work: work })
    }

    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    pub fn ask(&mut self, question: &Question) -> Answer {
        let mut text = serde_json::to_vec(question).unwrap();
        text.push(b'\n');
        self.questions.as_mut().unwrap().write_all(&text).unwrap();
        let answer = line(&mut self.answers, &mut self.child);
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

fn line(answers: &mut BufReader<ChildStdout>, child: &mut Child) -> String {
    let mut line = String::new();
    if answers.read_line(&mut line).unwrap() > 0 {
        return line;
    }
    panic!("nodeoracle ended ({}); the lines above say why", child.wait().unwrap());
}
