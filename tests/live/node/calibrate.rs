//! Measures what modules of real compilers need to start on the real node, and writes `docs/sizing.csv`: `make calibrate`.
//! The constants of the sizing formula are computed from that file (`src/runtime/calibrated.rs`), and `docs/sizing.md` shows it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::image::{ModuleFacts, module};
use wasmparser::{KnownCustom, Parser, Payload};

use super::cgroup::{self, Counted, counted};
use super::golden::UNSEEN;
use super::{SITE, Site, platform};
use crate::support::oci::{Image, ImageBuilder, digest, fixtures};
use crate::support::process::{own, root};

/// How often a limit has to start a module.
const TIMES: usize = 3;

/// How often a start is tried again that neither said something nor was short of memory: on a busy node a shim is late now and
/// then, which says nothing about the limit.
const TRIES: usize = 6;

/// How often a pod is looked at before it counts as one that does not end, and how often once the kernel has killed a process
/// of it: a sandbox that is killed is made again for ever.
const LOOKS: usize = 300;
const LAST_LOOKS: usize = 3;

/// What crun with wasmtime says, and fails with, where a program ends by `proc_exit` with 0, as those of Go do: it takes
/// every end of the call by a trap for an error (`containers/crun:src/libcrun/handlers/wasmtime.c`).
const ENDED_ITSELF: &str = "Exited with i32 exit status 0";

const COLUMNS: &str = "module,made_by,runtime,packing,compiler,digest,file_bytes,code_bytes,data_bytes,memory_bytes,peak_kib,cpu_ms,starts_mib,fails_mib,measured";

/// A runtime with a way of packing, as the columns of the file name them.
const WAYS: [(&str, &str); 4] =
    [("wasmtime", "layer"), ("wasmtime", "file"), ("youki", "file"), ("crun", "file")];

/// Between small and large: of one kind of function, as often as need be (`functions_in_c` in `tests/fixtures/producers/fetch`).
const GENERATED: &str = "C, generated functions";

/// A program that ends by itself.
struct Program {
    name: &'static str,
    made_by: &'static str,
    bytes: Vec<u8>,
    /// What it is called with, behind its name.
    arguments: &'static [&'static str],
}

impl Program {
    /// youki and crun run no components.
    fn runs_under(&self, runtime: &str) -> bool {
        let module = self.bytes.get(4) == Some(&1);
        runtime == "wasmtime" || module
    }

    fn facts(&self) -> ModuleFacts {
        module::read(&self.bytes, self.name).unwrap()
    }

    /// The columns that say which module it is.
    fn origin(&self) -> String {
        format!("\"{}\",{},{},", compiler(self), digest(&self.bytes), self.bytes.len())
    }

    /// The arguments of its container. A file is named by the image, and a layer by the first of them: containerd starts no
    /// container without a command.
    fn called(&self, packing: &str) -> Vec<&'static str> {
        let name: &[&str] = if packing == "layer" { &["hello"] } else { &[] };
        [name, self.arguments].concat()
    }
}

/// Small and large, of each compiler that can be had. What could not be downloaded is left out with a note.
fn programs() -> Vec<Program> {
    let hello = |name, made_by, bytes| Program { name, made_by, bytes, arguments: &[] };
    let produced = |name: &'static str, made_by: &'static str| {
        fixtures::produced(name).map(|bytes| hello(name, made_by, bytes))
    };
    let c = produced("clang", "C, Debian's clang and wasi-libc");
    let adapted = c.as_ref().map(|c| {
        hello("clang-component", "the same, with the preview-1 adapter", fixtures::componentize(&c.bytes))
    });
    let all = [
        Some(hello("wat", "by hand", fixtures::command())),
        c,
        adapted,
        produced("clang-300k", GENERATED),
        produced("clang-600k", GENERATED),
        produced("clang-950k", GENERATED),
        produced("assemblyscript", "AssemblyScript"),
        produced("rust", "Rust, Debian's rustc"),
        produced("runwasi", "Rust, containerd-shim-wasm-test-modules"),
        // It adds two numbers.
        produced("tinygo", "Go, TinyGo 0.35.0").map(|adder| Program { arguments: &["3", "4"], ..adder }),
        Some(hello("go", "Go", fixtures::go("hello"))),
        Some(hello("go-large", "Go, much of its library", fixtures::go("large"))),
        produced("jscommand", "JavaScript, componentize-js"),
        produced("pycommand", "Python, componentize-py"),
    ];
    all.into_iter().flatten().collect()
}

// === One start ===

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It said something and ended well.
    Started,
    /// The kernel killed a process of the pod, or it reached its limit and did not get further.
    ShortOfMemory,
    /// Neither.
    Lost,
}

/// What one pod showed.
#[derive(Debug, Clone, Copy)]
struct Run {
    outcome: Outcome,
    peak_bytes: u64,
    cpu_millis: u64,
}

/// How far the watching of a pod is.
#[derive(Debug, Default)]
struct Watched {
    killed: AtomicBool,
    over: AtomicBool,
}

/// What is counted for a pod as "" and for each of its containers by its id, until the pod has ended.
fn watch(site: &Site, uid: &str, watched: &Watched) -> BTreeMap<String, Counted> {
    let mut seen: BTreeMap<String, Counted> = BTreeMap::new();
    let (mut memory, mut cpu) = (None, None);
    while !watched.over.load(Ordering::Relaxed) {
        memory = memory.or_else(|| cgroup::of_pod(site, "memory", uid));
        cpu = cpu.or_else(|| cgroup::of_pod(site, "cpuacct", uid));
        if let Some(pod) = &memory {
            let known = seen.entry(String::new()).or_default();
            *known = known.with(counted(pod, None));
            for container in fs::read_dir(pod).into_iter().flatten().flatten() {
                let name = container.file_name().to_string_lossy().into_owned();
                if container.path().is_dir() {
                    let cpu = cpu.as_ref().map(|cpu| cpu.join(&name));
                    let known = seen.entry(name).or_default();
                    *known = known.with(counted(&container.path(), cpu.as_deref()));
                }
            }
        }
        if seen.values().any(|counted| counted.killed > 0) {
            watched.killed.store(true, Ordering::Relaxed);
        }
        // A cgroup is gone soon after its container has ended, so this looks often.
        std::thread::sleep(Duration::from_millis(3));
    }
    seen
}

/// What is started again and again.
struct Measured<'a> {
    image: String,
    runtime: &'a str,
    arguments: Vec<&'static str>,
}

fn pod(site: &Site, name: &str, measured: &Measured<'_>, limit: Option<u64>) -> Value {
    let Measured { image, runtime, arguments } = measured;
    // With less a busy machine would let it compile for hours. Three at once fit a node with two processors.
    let mut resources = json!({"requests": {"cpu": "500m"}});
    if let Some(limit) = limit {
        resources["limits"] = json!({"memory": format!("{limit}Mi")});
    }
    // Without the annotation youki and crun take every program for a native one.
    let annotations = if *runtime == "wasmtime" { json!({}) } else { json!({"run.oci.handler": "wasm"}) };
    let container = json!({"name": "app", "image": image, "args": arguments, "resources": resources});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": UNSEEN, "annotations": annotations},
        "spec": {"runtimeClassName": runtime, "nodeName": site.node.name, "restartPolicy": "Never",
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "containers": [container]}})
}

/// Starts a program under a memory limit in Mi, or without one.
fn run(site: &Site, measured: &Measured<'_>, limit: Option<u64>) -> Run {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("measured-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let made = site.plane.create(&pod(site, &name, measured, limit), &[]).json();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let watched = Watched::default();
    let (ended, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(site, uid, &watched));
        let mut left = LOOKS;
        let ended = std::iter::from_fn(|| {
            left = left.checked_sub(1)?;
            if watched.killed.load(Ordering::Relaxed) {
                left = left.min(LAST_LOOKS);
            }
            // Each look is a process, whose time would be missing to what is measured.
            std::thread::sleep(Duration::from_secs(1));
            Some(ended(site, &name))
        });
        let ended = ended.flatten().next();
        watched.over.store(true, Ordering::Relaxed);
        (ended, watching.join().unwrap())
    });
    let said = site.plane.kubectl(&["logs", "--namespace", UNSEEN, &name]).stdout;
    let run = concluded(ended.as_ref(), &said, &seen);
    if run.outcome == Outcome::Lost {
        println!("lost, under {limit:?} Mi: {said}{ended:?} {seen:?}");
    }
    site.plane.kubectl(&["delete", "pod", &name, "--namespace", UNSEEN, "--now", "--wait=false"]).ok();
    run
}

fn concluded(status: Option<&Value>, said: &str, seen: &BTreeMap<String, Counted>) -> Run {
    let ended = status.map(|status| &status["state"]["terminated"]);
    let code = ended.and_then(|ended| ended["exitCode"].as_i64());
    let killed = code == Some(137) || seen.values().any(|counted| counted.killed > 0);
    let stuck = status.is_none() && seen.values().any(|counted| counted.reached > 0);
    let outcome = if killed || stuck {
        Outcome::ShortOfMemory
    } else if (code == Some(0) || said.contains(ENDED_ITSELF)) && !said.trim().is_empty() {
        Outcome::Started
    } else {
        Outcome::Lost
    };
    let id = status.and_then(|status| status["containerID"].as_str()).unwrap_or_default();
    let own = seen.get(id.trim_start_matches("containerd://")).copied().unwrap_or_default();
    Run { outcome, peak_bytes: own.peak_bytes, cpu_millis: own.cpu_nanos / 1_000_000 }
}

/// The status of the container, once it has ended or cannot start.
fn ended(site: &Site, name: &str) -> Option<Value> {
    let pod = site.plane.get(&["pod", name, "--namespace", UNSEEN]);
    let status = pod["status"]["containerStatuses"][0].clone();
    let waits = status["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_string();
    let stuck = ["RunContainerError", "CreateContainerError", "CrashLoopBackOff"].contains(&waits.as_str());
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    (status["state"]["terminated"].is_object() || stuck || over).then_some(status)
}

/// A start of which it is known how it went.
fn settled(site: &Site, measured: &Measured<'_>, limit: Option<u64>) -> Run {
    let told = |run: &Run| run.outcome != Outcome::Lost && (limit.is_some() || run.peak_bytes > 0);
    let run = (0..TRIES).map(|_| run(site, measured, limit)).find(told);
    run.unwrap_or_else(|| {
        panic!("{} under {limit:?} Mi: no start tells\n{}", measured.image, site.story(UNSEEN))
    })
}

// === Falling limits ===

/// Whether a limit starts the program as often as it has to.
fn starts(site: &Site, measured: &Measured<'_>, limit: u64) -> bool {
    let one = || settled(site, measured, Some(limit)).outcome == Outcome::Started;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..TIMES).map(|_| scope.spawn(one)).collect();
        // All are waited for, whatever the first of them shows.
        let started = all.into_iter().map(|run| run.join().unwrap()).filter(|started| *started).count();
        started == TIMES
    })
}

/// The smallest limit in Mi that starts it every time, and the next smaller one, which does not: by falling limits from above
/// its peak.
fn limits(site: &Site, measured: &Measured<'_>, peak_mib: u64) -> (u64, u64) {
    let step = peak_mib.div_ceil(16).max(1);
    let mut smallest = peak_mib + step;
    while !starts(site, measured, smallest) {
        smallest += step;
    }
    while smallest > step && starts(site, measured, smallest - step) {
        smallest -= step;
    }
    (smallest, smallest.saturating_sub(step))
}

fn image(program: &Program, packing: &str) -> Image {
    if packing == "layer" {
        return ImageBuilder::wasm_artifact(&program.bytes).build();
    }
    let mut image = ImageBuilder::rootfs(platform(), &["/app.wasm"]);
    // youki starts nothing without a PATH.
    image.set("Env", json!(["PATH=/"])).files(&[("app.wasm", &program.bytes)]);
    image.build()
}

/// The image of a program in a registry, and how it is started.
fn pushed<'a>(site: &Site, program: &Program, (runtime, packing): (&'a str, &str)) -> Measured<'a> {
    let name = format!("measured-{}-{packing}", program.name);
    site.push(&name, &image(program, packing));
    let image = site.registry.image(&format!("{name}:1"));
    Measured { image, runtime, arguments: program.called(packing) }
}

/// The peak in bytes and the CPU time in milliseconds of starts without a limit, one after the other.
fn unlimited(site: &Site, measured: &Measured<'_>) -> (u64, u64) {
    // The first start of a layer on a node compiles it, in the shim.
    let runs: Vec<Run> = (0..=TIMES).map(|_| settled(site, measured, None)).collect();
    let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
    let mut cpu: Vec<u64> = runs.iter().skip(1).map(|run| run.cpu_millis).collect();
    cpu.sort_unstable();
    (peak, cpu[cpu.len() / 2])
}

fn row(site: &Site, program: &Program, way: (&str, &str)) -> String {
    let facts = program.facts();
    let measured = pushed(site, program, way);
    let (peak, cpu) = unlimited(site, &measured);
    let (smallest, fails) = limits(site, &measured, peak.div_ceil(1 << 20));
    let (begin, origin, sizes) = (begin(program, way), program.origin(), sizes(&facts));
    let peak = peak >> 10;
    format!("{begin}{origin}{sizes}{peak},{cpu},{smallest},{fails},{}", today())
}

/// A line of the file with another CPU time, measured today.
fn with_cpu(line: &str, cpu_millis: u64) -> String {
    let mut fields: Vec<&str> = line.rsplitn(5, ',').collect();
    let (cpu, today) = (cpu_millis.to_string(), today());
    (fields[0], fields[3]) = (&today, &cpu);
    fields.reverse();
    fields.join(",")
}

// === The file ===

/// How the line of a program begins.
fn begin(program: &Program, (runtime, packing): (&str, &str)) -> String {
    format!("{},\"{}\",{runtime},{packing},", program.name, program.made_by)
}

/// The columns of the sizes of its sections and its memory.
fn sizes(facts: &ModuleFacts) -> String {
    format!("{},{},{},", facts.code_bytes, facts.data_bytes, facts.memory_bytes)
}

/// A line that does not say of which module it is, with what that is today if it has as many bytes of code, data and memory.
fn with_origin(line: &str, program: &Program, begin: &str) -> String {
    let rest = line.strip_prefix(begin).and_then(|rest| rest.split_once("\","));
    let mut fields = rest.map(|(_, fields)| fields.splitn(3, ',')).into_iter().flatten();
    match (fields.next(), fields.next(), fields.next()) {
        (Some(""), Some(_), Some(figures)) if figures.starts_with(&sizes(&program.facts())) => {
            format!("{begin}{}{figures}", program.origin())
        }
        _ => line.to_owned(),
    }
}

/// The compilers that name themselves in a module, each before those that it uses.
const COMPILERS: [&str; 4] = ["TinyGo", "Go cmd/compile", "rustc", "clang"];

/// The compiler of a program with its version: that of the list of fixtures, where it leaves no name in the module.
fn compiler(program: &Program) -> String {
    let pinned = |tool: &str| format!("{tool} {}", fixtures::pinned(program.name));
    match program.name {
        "assemblyscript" => pinned("AssemblyScript"),
        "jscommand" => pinned("componentize-js"),
        "pycommand" => pinned("componentize-py"),
        _ => {
            let tools = processed_by(&program.bytes);
            let found = COMPILERS.iter().find_map(|name| tools.iter().find(|(tool, _)| tool.contains(*name)));
            found.map(|(tool, version)| format!("{tool} {version}")).unwrap_or_default()
        }
    }
}

/// The tools that the first section `producers` names, each with its version.
fn processed_by(bytes: &[u8]) -> Vec<(String, String)> {
    let producers = Parser::new(0).parse_all(bytes).find_map(|payload| match payload.unwrap() {
        Payload::CustomSection(section) => match section.as_known() {
            KnownCustom::Producers(fields) => Some(fields),
            _ => None,
        },
        _ => None,
    });
    let fields = producers.into_iter().flatten().map(Result::unwrap);
    let tools = fields.filter(|field| field.name == "processed-by").flat_map(|field| field.values);
    let told = |version: &str| version.split(' ').next().unwrap_or_default().to_owned();
    tools.map(Result::unwrap).map(|tool| (tool.name.to_owned(), told(tool.version))).collect()
}

fn today() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_string()
}

/// A file below `tools`.
fn tool(file: &str) -> String {
    fs::read_to_string(root().join("tools").join(file)).unwrap()
}

/// Whether a runtime is on the node: some are only where they were built.
fn is_built(runtime: &str) -> bool {
    let built = || own("tools/build", &["--built".as_ref(), runtime.as_ref()]).output().unwrap();
    runtime == "wasmtime" || built().status.success()
}

/// The line that says of which versions the rows of crun are. It is apart from the first one, so that a machine without crun
/// need not measure anything again.
fn versions_of_crun() -> String {
    let (source, requirements) = (tool("crun/source"), tool("crun/requirements.txt"));
    let crun = source.lines().find_map(|line| line.strip_prefix("crun ")).unwrap();
    let engine = requirements.lines().find_map(|line| line.strip_prefix("wasmtime==")).unwrap();
    let first = |text: &str| text.split(' ').next().unwrap().to_string();
    format!("# crun {} with wasmtime {}, as it is published for Python", first(crun), first(engine))
}

/// The lines without the rows of another crun than this one.
fn with_this_crun(mut lines: Vec<String>) -> Vec<String> {
    let this = versions_of_crun();
    if !lines.contains(&this) {
        lines.retain(|line| !line.starts_with("# crun ") && !line.contains(",crun,"));
        if is_built("crun") {
            lines.insert(0, this);
        }
    }
    lines
}

/// The versions that the figures depend on.
fn versions(site: &Site) -> String {
    let status = site.plane.get(&["node", &site.node.name])["status"].clone();
    let (info, processors) = (&status["nodeInfo"], status["capacity"]["cpu"].as_str().unwrap());
    let told = |field: &str| info[field].as_str().unwrap().to_string();
    let (manifest, youki) = (tool("runwasi/Cargo.toml"), tool("youki/crate"));
    let pinned = |name: &str| {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        let (_, version) = line.split_once("\"=").unwrap();
        version.split('"').next().unwrap().to_string()
    };
    let youki =
        youki.lines().find_map(|line| line.strip_prefix("youki ")).unwrap().split(' ').next().unwrap();
    format!(
        "kubelet {}, {}, containerd-shim-wasm {} with wasmtime {}, youki {youki} with wasmtime 46, both at opt-level 1; \
         {} with cgroup v{}, {processors} processors, no CPU limit",
        told("kubeletVersion").trim_start_matches('v'),
        told("containerRuntimeVersion").replace("://", " "),
        pinned("containerd-shim-wasm"),
        pinned("wasmtime"),
        told("architecture"),
        cgroup::version()
    )
}

/// The runtime of a row; nothing of another line.
fn runtime_of(line: &str) -> &str {
    let (_, rest) = line.split_once("\",").unwrap_or_default();
    rest.split(',').next().unwrap_or_default()
}

/// The lines that stay: those of the same versions that are not to be measured again.
fn kept(known: &str, head: &str) -> Vec<String> {
    let again = std::env::var("WASMGATE_CALIBRATE").unwrap_or_default();
    let again: Vec<&str> = again.split(',').filter(|name| !name.is_empty()).collect();
    let lines = known.strip_prefix(head).unwrap_or_default().lines();
    let is_named =
        |line: &str| again.iter().any(|name| *name == "all" || line.starts_with(&format!("{name},")));
    let goes = |line: &str| is_named(line) && is_asked_for("WASMGATE_CALIBRATE_UNDER", runtime_of(line));
    lines.filter(|line| !goes(line)).map(String::from).collect()
}

/// Whether only the CPU time of a program is to be measured again. What else ran on the machine meanwhile is in that time, and
/// hardly in the limits.
fn only_cpu(program: &Program) -> bool {
    let again = std::env::var("WASMGATE_CALIBRATE").unwrap_or_default();
    again.split(',').any(|name| name.strip_prefix("cpu:") == Some(program.name))
}

/// Whether a name is in the list of a variable that narrows what is measured: `WASMGATE_CALIBRATE_ONLY` names modules, and
/// `WASMGATE_CALIBRATE_UNDER` runtimes.
fn is_asked_for(variable: &str, name: &str) -> bool {
    let names = std::env::var(variable).unwrap_or_default();
    names.is_empty() || names.split(',').any(|one| one == name)
}

/// The lines of the file, or of what an earlier call measured that did not come to its end. A call for a few modules does not begin a
/// file anew: that would throw away what was measured with other versions.
fn known_lines(path: &Path, part: &Path, head: &str) -> String {
    let read = |path: &Path| fs::read_to_string(path).ok().filter(|text| text.starts_with(head));
    let known = read(part).or_else(|| read(path)).unwrap_or_default();
    if std::env::var_os("WASMGATE_CALIBRATE_ONLY").is_some_and(|names| !names.is_empty()) {
        let path = path.display();
        assert!(
            !known.is_empty(),
            "{path} is of other versions, so all of it has to be measured again: {head}"
        );
    }
    known
}

/// `WASMGATE_CALIBRATE=clang,go` measures these again, `cpu:go` the CPU time of that one, and `all` every one; without it, what
/// the file does not have for these versions. [`is_asked_for`] narrows that; `benches/calibrate --help` has options for all of these.
#[test]
#[ignore = "measures for an hour: make calibrate"]
fn what_modules_of_real_compilers_need_is_measured_and_written_down() {
    let site = SITE.get();
    let path = root().join("docs/sizing.csv");
    let part = path.with_extension("csv.part");
    let head = format!("# {}\n{COLUMNS}\n", versions(&site));
    let known = known_lines(&path, &part, &head);
    let mut lines = with_this_crun(kept(&known, &head));
    let is_wanted = |runtime| is_asked_for("WASMGATE_CALIBRATE_UNDER", runtime) && is_built(runtime);
    let ways = WAYS.map(|way| (way, is_wanted(way.0)));
    let mut programs = programs();
    programs.retain(|program| is_asked_for("WASMGATE_CALIBRATE_ONLY", program.name));
    assert!(!programs.is_empty(), "the modules that are asked for are not in the cache of the fixtures");
    for program in programs {
        for (way, _) in ways.into_iter().filter(|(way, wanted)| *wanted && program.runs_under(way.0)) {
            let begin = begin(&program, way);
            match lines.iter_mut().find(|line| line.starts_with(&begin)) {
                Some(line) if only_cpu(&program) => {
                    *line = with_cpu(line, unlimited(&site, &pushed(&site, &program, way)).1);
                    println!("{line}");
                }
                Some(line) => *line = with_origin(line, &program, &begin),
                None => {
                    let row = row(&site, &program, way);
                    println!("{row}");
                    lines.push(row);
                }
            }
            fs::write(&part, format!("{head}{}\n", lines.join("\n"))).unwrap();
        }
    }
    // The table is replaced as a whole, or not at all.
    if part.exists() {
        fs::rename(&part, &path).unwrap();
    }
}
