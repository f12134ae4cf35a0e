//! Docker credential helpers (`docker/docker-credential-helpers:README.md`, "Development"): the program
//! `docker-credential-NAME get` reads the registry from its standard input and writes JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use moka::future::Cache;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::credentials::{Credentials, docker_name};
use super::secret::SecretText;
use crate::text;

/// Bound on one run of a helper. Helpers of cloud providers make one or two requests.
const LONGEST_RUN: Duration = Duration::from_secs(5);

/// Most that a helper may write, in bytes; tokens have a few thousand.
const LARGEST_OUTPUT: u64 = 64 << 10;

/// How long an answer is kept, also a failure. Access tokens of cloud providers live for an hour or more.
const KEPT_FOR: Duration = Duration::from_mins(2);

/// Most answers that are kept. Bounded, because any tenant can name a new registry.
const MOST_KEPT: u64 = 1024;

/// User name which says that the secret is an identity token (`docker/cli:cli/config/credentials/native_store.go`).
const TOKEN_USER: &str = "<token>";

/// The helpers that a docker config names.
#[derive(Debug)]
pub(super) struct Helpers {
    /// Helper by registry.
    own: BTreeMap<String, String>,
    /// The helper for all registries.
    store: Option<String>,
    /// Folder in which helpers are searched; `None` for `PATH`.
    folder: Option<PathBuf>,
    /// Bound on one run.
    longest_run: Duration,
    /// At most one run at a time for each helper and registry.
    answers: Cache<(String, String), Option<Credentials>>,
}

impl Default for Helpers {
    fn default() -> Self {
        let answers = Cache::builder().max_capacity(MOST_KEPT).time_to_live(KEPT_FOR).build();
        Self { own: BTreeMap::new(), store: None, folder: None, longest_run: LONGEST_RUN, answers }
    }
}

impl Helpers {
    /// Refuses names that would run something other than a helper.
    pub(super) fn new(
        own: BTreeMap<String, String>,
        store: Option<String>,
        folder: Option<PathBuf>,
    ) -> Result<Self, String> {
        for name in own.values().chain(store.as_ref()) {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(known) {
                let shown = text::quoted(name, 50);
                return Err(format!(
                    "the credential helper `{shown}` has other characters in its name than `a-z`, `0-9` and `-`"
                ));
            }
        }
        Ok(Self { own, store, folder, ..Self::default() })
    }

    /// The answer of the helper that is configured for this registry.
    pub(super) async fn of_registry(&self, registry: &str) -> Option<Credentials> {
        self.ask(self.own.get(registry)?, registry).await
    }

    /// The answer of the helper that is configured for all registries.
    pub(super) async fn of_all(&self, registry: &str) -> Option<Credentials> {
        self.ask(self.store.as_ref()?, registry).await
    }

    async fn ask(&self, name: &str, registry: &str) -> Option<Credentials> {
        let key = (name.to_string(), registry.to_string());
        let run = async {
            match tokio::time::timeout(self.longest_run, self.run(name, registry)).await {
                Ok(Ok(found)) => found,
                Ok(Err(what)) => warn(name, registry, &what),
                Err(_) => warn(name, registry, &format!("it did not end within {:?}", self.longest_run)),
            }
        };
        self.answers.get_with(key, run).await
    }

    /// Errors repeat nothing that the helper writes, since it may be a secret.
    async fn run(&self, name: &str, registry: &str) -> Result<Option<Credentials>, String> {
        let program = format!("docker-credential-{name}");
        let program =
            self.folder.as_ref().map_or_else(|| PathBuf::from(&program), |folder| folder.join(&program));
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("it does not start: {error}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Err("it has no pipes".into()) };
        // A helper need not read its input.
        let _ = stdin.write_all(format!("{}\n", docker_name(registry)).as_bytes()).await;
        drop(stdin);
        let mut output = Zeroizing::new(Vec::new());
        let read = stdout.take(LARGEST_OUTPUT + 1).read_to_end(&mut output).await;
        read.map_err(|error| format!("its output could not be read: {error}"))?;
        if output.len() as u64 > LARGEST_OUTPUT {
            return Err(format!("it wrote more than {LARGEST_OUTPUT} bytes"));
        }
        let status = child.wait().await.map_err(|error| format!("it could not be waited for: {error}"))?;
        if status.success() {
            return parse(&output).map(Some);
        }
        // `docker-credential-helpers:credentials/error.go`, `errCredentialsNotFoundMessage`.
        if output.starts_with(b"credentials not found") {
            return Ok(None);
        }
        Err(format!("it ended with {status}; run it by hand with `get` to see why"))
    }
}

fn warn(name: &str, registry: &str, what: &str) -> Option<Credentials> {
    let registry = text::quoted(registry, 200);
    tracing::warn!(helper = name, %registry, "a credential helper gave no credentials: {what}");
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    username: String,
    secret: SecretText,
}

pub(super) fn parse(output: &[u8]) -> Result<Credentials, String> {
    let output: Output = serde_json::from_slice(output)
        .map_err(|error| format!("its output is not as the protocol says, at column {}", error.column()))?;
    Ok(if output.username == TOKEN_USER {
        Credentials::IdentityToken(output.secret)
    } else {
        Credentials::Password { user: output.username, password: output.secret }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn helpers(folder: &std::path::Path, script: &str) -> Helpers {
        let file = folder.join("docker-credential-test");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let own =
            BTreeMap::from([("r.corp:5000".into(), "test".into()), ("docker.io".into(), "test".into())]);
        Helpers::new(own, None, Some(folder.into())).unwrap()
    }

    #[tokio::test]
    async fn a_helper_is_asked_once_and_by_docker_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = format!(
            r#"[ "$1" = get ] || exit 1; read server; echo "$server" >>'{}'; echo '{{"ServerURL":"x","Username":"u","Secret":"s3"}}'"#,
            log.display()
        );
        let helpers = helpers(folder.path(), &script);
        let expected = Credentials::Password { user: "u".into(), password: "s3".into() };
        for _ in 0..3 {
            assert_eq!(helpers.of_registry("r.corp:5000").await.as_ref(), Some(&expected));
        }
        assert_eq!(helpers.of_registry("docker.io").await.as_ref(), Some(&expected));
        assert_eq!(helpers.of_registry("other").await, None);
        assert_eq!(std::fs::read_to_string(log).unwrap(), "r.corp:5000\nhttps://index.docker.io/v1/\n");
    }

    #[tokio::test]
    async fn a_token_user_means_an_identity_token() {
        let folder = tempfile::tempdir().unwrap();
        let helpers = helpers(folder.path(), r#"echo '{"Username":"<token>","Secret":"s3"}'"#);
        assert_eq!(helpers.of_registry("docker.io").await, Some(Credentials::IdentityToken("s3".into())));
    }

    #[tokio::test]
    async fn helpers_that_misbehave_give_nothing() {
        for script in
            ["exit 1", "echo nonsense", "yes | head -c 200000", "echo 'credentials not found'; exit 1", ""]
        {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(helpers(folder.path(), script).of_registry("docker.io").await, None, "{script}");
        }
        let missing =
            Helpers::new(BTreeMap::from([("r".into(), "absent".into())]), None, Some("/nonexistent".into()));
        assert_eq!(missing.unwrap().of_registry("r").await, None);
    }

    #[tokio::test]
    async fn a_hanging_helper_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut helpers = helpers(folder.path(), "exec sleep 600");
        helpers.longest_run = Duration::from_millis(200);
        // In real time, since a process has no other; far from the end of the process, also on a busy machine.
        let answer = tokio::time::timeout(Duration::from_mins(2), helpers.of_registry("docker.io")).await;
        assert_eq!(answer, Ok(None));
    }

    #[test]
    fn invalid_helper_names_are_refused() {
        for name in ["", "../sh", "a b", "a;b", "A", "a_b", "a/b"] {
            let error = Helpers::new(BTreeMap::from([("r".into(), name.into())]), None, None).unwrap_err();
            assert!(error.contains(&format!("`{name}`")), "{error}");
            assert!(Helpers::new(BTreeMap::new(), Some(name.into()), None).is_err());
        }
    }

    #[test]
    fn no_message_repeats_what_a_helper_wrote() {
        for output in ["hunter2", r#"{"Username":"u","Secret":["hunter2"]}"#, r#"{"Secret":"hunter2"}"#] {
            assert!(!parse(output.as_bytes()).unwrap_err().contains("hunter2"), "{output}");
        }
    }
}
