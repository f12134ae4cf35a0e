//! Programs that end with the test, also when the test is killed: each runs under a shell that holds a pipe and ends
//! the program when the pipe closes. Folders are removed by a shell that waits for the last of the programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bound of every wait: machines are slow while everything is being built.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Least time between two looks of a test that waits for a condition.
const POLL: Duration = Duration::from_millis(10);
/// Most of it.
const SELDOM: Duration = Duration::from_millis(500);

/// The part of a wait that may pass before its end is seen.
const LATE: u32 = 20;

/// Time to the next look, by how long one takes and how long the wait has lasted: what looks must not take the processors from what it
/// waits for.
fn pause(look: Duration, waited: Duration) -> Duration {
    look.max(waited / LATE).clamp(POLL, SELDOM)
}

/// Runs `"$@"` until it ends or standard input closes. The folder `$0` shows that it runs. The shell itself ignores
/// signals to the whole group, since it cleans up.
const UNTIL_STDIN_CLOSES: &str = r#"
trap '' INT TERM HUP
mkdir -p "$0"
exec 3<&0
"$@" 3<&- & child=$!
{ cat >/dev/null; kill -KILL "$child" 2>/dev/null; } <&3 & watcher=$!
exec 3<&-
wait "$child"; code=$?
kill -KILL "$watcher" 2>/dev/null
rmdir "$0" 2>/dev/null
exit "$code"
"#;

/// Removes the folder `$0` after standard input has closed and everything that runs in it has ended.
const REMOVE_AT_THE_END: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
waited=0
while [ "$waited" -lt 200 ] && [ -n "$(ls -A "$0/running" 2>/dev/null)" ]; do sleep 0.05; waited=$((waited + 1)); done
until rm -rf "$0" 2>/dev/null || [ "$waited" -ge 220 ]; do sleep 0.1; waited=$((waited + 1)); done
"#;

/// A folder of its own for a group of programs.
pub struct Home {
    path: PathBuf,
    keeper: Child,
}

impl Home {
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("wasmgate-").tempdir().unwrap().keep();
        fs::create_dir(path.join("running")).unwrap();
        let keeper = shell(REMOVE_AT_THE_END, &path).stdout(Stdio::null()).spawn().unwrap();
        Self { path, keeper }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program. Its output is appended to a log of its name.
    pub fn start(&self, name: &str, command: &Command) -> Process {
        let log = self.path.join(format!("{name}.log"));
        let output = open_log(&log);
        let mut shell = shell(UNTIL_STDIN_CLOSES, &self.path.join("running").join(name));
        shell.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let shell = shell.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Process { name: name.to_string(), shell, log }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn shell(script: &str, zeroth: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(zeroth).stdin(Stdio::piped()).stderr(Stdio::null());
    shell
}

fn open_log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// A running program.
pub struct Process {
    name: String,
    shell: Child,
    log: PathBuf,
}

impl Process {
    /// Kills it, and returns when it is gone.
    pub fn kill(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }

    /// All its output.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its output, under its name.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(30)).copied().collect::<Vec<_>>().join("\n");
        format!("--- end of the log of {}:\n{last}\n", self.name)
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls until there is an answer. After [`PATIENCE`] it panics and says what is missing.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    ask_patiently(ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
}

/// Polls until there is an answer, for at most [`PATIENCE`].
pub fn ask_patiently<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let look = Instant::now();
        let answer = ask();
        if answer.is_some() || start.elapsed() > PATIENCE {
            return answer;
        }
        // The time between two looks of every test that waits for a condition without an executor.
        std::thread::sleep(pause(look.elapsed(), start.elapsed()));
    }
}

/// Polls asynchronously until there is an answer. After [`PATIENCE`] it panics and says what is missing.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    loop {
        let look = Instant::now();
        if ask().await {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        // The same for those with one.
        tokio::time::sleep(pause(look.elapsed(), start.elapsed())).await;
    }
}

/// Set in a process that runs one test alone, because the test changes its process.
const ALONE: &str = "WASMGATE_TEST_ALONE";

/// Whether this process runs this test alone. Any other process runs the test again in a process of its own, and fails
/// if that fails.
pub fn alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output =
        again.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{name} by itself:\n{said}");
    false
}

/// The folder of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a test writes into a page what it would compare with it.
pub fn writes_docs() -> bool {
    std::env::var_os("WASMGATE_WRITE_DOCS").is_some_and(|value| value == "1")
}

/// How many folders of compiled policies the tests share: together they compile some hundreds, and a folder keeps the 128 that were used
/// last. In one folder a run would find none of those of the run before.
const FOLDERS: u64 = 8;

/// Folder of the compiled policies of this test and some others, which is not that of the person who runs them.
pub fn compiled() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    std::thread::current().name().hash(&mut hasher);
    compiled_in(&(hasher.finish() % FOLDERS).to_string())
}

/// Folder of compiled policies with a name of its own.
pub fn compiled_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled").join(name)
}

/// The gate's program.
pub fn wasmgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmgate"));
    command.env("WASMGATE_COMPILED_DIR", compiled());
    command
}

/// A command for a script or program of the project's own folder.
pub fn own(path: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(root().join(path));
    command.args(arguments);
    command
}

/// Variables that begin like this come from the `make` or the cargo that runs a test. By them `make` would take arguments that are not
/// meant for it, and cargo would compile crates once more whose build scripts read them.
const OF_CALLERS: [&str; 5] = ["MAKE", "MFLAGS", "CARGO_MANIFEST_", "CARGO_PKG_", "RUSTC_BOOTSTRAP"];

/// `make` in the project's own folder, as a person runs it there.
pub fn make(arguments: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.arg("--no-print-directory").args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os() {
        if OF_CALLERS.iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
            make.env_remove(name);
        }
    }
    make
}

/// Whether a revision is the commit of this tree, with `-dirty` behind it or without. A tree that is no clone has none.
pub fn is_of_this_commit(revision: Option<&str>) -> bool {
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()).output();
    let head = head.ok().filter(|head| head.status.success());
    match (head.map(|head| String::from_utf8(head.stdout).unwrap()), revision) {
        (Some(head), Some(revision)) => revision.strip_suffix("-dirty").unwrap_or(revision) == head.trim(),
        (head, revision) => head.is_none() && revision.is_none(),
    }
}

/// Path of a real program: the one in `$WASMGATE_NAME`, or the one that `tools/build` builds.
pub fn program(name: &str) -> PathBuf {
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let variable = format!("WASMGATE_{}", name.to_uppercase().replace('-', "_"));
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // Held while it is built, so that tests that need the same program do not build it at the same time.
    let mut found = FOUND.lock().unwrap();
    found.entry(name.to_string()).or_insert_with(|| built(name)).clone()
}

fn built(name: &str) -> PathBuf {
    let output = own("tools/build", &["--path".as_ref(), name.as_ref()]).stderr(Stdio::inherit()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "tools/build --path {name} failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
