//! `make cluster NODE=1`: the commands that it prints do what it says, and `make cluster-down` leaves nothing of it on the machine.

use std::fs;
use std::process::Command;

use super::cgroup::of_node;
use crate::cluster::{cluster_script, command_lines, keeper, text_of};
use crate::support::control_plane::free_port_range;
use crate::support::process::{root, wait_for};

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_cluster_with_a_node_runs_what_it_prints_to_try_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (state, port) = (folder.path().join("state"), free_port_range(6));
    let mut keeper = keeper(&state, port);
    let mut up = cluster_script("up", &state, port);
    up.env("WASMGATE_CLUSTER_NODE", "1").arg(env!("CARGO_BIN_EXE_wasmgate"));
    let up = up.output().unwrap();
    let said = text_of(&up);
    assert!(up.status.success(), "{said}");
    let cgroup = of_node("memory", &state);
    assert!(cgroup.is_dir(), "{}", cgroup.display());

    let export = said.lines().find_map(|line| line.trim().strip_prefix("export ")).unwrap();
    let run = |line: &str| {
        let script = format!("export {export}; {line}");
        let mut shell = Command::new("sh");
        // The caches of kubectl are put where they will be removed.
        shell.args(["-c", &script]).current_dir(root()).env("HOME", folder.path());
        let output = shell.output().unwrap();
        (output.status.success(), text_of(&output))
    };
    let commands = said.lines().map(str::trim).filter(|line| line.starts_with("kubectl "));
    let commands: Vec<&str> = commands.collect();
    let [create, pods, logs, denied] = commands[..] else { panic!("{said}") };
    let done = |line: &str| {
        let (worked, text) = run(line);
        assert!(worked, "{line}\n{text}");
        text
    };
    done(create);
    done("kubectl wait --for=condition=Complete --timeout=180s -n shop job/hello");
    let shown = done(pods);
    let line = shown.lines().find(|line| line.starts_with("hello-")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("Completed") && line.contains(" wasm-1 "), "{shown}");
    assert!(done(logs).contains("hello from a Wasm image"), "{}", run(logs).1);
    let (worked, text) = run(denied);
    assert!(!worked && denied.contains("denied") && text.contains("denied the request"), "{denied}\n{text}");

    let ended = cluster_script("down", &state, port).output().unwrap();
    assert!(ended.status.success(), "{}", text_of(&ended));
    assert!(!state.exists());
    // What outlives the node is swept by a process that has seen it end.
    let name = state.to_str().unwrap();
    wait_for("its cgroup and its processes to be gone", || {
        (!cgroup.exists() && !command_lines().iter().any(|line| line.contains(name))).then_some(())
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(name), "{mounts}");
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
}
