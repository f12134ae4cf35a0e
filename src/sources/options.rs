//! How a source of a bundle is written in the configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use reqwest::Url;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::image::reference::Reference;
use crate::policy::bundle::{name_of, without_ending};
use crate::policy::signature::Signers;

/// Shortest time between two requests for one bundle.
pub const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// Longest time that a server may hold back its answer.
pub const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// A bundle and where it comes from: the place alone, or a table.
#[allow(
    clippy::struct_excessive_bools,
    reason = "the fields of a table of the configuration, each of which a person sets by its name"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleSource {
    /// Name for records, metrics and messages; from `from` if it is not written.
    pub name: Option<String>,
    /// A file or folder, `https://…`, or `oci://registry/repository:tag`.
    pub from: String,
    /// Time between two requests to a server or registry. Files are looked at every second.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// How long a bundle server may hold back its answer until there is a new bundle; zero for none. Used once the server has said that it
    /// can. One that has said nothing, since it sent no bundle yet, is let wait once, and again for as long as it does.
    #[serde(with = "duration")]
    pub long_poll: Duration,
    /// File with the bearer token; read for each request.
    pub token_file: Option<PathBuf>,
    /// Client certificate (PEM) for a bundle server, with `clientKeyFile`; read for each request.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub client_key_file: Option<PathBuf>,
    /// CAs (PEM) of the bundle server, instead of the system's; read for each request.
    pub ca_file: Option<PathBuf>,
    /// Whether the bundle server may be asked without TLS.
    pub plain_http: bool,
    /// Whether a bundle with a lower sequence than the one before it is taken.
    pub allow_rollback: bool,
    /// `audit` for a bundle that runs in the shadow. Default: it decides.
    pub action: Option<BundleAction>,
    /// `false` for a bundle that has rules for the log alone and judges nothing.
    pub judges: bool,
    /// Ids of the keys in `policies.keys` that may sign this bundle; all of them if there is none.
    pub keys: Vec<String>,
    /// The `scope` that the signature must have, instead of that of its key.
    pub scope: Option<String>,
    /// Whether it need not be signed although others must. No configuration says so: it is for what is tried and admits nothing.
    #[serde(skip)]
    pub may_be_unsigned: bool,
}

/// What a bundle as a whole may do at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BundleAction {
    /// It runs in the shadow: what it finds is recorded and counted, and is in no answer.
    Audit,
}

/// The table, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Table {
    #[serde(default)]
    name: Option<String>,
    from: String,
    #[serde(default = "poll_interval", with = "duration")]
    poll_interval: Duration,
    #[serde(default, with = "duration")]
    long_poll: Duration,
    #[serde(default)]
    token_file: Option<PathBuf>,
    #[serde(default)]
    client_cert_file: Option<PathBuf>,
    #[serde(default)]
    client_key_file: Option<PathBuf>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    allow_rollback: bool,
    #[serde(default)]
    action: Option<BundleAction>,
    #[serde(default = "judges")]
    judges: bool,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
}

const fn poll_interval() -> Duration {
    Duration::from_mins(1)
}

const fn judges() -> bool {
    true
}

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file or folder.
    Path(PathBuf),
    /// A server that speaks OPA's bundle protocol.
    Http(Url),
    /// A registry.
    Oci(Reference),
}

impl Origin {
    /// The file or folder, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Http(_) | Self::Oci(_) => None,
        }
    }

    /// Whether a registry is asked, with what the configuration says about `images`.
    pub const fn is_registry(&self) -> bool {
        match self {
            Self::Oci(_) => true,
            Self::Path(_) | Self::Http(_) => false,
        }
    }
}

/// A place in a registry. For an image, a name without a host is one of Docker Hub; rules would go there, or come from there, by
/// mistake. The error says what to write instead.
pub fn place(written: &str) -> Result<Reference, String> {
    let reference = Reference::parse(written).map_err(|error| error.to_string())?;
    let host = written.split('/').next().unwrap_or_default();
    if !written.contains('/') || (reference.registry != host && !HUB.contains(&host)) {
        return Err(format!(
            "it names no registry, and would be one of Docker Hub; write the host too, such as `ghcr.io/myorg/rules:7`, or for that \
             `{reference}`"
        ));
    }
    Ok(reference)
}

/// Names of Docker Hub.
const HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// A field of a source that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field of the table.
    pub field: &'static str,
    /// What was written.
    pub value: String,
    /// What to write instead.
    pub message: String,
}

impl BundleSource {
    /// A source with defaults for all but the place.
    pub fn of(from: impl Into<String>) -> Self {
        Self {
            name: None,
            from: from.into(),
            poll_interval: poll_interval(),
            long_poll: Duration::ZERO,
            token_file: None,
            client_cert_file: None,
            client_key_file: None,
            ca_file: None,
            plain_http: false,
            allow_rollback: false,
            action: None,
            judges: judges(),
            keys: Vec::new(),
            scope: None,
            may_be_unsigned: false,
        }
    }

    /// Where it comes from. The error says what to write instead.
    pub fn origin(&self) -> Result<Origin, Wrong> {
        let wrong = |message: String| Wrong { field: "from", value: self.shown(), message };
        if let Some(image) = self.from.strip_prefix("oci://") {
            return place(image).map(Origin::Oci).map_err(wrong);
        }
        if !self.from.contains("://") {
            let empty = "write a file, a folder, or a URL that begins with `https://` or `oci://`";
            let path = PathBuf::from(&self.from);
            return if self.from.is_empty() { Err(wrong(empty.into())) } else { Ok(Origin::Path(path)) };
        }
        let url = Url::parse(&self.from).map_err(|error| wrong(format!("it is not a URL: {error}")))?;
        match url.scheme() {
            _ if !url.username().is_empty() || url.password().is_some() => {
                Err(wrong("a URL is no place for a password; name the file of a token in `tokenFile`".into()))
            }
            "https" => Ok(Origin::Http(url)),
            "http" if self.plain_http => Ok(Origin::Http(url)),
            "http" => {
                let message =
                    "everyone on the way could change the rules; write `https://`, or set `plainHttp: true`";
                Err(wrong(message.into()))
            }
            _ => {
                Err(wrong("write a file, a folder, or a URL that begins with `https://` or `oci://`".into()))
            }
        }
    }

    /// Who may sign it.
    pub(super) fn signers(&self) -> Signers {
        Signers {
            keys: self.keys.clone(),
            scope: self.scope.clone(),
            may_be_another: self.is_shadow(),
            may_be_unsigned: self.may_be_unsigned,
        }
    }

    /// Whether it runs in the shadow.
    pub const fn is_shadow(&self) -> bool {
        matches!(self.action, Some(BundleAction::Audit))
    }

    /// Name of the bundle.
    pub fn name(&self) -> String {
        let last =
            |path: &str| path.rsplit('/').find(|step| !step.is_empty()).unwrap_or("bundle").to_string();
        self.name.clone().unwrap_or_else(|| match self.origin() {
            Ok(Origin::Path(path)) => name_of(&path),
            Ok(Origin::Http(url)) => without_ending(&last(url.path())).to_string(),
            Ok(Origin::Oci(reference)) => last(&reference.repository),
            Err(_) => self.shown(),
        })
    }

    /// The place for people: without the query of a URL, which may hold a signature that gives access.
    pub fn shown(&self) -> String {
        match Url::parse(&self.from) {
            Ok(mut url) if self.from.contains("://") => {
                url.set_query(None);
                // Neither fails for a URL with a host, and one without has none of them.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.into()
            }
            // Where a password ends in what is not a URL is not known.
            Err(_) if self.from.contains("://") && self.from.contains('@') => {
                let scheme = self.from.split("://").next().unwrap_or_default();
                format!("{scheme}://…")
            }
            _ => self.from.clone(),
        }
    }

    /// The fields that cannot be used.
    pub fn check(&self) -> Vec<Wrong> {
        let mut wrongs: Vec<_> = self.origin().err().into_iter().collect();
        let mut wrong = |field, value: String, message: &str| {
            wrongs.push(Wrong { field, value, message: message.into() });
        };
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            wrong("name", String::new(), "write a name, or leave it out");
        }
        if self.poll_interval < SHORTEST_POLL {
            wrong("pollInterval", format!("{:?}", self.poll_interval), "write at least `1s`");
        }
        if self.long_poll > LONGEST_WAIT {
            wrong("longPoll", format!("{:?}", self.long_poll), "write at most `10m`");
        }
        if !self.judges && self.is_shadow() {
            let message = "rules for the log that are in the shadow change no record; leave this or `action: audit` out";
            wrong("judges", "false".into(), message);
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            wrong("clientCertFile", "alone".into(), "give `clientCertFile` and `clientKeyFile`, or neither");
        }
        if !matches!(self.origin(), Ok(Origin::Http(_)) | Err(_)) {
            for (field, file) in [
                ("tokenFile", &self.token_file),
                ("clientCertFile", &self.client_cert_file),
                ("caFile", &self.ca_file),
            ] {
                if let Some(file) = file {
                    let message =
                        "it is for bundle servers (`https://`); what registries need is under `images`";
                    wrong(field, file.display().to_string(), message);
                }
            }
        }
        wrongs
    }
}

impl<'de> Deserialize<'de> for BundleSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

/// Reads the place alone, or the table.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = BundleSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file, a folder or a URL, or a table with `from`")
    }

    fn visit_str<E: de::Error>(self, from: &str) -> Result<BundleSource, E> {
        Ok(BundleSource::of(from))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BundleSource, A::Error> {
        let Table {
            name,
            from,
            poll_interval,
            long_poll,
            token_file,
            client_cert_file,
            client_key_file,
            ca_file,
            plain_http,
            allow_rollback,
            action,
            judges,
            keys,
            scope,
        } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(BundleSource {
            name,
            from,
            poll_interval,
            long_poll,
            token_file,
            client_cert_file,
            client_key_file,
            ca_file,
            plain_http,
            allow_rollback,
            action,
            judges,
            keys,
            scope,
            may_be_unsigned: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_a_bundle_server_or_a_registry() {
        let name = |from: &str| BundleSource::of(from).name();
        assert_eq!(name("rules/our-rules.tar.gz"), "our-rules");
        assert_eq!(name("https://bundles.example.com/v1/platform.tar.gz?signature=secret"), "platform");
        assert_eq!(name("oci://ghcr.io/myorg/rules:1.4"), "rules");
        assert!(matches!(BundleSource::of("rules").origin(), Ok(Origin::Path(_))));
        let shown = BundleSource::of("https://bundles.example.com/a?signature=secret").shown();
        assert_eq!(shown, "https://bundles.example.com/a");
        let mut plain = BundleSource::of("http://bundles.example.com/a.tar.gz");
        assert!(plain.origin().unwrap_err().message.contains("`plainHttp: true`"));
        plain.plain_http = true;
        assert!(plain.check().is_empty());
        for wrong in [
            "",
            "ftp://example.com/a",
            "https://me:secret@example.com/a",
            "https://me:secret@example.com:x/a",
            "oci://UPPER/Case",
        ] {
            let found = BundleSource::of(wrong).check();
            assert_eq!(found.first().map(|wrong| wrong.field), Some("from"), "{wrong}");
            assert!(!found.iter().any(|one| one.value.contains("secret")), "{found:?}");
        }
    }

    #[test]
    fn a_place_in_a_registry_names_the_registry() {
        for written in ["rules", "rules:7", "myorg/rules:7", "library/rules"] {
            let error = place(written).unwrap_err();
            assert!(
                error.contains("it names no registry") && error.contains("`docker.io/"),
                "{written}: {error}"
            );
            assert_eq!(BundleSource::of(format!("oci://{written}")).check()[0].message, error);
        }
        for written in [
            "docker.io/myorg/rules:7",
            "index.docker.io/a/b",
            "localhost/a",
            "a.example/b:1",
            "127.0.0.1:5000/a",
        ] {
            assert!(place(written).is_ok(), "{written}");
        }
    }

    #[test]
    fn what_belongs_to_servers_alone_is_refused_for_other_places() {
        let source =
            BundleSource { token_file: Some("token".into()), ..BundleSource::of("oci://ghcr.io/a/b:1") };
        assert_eq!(source.check().iter().map(|wrong| wrong.field).collect::<Vec<_>>(), ["tokenFile"]);
        let source =
            BundleSource { client_cert_file: Some("c".into()), ..BundleSource::of("https://a.example/b") };
        assert_eq!(source.check().iter().map(|wrong| wrong.field).collect::<Vec<_>>(), ["clientCertFile"]);
    }

    #[test]
    fn rules_for_the_log_alone_are_not_in_the_shadow() {
        let read = |text: &str| serde_json::from_str::<BundleSource>(text).unwrap();
        let log = read(r#"{"from": "log.tar.gz", "judges": false}"#);
        assert!(log.check().is_empty() && !log.judges && BundleSource::of("log.tar.gz").judges);
        let wrong = read(r#"{"from": "log.tar.gz", "judges": false, "action": "audit"}"#).check();
        assert_eq!(wrong.iter().map(|wrong| wrong.field).collect::<Vec<_>>(), ["judges"]);
    }

    #[test]
    fn a_table_has_the_defaults_of_a_place_alone() {
        let read = |text: &str| serde_json::from_str::<BundleSource>(text);
        assert_eq!(read("\"a.tar.gz\"").unwrap(), read("{\"from\": \"a.tar.gz\"}").unwrap());
        assert!(read("{\"from\": \"a\", \"pol\": \"1m\"}").is_err());
        assert_eq!(
            read("{\"from\": \"a\", \"pollInterval\": \"5s\"}").unwrap().poll_interval,
            Duration::from_secs(5)
        );
    }
}
