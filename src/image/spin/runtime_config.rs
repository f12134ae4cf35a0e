//! `/runtime-config.toml` of an image: where the Spin shim leads stores, databases, models and variables
//! (`spin:crates/runtime-config/src/lib.rs`, tag v3.6.3; `containerd-shim-spin:containerd-shim-spin/src/trigger.rs`,
//! `factors_config`). What is not known to that Spin is not passed over: a later one may know it.

use std::collections::{BTreeMap, BTreeSet};

use super::at::At;
use crate::image::address::is_plain;
use crate::image::malformed::Malformed;
use crate::image::shim_files::{Backend, Provider, RuntimeConfig};
use crate::image::toml_text;
use crate::text;

/// Most stores, databases, providers, and variables of a provider.
const MAX_ENTRIES: usize = 256;
/// Most providers of variables, each of which is asked for each variable.
const MAX_PROVIDERS: usize = 16;
/// Most bytes of an address or a path.
const MAX_LENGTH: usize = 4096;
/// What the regions of AWS begin with that are of no partition of their own.
const AREAS: [&str; 9] = ["af", "ap", "ca", "eu", "il", "me", "mx", "sa", "us"];
/// Most characters of why the file was not read.
const LONGEST_REASON: usize = 400;
/// The tables and values of the file. `log_dir` is not used by the shim, and the tables of outgoing connections only narrow.
const KEYS: [&str; 11] = [
    "key_value_store",
    "sqlite_database",
    "llm_compute",
    "variables_provider",
    "config_provider",
    "state_dir",
    "log_dir",
    "max_instance_memory",
    "outbound_networking",
    "outbound_http",
    "client_tls",
];

/// Reads the file. If something in it is not known, that is all that is said of it.
pub(crate) fn parse(path: &str, bytes: &[u8]) -> RuntimeConfig {
    let read = std::str::from_utf8(bytes)
        .map_err(|error| Malformed::new(format!("it is not text: {error}")))
        .and_then(toml_text::read)
        .and_then(|root| of_root(&At::document(&root)));
    let found = read.unwrap_or_else(|malformed| {
        // It is said of all that the file may lead elsewhere, in every container.
        let unread = Some(text::shorten(&malformed.0, LONGEST_REASON).into_owned());
        RuntimeConfig { unread, ..RuntimeConfig::default() }
    });
    RuntimeConfig { path: path.to_string(), ..found }
}

fn of_root(root: &At<'_>) -> Result<RuntimeConfig, Malformed> {
    only(root, &KEYS)?;
    let providers = match root.get("variables_provider")? {
        Some(list) => Some(list),
        None => root.get("config_provider")?,
    };
    let providers = providers.map(|list| list.list()).transpose()?.into_iter().flatten();
    let providers: Vec<At<'_>> = providers.take(MAX_PROVIDERS + 1).collect();
    if providers.len() > MAX_PROVIDERS {
        return Err(root.wrong(&format!("names more than {MAX_PROVIDERS} providers of variables")));
    }
    let state_folder = root.get("state_dir")?.map(|at| short(&at)).transpose()?;
    Ok(RuntimeConfig {
        path: String::new(),
        unread: None,
        stores: by_name(root, "key_value_store", store)?,
        databases: by_name(root, "sqlite_database", database)?,
        models: root.get("llm_compute")?.map(|at| models(&at)).transpose()?,
        providers: providers.iter().map(provider).collect::<Result<_, _>>()?,
        state_folder: state_folder.filter(|folder| !folder.is_empty()),
        tls_files: tls_files(root)?,
    })
}

fn by_name(
    root: &At<'_>,
    key: &str,
    read: fn(&At<'_>) -> Result<Backend, Malformed>,
) -> Result<BTreeMap<String, Backend>, Malformed> {
    let Some(table) = root.get(key)? else { return Ok(BTreeMap::new()) };
    bounded(&table, table.map()?.len())?;
    let one = |(name, at): (&str, At<'_>)| Ok((name.to_string(), read(&at)?));
    table.members()?.map(one).collect()
}

/// `spin:crates/key-value-spin`, `key-value-redis`, `key-value-azure` and `key-value-aws`, each `src/lib.rs`.
fn store(at: &At<'_>) -> Result<Backend, Malformed> {
    match kind(at)?.as_str() {
        "spin" => file(at),
        "redis" => {
            only(at, &["type", "url"])?;
            Ok(servers("redis", &[short(&at.need("url")?)?]))
        }
        "azure_cosmos" => azure_cosmos(at),
        "aws_dynamo" => aws_dynamo(at),
        other => Err(unknown(at, other)),
    }
}

/// `azure_data_cosmos` puts the account in front of the host of all accounts.
fn azure_cosmos(at: &At<'_>) -> Result<Backend, Malformed> {
    only(at, &["type", "key", "account", "database", "container"])?;
    let account = label(&at.need("account")?)?;
    Ok(match at.get("key")? {
        Some(_) => servers("azure_cosmos", &[format!("https://{account}.documents.azure.com")]),
        None => Backend::Ambient { kind: "azure_cosmos".into() },
    })
}

/// With keys in the file the SDK asks the host of the region alone; without them everything comes from the environment, the
/// region too (`spin:crates/key-value-aws/src/store.rs`, `KeyValueAwsDynamo::new`).
fn aws_dynamo(at: &At<'_>) -> Result<Backend, Malformed> {
    only(at, &["type", "access_key", "secret_key", "token", "region", "consistent_read", "table"])?;
    if at.get("access_key")?.is_none() || at.get("secret_key")?.is_none() {
        return Ok(Backend::Ambient { kind: "aws_dynamo".into() });
    }
    let region = label(&at.need("region")?)?;
    let end =
        end_of_region(&region).ok_or_else(|| at.wrong("names a region whose hosts are not known here"))?;
    Ok(servers("aws_dynamo", &[format!("https://dynamodb.{region}.{end}")]))
}

/// How the hosts of a region end. Those of other partitions end otherwise, and `local` is the machine itself
/// (`smithy-rs:aws/sdk/aws-models/sdk-partitions.json`, `regionRegex` and `dnsSuffix`; `…/dynamodb.json`, the rules for endpoints).
fn end_of_region(region: &str) -> Option<&'static str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |text: &str| !text.is_empty();
    match region.split('-').collect::<Vec<_>>().as_slice() {
        ["cn", place, number] if is_word(place) && is_number(number) => Some("amazonaws.com.cn"),
        ["us", "gov", place, number] if is_word(place) && is_number(number) => Some("amazonaws.com"),
        [area, place, number] if AREAS.contains(area) && is_word(place) && is_number(number) => {
            Some("amazonaws.com")
        }
        _ => None,
    }
}

/// `spin:crates/sqlite/src/lib.rs`, `get_connection_creator`.
fn database(at: &At<'_>) -> Result<Backend, Malformed> {
    match kind(at)?.as_str() {
        "spin" => file(at),
        "libsql" => {
            only(at, &["type", "url", "token"])?;
            Ok(servers("libsql", &[short(&at.need("url")?)?]))
        }
        other => Err(unknown(at, other)),
    }
}

fn file(at: &At<'_>) -> Result<Backend, Malformed> {
    only(at, &["type", "path"])?;
    Ok(Backend::File { path: at.get("path")?.map(|path| short(&path)).transpose()? })
}

/// `spin:crates/factor-llm/src/spin.rs`, `LlmCompute`.
fn models(at: &At<'_>) -> Result<Backend, Malformed> {
    match kind(at)?.as_str() {
        "spin" => Ok(Backend::Inside),
        "remote_http" => {
            only(at, &["type", "url", "auth_token", "api_type"])?;
            Ok(servers("remote_http", &[short(&at.need("url")?)?]))
        }
        other => Err(unknown(at, other)),
    }
}

/// `spin:crates/runtime-config/src/variables.rs`, `VariableProviderConfiguration`.
fn provider(at: &At<'_>) -> Result<Provider, Malformed> {
    match kind(at)?.as_str() {
        "static" => {
            only(at, &["type", "values"])?;
            let names: BTreeSet<String> = at.map_of_text("values")?.into_keys().collect();
            bounded(at, names.len())?;
            Ok(Provider::Static { names })
        }
        "env" => {
            only(at, &["type", "prefix", "dotenv_path"])?;
            let text = |key| at.get(key)?.map(|at| short(&at)).transpose();
            let prefix = text("prefix")?.unwrap_or_else(|| "SPIN_VARIABLE".to_string());
            Ok(Provider::Env { prefix, dotenv: text("dotenv_path")? })
        }
        "vault" => {
            only(at, &["type", "url", "token", "mount", "prefix"])?;
            Ok(Provider::Remote(servers("vault", &[short(&at.need("url")?)?])))
        }
        "azure_key_vault" => azure_key_vault(at).map(Provider::Remote),
        other => Err(unknown(at, other)),
    }
}

/// `spin:crates/variables-azure/src/lib.rs`.
fn azure_key_vault(at: &At<'_>) -> Result<Backend, Malformed> {
    const OWN: [&str; 3] = ["client_id", "client_secret", "tenant_id"];
    only(at, &["type", "vault_url", "client_id", "client_secret", "tenant_id", "authority_host"])?;
    let written = OWN.iter().filter(|key| at.value.get(**key).is_some()).count();
    if written < OWN.len() {
        return Ok(Backend::Ambient { kind: "azure_key_vault".into() });
    }
    let login = match at.get("authority_host")?.map(|at| at.text()).transpose()?.as_deref() {
        None | Some("AzurePublicCloud") => "https://login.microsoftonline.com",
        Some("AzureChina") => "https://login.chinacloudapi.cn",
        Some("AzureGovernment") => "https://login.microsoftonline.us",
        Some("AzureGermany") => "https://login.microsoftonline.de",
        Some(other) => return Err(unknown(at, other)),
    };
    Ok(servers("azure_key_vault", &[short(&at.need("vault_url")?)?, login.to_string()]))
}

/// `spin:crates/factor-outbound-networking/src/runtime_config/spin.rs`, `tls_configs_from_table`.
fn tls_files(root: &At<'_>) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    for one in root.list_of("client_tls")? {
        for key in ["ca_roots_file", "client_cert_file", "client_private_key_file"] {
            found.extend(one.get(key)?.map(|at| short(&at)).transpose()?);
        }
        bounded(root, found.len())?;
    }
    Ok(found)
}

fn servers(kind: &str, addresses: &[String]) -> Backend {
    let addresses = addresses.iter().map(|address| without_user(address)).collect();
    Backend::Servers { kind: kind.to_string(), addresses }
}

/// The address without user and password, which are secrets; empty if it is not plain where they end.
fn without_user(address: &str) -> String {
    // What is cut off may hold what another reader takes for the host.
    if !is_plain(address) {
        return String::new();
    }
    let Some((scheme, rest)) = address.split_once("://") else { return String::new() };
    // A path and a query may hold secrets too, and lead to no other host.
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = rest.matches('@').count();
    match place.split_once('@') {
        None if user == 0 => format!("{scheme}://{place}"),
        Some((_, host)) if user == 1 => format!("{scheme}://{host}"),
        _ => String::new(),
    }
}

fn kind(at: &At<'_>) -> Result<String, Malformed> {
    at.need("type")?.text()
}

fn unknown(at: &At<'_>, kind: &str) -> Malformed {
    at.wrong(&format!("is of the type `{kind}`, which is not known"))
}

fn only(at: &At<'_>, known: &[&str]) -> Result<(), Malformed> {
    match at.map()?.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(at.wrong(&format!("has the key `{key}`, which is not known"))),
        None => Ok(()),
    }
}

fn bounded(at: &At<'_>, count: usize) -> Result<(), Malformed> {
    if count > MAX_ENTRIES {
        return Err(at.wrong(&format!("has {count} entries; at most {MAX_ENTRIES} are read")));
    }
    Ok(())
}

fn short(at: &At<'_>) -> Result<String, Malformed> {
    let text = at.text()?;
    if text.len() > MAX_LENGTH {
        return Err(at.wrong(&format!("has {} bytes; at most {MAX_LENGTH} are read", text.len())));
    }
    Ok(text)
}

/// A part of a host name.
fn label(at: &At<'_>) -> Result<String, Malformed> {
    let text = short(at)?;
    let is_plain =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if is_plain { Ok(text) } else { Err(at.wrong("is no part of a host name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RuntimeConfig {
        parse("/runtime-config.toml", text.as_bytes())
    }

    fn servers_of(backend: &Backend) -> Vec<&str> {
        match backend {
            Backend::Servers { addresses, .. } => addresses.iter().map(String::as_str).collect(),
            Backend::Ambient { kind } => vec!["*", kind],
            Backend::File { path } => vec!["file", path.as_deref().unwrap_or("memory")],
            Backend::Inside => vec!["inside"],
        }
    }

    #[test]
    fn every_store_of_keys_has_its_backend() {
        backends(&[
            ("[key_value_store.a]\ntype = \"spin\"\npath = \"/data/a.db\"", &["file", "/data/a.db"]),
            ("[key_value_store.a]\ntype = \"spin\"", &["file", "memory"]),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://u:hunter2@cache:6379/0?x=y\"",
                &["redis://cache:6379"],
            ),
            ("[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://u:h/u@nter2@cache\"", &[""]),
            ("[key_value_store.a]\ntype = \"redis\"\nurl = 'redis://evil.example\\@cache'", &[""]),
            (
                "[key_value_store.a]\ntype = \"azure_cosmos\"\nkey = \"k\"\naccount = \"acme\"\ndatabase = \"d\"\ncontainer = \"c\"",
                &["https://acme.documents.azure.com"],
            ),
            (
                "[key_value_store.a]\ntype = \"azure_cosmos\"\naccount = \"acme\"\ndatabase = \"d\"\ncontainer = \"c\"",
                &["*", "azure_cosmos"],
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"eu-west-1\"\ntable = \"t\"\naccess_key = \"a\"\nsecret_key = \"s\"",
                &["https://dynamodb.eu-west-1.amazonaws.com"],
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"cn-north-1\"\ntable = \"t\"\naccess_key = \"a\"\nsecret_key = \"s\"",
                &["https://dynamodb.cn-north-1.amazonaws.com.cn"],
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"eu-west-1\"\ntable = \"t\"\naccess_key = \"a\"",
                &["*", "aws_dynamo"],
            ),
        ]);
    }

    #[test]
    fn a_region_of_a_partition_that_is_not_known_has_no_hosts() {
        for region in ["us-east-1", "eu-central-2", "us-gov-west-1", "mx-central-1", "il-central-1"] {
            assert_eq!(end_of_region(region), Some("amazonaws.com"), "{region}");
        }
        assert_eq!(end_of_region("cn-northwest-1"), Some("amazonaws.com.cn"));
        for region in [
            "eusc-de-east-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eu-isoe-west-1",
            "us-isof-south-1",
            "local",
            "aws-global",
            "us-east",
            "us-east-x",
            "us--1",
            "xx-east-1",
            "cn-gov-north-1",
            "",
        ] {
            assert_eq!(end_of_region(region), None, "{region}");
        }
        let file = "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"eusc-de-east-1\"\naccess_key = \"a\"\nsecret_key = \"s\"";
        assert!(read(file).unread.is_some_and(|why| why.contains("are not known here")));
    }

    #[test]
    fn every_database_model_and_provider_has_its_backend() {
        backends(&[
            (
                "[sqlite_database.a]\ntype = \"libsql\"\nurl = \"https://db.example.com/x\"\ntoken = \"t\"",
                &["https://db.example.com"],
            ),
            ("[sqlite_database.a]\ntype = \"spin\"\npath = \"a.db\"", &["file", "a.db"]),
            ("[llm_compute]\ntype = \"spin\"", &["inside"]),
            (
                "[llm_compute]\ntype = \"remote_http\"\nurl = \"https://llm.example.com/v1\"\nauth_token = \"t\"",
                &["https://llm.example.com"],
            ),
            (
                "[llm_compute]\ntype = \"remote_http\"\nurl = 'https://evil.example\\@llm.example.com/v1'\nauth_token = \"t\"",
                &[""],
            ),
            (
                "[sqlite_database.a]\ntype = \"libsql\"\nurl = \"https://evil.example\\t@db.example.com\"\ntoken = \"t\"",
                &[""],
            ),
            (
                "[[variables_provider]]\ntype = \"vault\"\nurl = \"https://evil.example @vault\"\ntoken = \"t\"\nmount = \"m\"",
                &[""],
            ),
            (
                "[[variables_provider]]\ntype = \"azure_key_vault\"\nvault_url = 'https://v.vault.azure.net/\\evil'\nclient_id = \"c\"\nclient_secret = \"s\"\ntenant_id = \"t\"",
                &["", "https://login.microsoftonline.com"],
            ),
            (
                "[[variables_provider]]\ntype = \"vault\"\nurl = \"http://vault:8200\"\ntoken = \"t\"\nmount = \"m\"",
                &["http://vault:8200"],
            ),
            (
                "[[config_provider]]\ntype = \"azure_key_vault\"\nvault_url = \"https://v.vault.azure.net/\"\nclient_id = \"c\"\nclient_secret = \"s\"\ntenant_id = \"t\"",
                &["https://v.vault.azure.net", "https://login.microsoftonline.com"],
            ),
            (
                "[[variables_provider]]\ntype = \"azure_key_vault\"\nvault_url = \"https://v.vault.azure.net/\"",
                &["*", "azure_key_vault"],
            ),
        ]);
    }

    fn backends(cases: &[(&str, &[&str])]) {
        for (table, expected) in cases {
            let found = read(table);
            assert_eq!(found.unread, None, "{table}");
            let remote = |provider: &Provider| match provider {
                Provider::Remote(backend) => Some(backend.clone()),
                _ => None,
            };
            let all = found.stores.values().chain(found.databases.values()).chain(&found.models).cloned();
            let all: Vec<Backend> = all.chain(found.providers.iter().filter_map(remote)).collect();
            assert_eq!(all.iter().map(servers_of).collect::<Vec<_>>(), [expected.to_vec()], "{table}");
        }
    }

    #[test]
    fn providers_of_the_file_and_of_the_environment_are_read() {
        let found = read(
            "state_dir = \"/data\"\n[[variables_provider]]\ntype = \"static\"\nvalues = { a = \"1\" }\n[[variables_provider]]\ntype = \"env\"\n\
             [[variables_provider]]\ntype = \"env\"\nprefix = \"DB\"\ndotenv_path = \"/x/vars\"\n[[client_tls]]\ncomponent_ids = [\"a\"]\n\
             hosts = [\"x\"]\nclient_cert_file = \"/c\"\nclient_private_key_file = \"k\"",
        );
        let env = |prefix: &str, dotenv: Option<&str>| Provider::Env {
            prefix: prefix.into(),
            dotenv: dotenv.map(String::from),
        };
        let own = Provider::Static { names: ["a".to_string()].into() };
        assert_eq!(found.providers, [own, env("SPIN_VARIABLE", None), env("DB", Some("/x/vars"))]);
        assert_eq!(
            (found.state_folder.as_deref(), found.tls_files),
            (Some("/data"), vec!["/c".to_string(), "k".to_string()])
        );
    }

    #[test]
    fn what_is_not_known_is_not_passed_over() {
        let many: Vec<String> =
            (0..257).map(|n| format!("[key_value_store.a{n}]\ntype = \"spin\"\n")).collect();
        let many = many.concat();
        for (text, expected) in [
            ("[key_value_stores.a]\ntype = \"spin\"", "`key_value_stores`"),
            ("[key_value_store.a]\ntype = \"etcd\"", "`key_value_store.a` is of the type `etcd`"),
            ("[key_value_store.a]\ntype = \"spin\"\nurl = \"x\"", "has the key `url`"),
            (
                "[key_value_store.a]\ntype = \"azure_cosmos\"\nkey = \"k\"\naccount = \"evil.example/\"",
                "no part of a host name",
            ),
            (
                "[key_value_store.a]\ntype = \"aws_dynamo\"\nregion = \"us-iso-east-1\"\naccess_key = \"a\"\nsecret_key = \"s\"",
                "are not known here",
            ),
            ("[[variables_provider]]\ntype = \"static\"\nvalues = { a = 1 }", "must be a string"),
            ("key_value_store = 1", "must be an object"),
            ("[key_value_store", "table"),
            (many.as_str(), "at most 256"),
        ] {
            let unread = read(text).unread.unwrap_or_default();
            assert!(unread.contains(expected), "{text}: {unread}");
        }
        assert!(parse("/r", b"\xff").unread.is_some());
    }
}
