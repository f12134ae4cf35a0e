//! The reference registry (`distribution`, built by `tools/build`) on a free loopback port, for as long as the value
//! lives; and the programs that push to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use oci_client::Reference;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::process::{ask_patiently, program};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const USER: &str = "wasmgate";
pub const PASSWORD: &str = "let-me-in";

/// The crypt(3) hash of the password above; the tests verify it by logging in.
const HTPASSWD: &str = "wasmgate:$2y$05$wasmgateregistrytestsuMUkIeqwHDUVqoqO1Q03gakmx0Hya78W";

/// Serves until its standard input closes, so that nothing is left when the tests are killed.
const UNTIL_STDIN_CLOSES: &str =
    r#""$0" serve "$1" & child=$!; cat >/dev/null; kill "$child"; wait "$child" 2>/dev/null"#;

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// A running registry.
pub struct Registry {
    shell: Child,
    folder: TempDir,
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// Certificate of the CA that signed the registry's, when it speaks TLS.
    pub ca: Option<PathBuf>,
    auth: RegistryAuth,
}

impl Registry {
    /// Plain HTTP, without authentication.
    pub fn start() -> Self {
        Self::launch(tempfile::tempdir().unwrap(), "", None, RegistryAuth::Anonymous)
    }

    /// The same with its files in a folder that the caller removes, for a registry in a static.
    pub fn start_below(parent: &Path) -> Self {
        Self::launch(tempfile::tempdir_in(parent).unwrap(), "", None, RegistryAuth::Anonymous)
    }

    /// TLS by a CA of its own, and one user.
    pub fn start_with_tls_and_password() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("htpasswd"), format!("{HTPASSWD}\n")).unwrap();
        write_certificates(folder.path());
        let http = format!(
            "  tls: {{ certificate: {}, key: {} }}\nauth:\n  htpasswd: {{ realm: test, path: {} }}\n",
            at("server.pem").display(),
            at("server.key").display(),
            at("htpasswd").display()
        );
        let ca = at("ca.pem");
        Self::launch(folder, &http, Some(ca), RegistryAuth::Basic(USER.into(), PASSWORD.into()))
    }

    /// Plain HTTP; accepts tokens of this realm that are signed with this certificate's key.
    pub fn start_with_tokens(realm: &str, service: &str, issuer: &str, certificate: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.pem");
        fs::write(&file, certificate).unwrap();
        let more = format!(
            "auth:\n  token: {{ realm: \"{realm}\", service: {service}, issuer: {issuer}, rootcertbundle: {} }}\n",
            file.display()
        );
        Self::launch(folder, &more, None, RegistryAuth::Basic(USER.into(), PASSWORD.into()))
    }

    fn launch(folder: TempDir, more: &str, ca: Option<PathBuf>, auth: RegistryAuth) -> Self {
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  \
             delete: {{ enabled: true }}\nhttp:\n  addr: 127.0.0.1:0\n{more}",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let shell = serve(folder.path());
        let mut registry = Self { shell, folder, host: String::new(), ca, auth };
        registry.host = registry.wait_until_it_listens();
        registry
    }

    /// Starts it again after [`Self::stop`], on the same port, with what was pushed.
    pub fn start_again(&mut self) {
        let config = self.folder.path().join("config.yml");
        let text = fs::read_to_string(&config)
            .unwrap()
            .replace("addr: 127.0.0.1:0", &format!("addr: {}", self.host));
        fs::write(&config, text).unwrap();
        self.shell = serve(self.folder.path());
        self.wait_until_it_listens();
    }

    /// The kernel chooses the port, and the log names it.
    fn wait_until_it_listens(&self) -> String {
        let log = || fs::read_to_string(self.folder.path().join("server.log")).unwrap();
        let address = ask_patiently(|| {
            let log = log();
            let (_, rest) = log.split_once("listening on ")?;
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
            Some(rest[..end].to_string())
        });
        address.unwrap_or_else(|| panic!("the registry never was ready; it said: {}", log()))
    }

    /// Stops it. What was pushed is kept until the value is dropped.
    pub fn stop(&mut self) {
        drop(self.shell.stdin.take());
        if ask_patiently(|| self.shell.try_wait().unwrap()).is_none() {
            let _ = self.shell.kill();
        }
    }

    /// Requests that it has answered, one per line, whose path contains `part`.
    pub fn requests(&self, method: &str, part: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        log.lines().filter(|line| line.contains(&format!("\"{method} ")) && line.contains(part)).count()
    }

    /// Files with its own certificate and key, if it speaks TLS.
    pub fn certificate_and_key(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("server.pem"), self.folder.path().join("server.key"))
    }

    /// Name of an image in it.
    pub fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Pushes blobs and then a manifest under a tag; returns the manifest's digest.
    pub async fn push(&self, rest: &str, blobs: &[&[u8]], manifest: &[u8], media_type: &str) -> String {
        let client = self.client();
        let reference: Reference = self.image(rest).parse().unwrap();
        client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
        for blob in blobs {
            client.push_blob(&reference, blob.to_vec(), &digest(blob)).await.unwrap();
        }
        client.push_manifest_raw(&reference, manifest.to_vec(), media_type.parse().unwrap()).await.unwrap();
        digest(manifest)
    }

    fn client(&self) -> Client {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificate = |path: &PathBuf| Certificate {
            encoding: CertificateEncoding::Pem,
            data: fs::read(path).unwrap(),
        };
        Client::try_from(ClientConfig {
            protocol: if self.ca.is_some() { ClientProtocol::Https } else { ClientProtocol::Http },
            extra_root_certificates: self.ca.iter().map(certificate).collect(),
            ..ClientConfig::default()
        })
        .unwrap()
    }

    /// Runs `crane` in a folder. It speaks plain HTTP to loopback hosts.
    pub fn crane(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.run("crane", folder, &[&["--insecure"], arguments].concat())
    }

    /// Runs `oras` in a folder; the caller passes `--plain-http`, which not every command accepts.
    pub fn oras(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.run("oras", folder, arguments)
    }

    /// A label of an image.
    pub fn label(&self, image: &str, name: &str) -> Option<String> {
        let config = self.crane(self.folder.path(), &["config", image]);
        let config: Value = serde_json::from_slice(&config.stdout).unwrap();
        config["config"]["Labels"][name].as_str().map(String::from)
    }

    /// The digests of what is attached to an image, by their type.
    pub fn attached(&self, image: &str) -> BTreeMap<String, String> {
        let listed = self.oras(self.folder.path(), &["discover", "--plain-http", "--format=json", image]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let referrers = listed["referrers"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        referrers.map(|one| (text(&one["artifactType"]), text(&one["digest"]))).collect()
    }

    fn run(&self, name: &str, folder: &Path, arguments: &[&str]) -> Output {
        let output = Command::new(program(name))
            .args(arguments)
            .current_dir(folder)
            // Neither may read the logins of the user who runs the tests.
            .env("HOME", self.folder.path())
            .env("DOCKER_CONFIG", self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?} failed: {said}");
        output
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the program with the configuration in a folder.
fn serve(folder: &Path) -> Child {
    let log = |name: &str| File::create(folder.join(name)).unwrap();
    Command::new("sh")
        .args(["-c", UNTIL_STDIN_CLOSES])
        .arg(program("registry"))
        .arg(folder.join("config.yml"))
        .stdin(Stdio::piped())
        .stdout(log("access.log"))
        .stderr(log("server.log"))
        .env("OTEL_TRACES_EXPORTER", "none")
        .spawn()
        .unwrap()
}

/// `ca.pem`, and `server.pem` with `server.key` for the loopback names.
fn write_certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let write =
        |name: &str, text: String| File::create(folder.join(name)).unwrap().write_all(text.as_bytes());
    write("ca.pem", ca_certificate.pem()).unwrap();
    write("server.pem", certificate.pem()).unwrap();
    write("server.key", key.serialize_pem()).unwrap();
}
