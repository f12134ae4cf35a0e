//! The locked app of a Spin image: what it hands to each component (`spin:crates/locked-app/src/locked.rs`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::malformed::Malformed;
use super::outbound::OutboundHost;
use super::shim_files::{DotEnv, RuntimeConfig};
use super::{Digest, ModuleFacts, SpinApp, SpinComponent, json};

mod at;
pub(crate) mod dotenv;
mod listeners;
pub mod manifest;
mod owned;
mod runtime_config;
mod triggers;
mod variables;

use at::At;
use listeners::Listeners;
pub(crate) use owned::{for_each_owner, size_for_all_owners};
use variables::{MAX_HANDED, check_variable, template_variables};

/// Label of the image config that names the locked app's layer.
pub const LOCKED_APP_LABEL: &str = "com.fermyon.spin.lockedAppDigest";
/// All hosts in Spin's pattern grammar
/// (`spin:crates/outbound-networking-config/src/allowed_hosts.rs`).
const ALL_HOSTS: &str = "*://*:*";
/// The legacy spelling of [`ALL_HOSTS`] in `allowed_http_hosts`.
const INSECURE_ALLOW_ALL: &str = "insecure:allow-all";
/// The names in `must_understand` that this reader understands.
const UNDERSTOOD: [&str; 2] = ["host_requirements", "component_host_requirements"];
/// The host features that this reader knows.
const HOST_FEATURES: [&str; 2] = ["local_service_chaining", "middleware"];

/// Most pairs of a module and a component that runs it; each pair has facts of its own.
const MAX_USES: usize = 128;
/// Most components of an application, each of which runs a module.
const MAX_COMPONENTS: usize = MAX_USES;
/// Most bytes of a component's id, which every module that it runs and all that it is handed are told apart by. Spin makes a
/// folder of it, and no file system of a node takes a longer name (`NAME_MAX`, `linux/limits.h`).
const MAX_ID: usize = 255;
/// Most types of triggers of an application, and bytes of the name of one. Each is kept for every component that it may start;
/// the shim knows five.
const MAX_TRIGGER_TYPES: usize = 16;
const MAX_TRIGGER_TYPE: usize = 64;

/// Reads `/runtime-config.toml` of an image; its path is the one behind the links.
pub fn runtime_config_of(path: &str, bytes: &[u8]) -> RuntimeConfig {
    runtime_config::parse(path, bytes)
}

/// Reads a file `.env` of an image; `None` if it is too long, no text, or has too many names.
pub fn dotenv_of(path: &str, bytes: &[u8]) -> Option<DotEnv> {
    dotenv::parse(path, bytes)
}

/// Reads a locked app.
pub fn parse(bytes: &[u8]) -> Result<SpinApp, Malformed> {
    let root: Value = json::read(bytes)?;
    let root = At::document(&root);
    check_version(&root)?;
    check_requirements(&root)?;
    let mut components = Vec::new();
    for component in root.need("components")?.list()? {
        components.push(read_component(&component)?);
    }
    check_components(&components)?;
    let mut triggers = BTreeSet::new();
    let (mut listeners, mut ids) = (Listeners::default(), TriggerIds::default());
    for trigger in root.need("triggers")?.list()? {
        ids.add(trigger.get("id")?)?;
        let kind = trigger_type(&trigger.need("trigger_type")?.text()?, &triggers)?;
        let id = triggered(&trigger)?;
        for component in components.iter_mut().filter(|c| id.is_none_or(|id| c.id == id)) {
            component.triggers.insert(kind.clone());
        }
        let config = trigger.get("trigger_config")?;
        listeners.add(&kind, id, config.as_ref(), &defaults(&root, &kind)?)?;
        triggers.insert(kind);
        add_middleware(&trigger, &mut components)?;
    }
    let name = root.get("metadata")?.map(|metadata| metadata.get("name")).transpose()?.flatten();
    let name = name.map(|name| name.text()).transpose()?.unwrap_or_default();
    let listeners = listeners.checked(handed(&components))?;
    Ok(SpinApp { name, triggers, components, listeners, ..SpinApp::default() })
}

/// What all triggers of a type have in common: `metadata.triggers`, and `metadata.trigger` of older apps
/// (`spin:crates/app/src/lib.rs`, `get_trigger_metadata_value`).
fn defaults<'a>(root: &At<'a>, kind: &str) -> Result<Vec<At<'a>>, Malformed> {
    let Some(metadata) = root.get("metadata")? else { return Ok(Vec::new()) };
    let of_kind = metadata.get("triggers")?.map(|all| all.get(kind)).transpose()?.flatten();
    let older =
        metadata.get("trigger")?.filter(|only| only.value.get("type").and_then(Value::as_str) == Some(kind));
    Ok(of_kind.into_iter().chain(older).collect())
}

/// An app in one line.
pub fn describe(app: &SpinApp) -> String {
    let triggers: Vec<&str> = app.triggers.iter().map(String::as_str).collect();
    let components = match app.components.len() {
        1 => "1 component".to_string(),
        several => format!("{several} components"),
    };
    format!("`{}` with {components}, triggered by {}", app.name, triggers.join(", "))
}

/// Refuses an app whose components name too many modules.
pub(crate) fn check_uses(app: &SpinApp) -> Result<(), Malformed> {
    let uses: usize = app.components.iter().map(|component| component.modules().count()).sum();
    if uses > MAX_USES {
        return Err(Malformed::new(format!(
            "its components name {uses} modules; at most {MAX_USES} are read, so split the application"
        )));
    }
    Ok(())
}

/// Why Spin cannot start an app whose modules were read.
pub(crate) fn refusal(modules: &[ModuleFacts], app: &SpinApp) -> Option<String> {
    if app.components.is_empty() {
        return Some("a Spin application without components".into());
    }
    let mut used = modules.iter().filter(|module| module.component.is_some());
    let empty = used.find(|module| module.code_bytes == 0)?;
    Some(format!("the module `{}` of a Spin application holds no code, such as a WIT package", empty.source))
}

fn check_version(root: &At<'_>) -> Result<(), Malformed> {
    let version = root.need("spin_lock_version")?;
    match version.value.as_u64() {
        Some(0 | 1) => Ok(()),
        _ => Err(version.wrong(&format!("is {}, only 0 and 1 are known", version.value))),
    }
}

/// What Spin itself refuses to skip is refused here too, because it may change what a component can reach.
fn check_requirements(root: &At<'_>) -> Result<(), Malformed> {
    for part in root.list_of_text("must_understand")? {
        if !UNDERSTOOD.contains(&part.as_str()) {
            return Err(Malformed::new(format!(
                "`must_understand` names `{part}`, which is not known; leave out what needs it"
            )));
        }
    }
    check_features(root)
}

fn check_features(at: &At<'_>) -> Result<(), Malformed> {
    let Some(features) = at.get("host_requirements")? else { return Ok(()) };
    for (feature, level) in features.map()? {
        if level.as_str() != Some("optional") && !HOST_FEATURES.contains(&feature.as_str()) {
            return Err(features.wrong(&format!(
                "requires `{feature}`, which is not known; leave it out, or make it `optional`"
            )));
        }
    }
    Ok(())
}

/// Refuses an application of more components than are read.
fn check_count(count: usize) -> Result<(), Malformed> {
    if count > MAX_COMPONENTS {
        return Err(Malformed::new(format!(
            "it has {count} components; at most {MAX_COMPONENTS} are read, so split the application"
        )));
    }
    Ok(())
}

/// The number of components, of what they are handed, and their ids.
fn check_components(components: &[SpinComponent]) -> Result<(), Malformed> {
    check_count(components.len())?;
    let handed = handed(components);
    if handed > MAX_HANDED {
        return Err(Malformed::new(format!(
            "it hands {handed} hosts, templates in them, variables, stores, databases and models to its components; at most {MAX_HANDED} are read, so split the application"
        )));
    }
    check_variables(components)?;
    check_ids(components)
}

/// How much all components are handed.
fn handed(components: &[SpinComponent]) -> usize {
    components.iter().map(SpinComponent::handed).sum()
}

fn check_variables(components: &[SpinComponent]) -> Result<(), Malformed> {
    let of_hosts = |component: &SpinComponent| {
        let hosts = component.allowed_outbound_hosts.iter();
        hosts.flat_map(|host| template_variables(host.as_str())).collect::<Vec<_>>()
    };
    for component in components {
        for name in component.variables.iter().cloned().chain(of_hosts(component)) {
            check_variable(&name)?;
        }
    }
    Ok(())
}

/// The type of a trigger beside those that were read before.
fn trigger_type(kind: &str, known: &BTreeSet<String>) -> Result<String, Malformed> {
    if kind.len() > MAX_TRIGGER_TYPE || (known.len() >= MAX_TRIGGER_TYPES && !known.contains(kind)) {
        return Err(Malformed::new(format!(
            "its triggers have more than {MAX_TRIGGER_TYPES} types, or one whose name has more than {MAX_TRIGGER_TYPE} bytes; use fewer, with shorter names"
        )));
    }
    Ok(kind.to_string())
}

fn check_ids(components: &[SpinComponent]) -> Result<(), Malformed> {
    let mut seen = BTreeSet::new();
    match components.iter().find(|component| !seen.insert(component.id.as_str())) {
        Some(twice) => Err(Malformed::new(format!("`components` holds `{}` twice", twice.id))),
        None => Ok(()),
    }
}

fn read_component(at: &At<'_>) -> Result<SpinComponent, Malformed> {
    check_features(at)?;
    let nothing = Value::Object(Map::new());
    let metadata = at.get("metadata")?.unwrap_or_else(|| at.member("metadata", &nothing));
    let hosts = hosts(&metadata)?;
    let config = at.map_of_text("config")?;
    let dependencies = dependencies(at)?;
    Ok(SpinComponent {
        id: folder_name(&at.need("id")?)?,
        digest: Some(digest(at)?),
        allowed_outbound_hosts: hosts.into_iter().map(OutboundHost::from).collect(),
        key_value_stores: metadata.list_of_text("key_value_stores")?,
        sqlite_databases: metadata.list_of_text("databases")?,
        ai_models: metadata.list_of_text("ai_models")?,
        files: files(at)?,
        sources: Vec::new(),
        ways: Vec::new(),
        triggers: BTreeSet::new(),
        env: at.map_of_text("env")?.into_keys().collect(),
        variables: config
            .values()
            .flat_map(|value| template_variables(value))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        inherited: dependencies.inherited,
        isolated: dependencies.isolated,
        satisfied: dependencies.names,
    })
}

/// Refuses an id that is too long.
fn check_id(at: &At<'_>, id: &str) -> Result<(), Malformed> {
    if id.len() > MAX_ID {
        return Err(at.wrong(&format!("is an id of {} bytes; at most {MAX_ID} are read", id.len())));
    }
    Ok(())
}

/// The ids of the triggers that were read. Spin keeps triggers by their ids, so that with one of them it keeps all others that have the same
/// (`spin:crates/app/src/lib.rs`, `retain_components`; tag v3.6.3), whose components need not be kept.
#[derive(Default)]
struct TriggerIds(BTreeSet<String>);

impl TriggerIds {
    /// Refuses the id of a trigger that another one has.
    fn add(&mut self, id: Option<At<'_>>) -> Result<(), Malformed> {
        match id {
            Some(id) if !self.0.insert(id.text()?) => Err(id.wrong(
                "is the id of another trigger as well, and Spin does not tell the two apart; give each an id of its own",
            )),
            _ => Ok(()),
        }
    }
}

/// The id of a component. Spin copies the component's files into a folder of this name
/// (`spin:crates/oci/src/loader.rs`, `resolve_component_content_refs`), so an id with a slash would lead it over the
/// module that was judged. Spin itself makes words of letters and digits with `-` between them
/// (`spin:crates/serde/src/id.rs`); older releases took any text, so `_` and `.` are read too.
fn folder_name(at: &At<'_>) -> Result<String, Malformed> {
    let id = at.text()?;
    check_id(at, &id)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(plain) {
        return Ok(id);
    }
    Err(at.wrong(&format!(
        "is `{id}`, and Spin makes a folder of this name; write letters, digits and `-`, beginning with a letter"
    )))
}

/// The guest paths of a component's files. Spin copies each to its path below the component's folder, from the layer
/// with its digest.
fn files(at: &At<'_>) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    for file in at.list_of("files")? {
        found.push(below(&file.need("path")?)?);
        if file.get("inline")?.is_none() || file.get("digest")?.is_some() {
            digest_of(&file)?;
        }
    }
    Ok(found)
}

/// A path that stays below the folder to which it is joined (`spin:crates/oci/src/loader.rs`, `is_safe_to_join`, which
/// older releases lack).
fn below(at: &At<'_>) -> Result<String, Malformed> {
    let path = at.text()?;
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(at.wrong(&format!(
            "is `{path}`, which may lead out of the component's folder; write a relative path without `.` and `..`"
        )));
    }
    Ok(path)
}

/// Spin loads modules by digest only (`spin:crates/oci/src/loader.rs`, `content_digest`).
fn digest(at: &At<'_>) -> Result<String, Malformed> {
    digest_of(&at.need("source")?)
}

/// The digest of some content. Spin makes a path of it (`spin:crates/loader/src/cache.rs`, `data_path`), so nothing
/// but a digest may be there.
fn digest_of(content: &At<'_>) -> Result<String, Malformed> {
    let at = content.need("digest")?;
    let text = at.text()?;
    match text.parse::<Digest>() {
        Ok(_) => Ok(text),
        Err(malformed) => Err(at.wrong(&format!("is not a digest of a layer: {malformed}"))),
    }
}

/// What the dependencies of a component run with.
struct Dependencies {
    inherited: Vec<String>,
    isolated: Vec<String>,
    /// The imports that they satisfy.
    names: Vec<String>,
}

/// Both lists as written, except for `insecure:allow-all`.
fn hosts(metadata: &At<'_>) -> Result<Vec<String>, Malformed> {
    let mut hosts = metadata.list_of_text("allowed_outbound_hosts")?;
    for legacy in metadata.list_of_text("allowed_http_hosts")? {
        hosts.push(if legacy == INSECURE_ALLOW_ALL { ALL_HOSTS.into() } else { legacy });
    }
    Ok(hosts)
}

/// Digests of the dependencies: those that run with the component's own capabilities because they inherit anything at
/// all, and the others. A partial list counts as all of them, an upper bound: Spin cannot hand over a part yet and fails
/// with "granular configuration inheritance is not yet supported" (`spin:crates/compose/src/lib.rs`,
/// `register_dependency`), so the meaning of such a list is not known.
fn dependencies(at: &At<'_>) -> Result<Dependencies, Malformed> {
    let (mut inherited, mut isolated, mut names) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (name, dependency) in at.members_of("dependencies")? {
        names.push(name.to_string());
        let list = if inherits(&dependency)? { &mut inherited } else { &mut isolated };
        list.insert(digest(&dependency)?);
    }
    inherited.extend(middleware(at)?);
    let (inherited, isolated) = (inherited.into_iter().collect(), isolated.into_iter().collect());
    Ok(Dependencies { inherited, isolated, names })
}

fn inherits(dependency: &At<'_>) -> Result<bool, Malformed> {
    let Some(inherit) = dependency.get("inherit")? else { return Ok(false) };
    match inherit.value {
        Value::String(all) if all == "All" => Ok(true),
        Value::Object(_) => Ok(!inherit.list_of_text("Some")?.is_empty()),
        _ => Err(inherit.wrong("must be `All` or `Some` with a list")),
    }
}

/// Middleware is composed with the component, so it counts whether or not it says that it inherits.
fn middleware(at: &At<'_>) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    for (_, all) in at.members_of("trigger_dependencies")? {
        for dependency in all.list()? {
            found.push(digest(&dependency)?);
        }
    }
    Ok(found)
}

/// The component that a trigger starts; `None` if the trigger names none and may start any.
fn triggered<'a>(trigger: &At<'a>) -> Result<Option<&'a str>, Malformed> {
    let config = trigger.get("trigger_config")?;
    Ok(config.and_then(|config| config.value.get("component").and_then(Value::as_str)))
}

/// Adds the middleware that a trigger names to the trigger's component.
fn add_middleware(trigger: &At<'_>, components: &mut [SpinComponent]) -> Result<(), Malformed> {
    let found = middleware(trigger)?;
    let id = triggered(trigger)?;
    for component in components.iter_mut().filter(|component| Some(component.id.as_str()) == id) {
        component.inherited.extend(found.iter().cloned());
        component.inherited.sort();
        component.inherited.dedup();
        if component.inherited.len() > MAX_USES {
            return Err(Malformed::new(format!(
                "component `{}` has more than {MAX_USES} modules of dependencies and middleware",
                component.id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(components: &Value) -> Value {
        json!({"spin_lock_version": 1, "metadata": {"name": "shop"}, "components": components,
            "triggers": [{"id": "t", "trigger_type": "http", "trigger_config": {"component": "a"}}]})
    }

    fn read(value: &Value) -> Result<SpinApp, Malformed> {
        parse(&serde_json::to_vec(value).unwrap())
    }

    fn digest_of(name: &str) -> String {
        Digest::of(name.as_bytes()).to_string()
    }

    fn source(name: &str) -> Value {
        json!({"content_type": "application/wasm", "digest": digest_of(name)})
    }

    #[test]
    fn two_triggers_do_not_have_one_id() {
        let with = |ids: &[Value]| {
            let mut app = app(&json!([{"id": "a", "source": source("a")}]));
            let trigger = |id: &Value| json!({"id": id, "trigger_type": "http"});
            app["triggers"] = ids.iter().map(trigger).collect();
            read(&app).map_err(|malformed| malformed.0)
        };
        assert!(with(&[json!("t"), json!("u")]).is_ok());
        for id in ["t", ""] {
            let said = with(&[json!(id), json!("u"), json!(id)]).unwrap_err();
            assert!(said.starts_with("`triggers[2].id` is the id of another trigger"), "{said}");
        }
    }

    #[test]
    fn an_app_whose_components_name_too_many_modules_is_refused() {
        let with = |count: usize| {
            let component = SpinComponent { isolated: vec!["m".into(); count], ..SpinComponent::default() };
            SpinApp { components: vec![component], ..SpinApp::default() }
        };
        assert_eq!(check_uses(&with(MAX_USES)), Ok(()));
        let refused = check_uses(&with(MAX_USES + 1)).unwrap_err();
        assert!(refused.0.contains("name 129 modules; at most 128 are read"), "{refused}");
    }

    #[test]
    fn everything_that_a_component_is_handed_is_listed() {
        let value = app(&json!([{
            "id": "a", "source": source("1"),
            "metadata": {
                "allowed_outbound_hosts": ["https://api.example.com", "{{ scheme }}://{{host}}:443"],
                "allowed_http_hosts": ["insecure:allow-all"],
                "key_value_stores": ["default"], "databases": ["main"], "ai_models": ["llama2-chat"]
            },
            "env": {"B": "secret", "A": "2"}, "config": {"url": "{{ base }}/x?k={{key }}", "plain": "no"},
            "files": [{"path": "static/x", "digest": digest_of("f")}, {"path": "y", "inline": "eA=="}]
        }]));
        let app = read(&value).unwrap();
        assert_eq!((app.name.as_str(), app.triggers.len()), ("shop", 1));
        let component = &app.components[0];
        assert_eq!(component.allowed_outbound_hosts[2], "*://*:*");
        let templates = component.allowed_outbound_hosts.iter().map(OutboundHost::has_template);
        assert_eq!(templates.collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(component.env, ["A", "B"]);
        assert_eq!(component.variables, ["base", "key"]);
        assert_eq!(component.files, ["static/x", "y"]);
        assert_eq!(component.key_value_stores, ["default"]);
        assert_eq!(component.sqlite_databases, ["main"]);
        assert_eq!(component.ai_models, ["llama2-chat"]);
        assert_eq!(component.digest.as_deref(), Some(&*digest_of("1")));
        assert!(!format!("{app:?}").contains("secret"));
    }

    /// Every component is judged for every container, and every type of trigger is kept for every component.
    #[test]
    fn an_application_has_no_more_of_anything_than_is_judged() {
        let component = |number: usize| json!({"id": format!("c{number}"), "source": source("1")});
        let with = |components: usize, types: &[String], hosts: usize| {
            let mut all: Vec<Value> = (0..components).map(component).collect();
            let names: Vec<_> = (0..hosts).map(|number| format!("https://h{number}.example")).collect();
            all[0]["metadata"] = json!({"allowed_outbound_hosts": names});
            let mut app = app(&json!(all));
            app["triggers"] = types.iter().map(|kind| json!({"trigger_type": kind})).collect();
            read(&app).map_err(|malformed| malformed.0)
        };
        let types = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>();
        assert!(with(128, &types(16), 4096).is_ok());
        let repeated = vec!["http".to_string(); 1000];
        assert!(with(1, &repeated, 1).is_ok(), "many triggers of one type");
        for (refused, what) in [
            (with(129, &types(1), 0), "129 components"),
            (with(1, &types(17), 0), "16 types"),
            (with(1, &["t".repeat(65)], 0), "64 bytes"),
            (with(1, &types(1), 4097), "hands 4097 hosts"),
        ] {
            assert!(refused.unwrap_err().contains(what), "{what}");
        }
    }

    #[test]
    fn middleware_of_many_triggers_has_an_end() {
        let with = |count: usize| {
            let mut app = app(&json!([{"id": "a", "source": source("1")}]));
            let trigger = |number: usize| {
                let middleware = json!({"middleware": [{"source": source(&number.to_string())}]});
                json!({"trigger_type": "http", "trigger_config": {"component": "a"}, "trigger_dependencies": middleware})
            };
            app["triggers"] = (0..count).map(trigger).collect();
            read(&app)
        };
        assert!(with(128).is_ok() && with(129).unwrap_err().0.contains("more than 128 modules"));
    }

    #[test]
    fn dependencies_that_inherit_count_for_their_component() {
        let mut value = app(&json!([{"id": "a", "source": source("1"), "dependencies": {
            "all": {"source": source("all"), "inherit": "All"},
            "some": {"source": source("some"), "inherit": {"Some": ["ai_models"]}},
            "none": {"source": source("none"), "inherit": {"Some": []}},
            "plain": {"source": source("plain")}},
            "trigger_dependencies": {"middleware": [{"source": source("mw")}]}}]));
        value["triggers"][0]["trigger_dependencies"] = json!({"middleware": [{"source": source("tr")}]});
        let app = read(&value).unwrap();
        let all = |names: &[&str]| names.iter().map(|name| digest_of(name)).collect::<BTreeSet<String>>();
        let found = |list: &[String]| list.iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(found(&app.components[0].inherited), all(&["all", "mw", "some", "tr"]));
        assert_eq!(found(&app.components[0].isolated), all(&["none", "plain"]));
    }

    #[test]
    fn no_name_of_a_locked_app_leads_out_of_the_folders_of_its_component() {
        let with = |id: &str, path: &str, digest: &str| {
            let files = json!([{"path": path, "digest": digest}]);
            read(&app(&json!([{"id": id, "source": source("d"), "files": files}])))
        };
        let fine = digest_of("f");
        for id in [
            "a",
            "order-api",
            "component-0",
            "hello_world",
            "A.b",
            "..",
            ".",
            "",
            "/",
            "a/b",
            "../a",
            "a\0",
            "ä",
            ".a",
        ] {
            let plain = ["a", "order-api", "component-0", "hello_world", "A.b"].contains(&id);
            let found = with(id, "x", &fine).map(|_| ());
            assert_eq!(found.is_ok(), plain, "{id}: {found:?}");
            assert!(found.err().is_none_or(|error| error.0.contains("`components[0].id` is")), "{id}");
        }
        for path in ["", "/", "/x", "..", "x/..", "../x", "x/../../y", "./x", "x//y", "x/"] {
            let error = with("a", path, &fine).unwrap_err();
            assert!(error.0.contains("`components[0].files[0].path` is"), "{path}: {error}");
        }
        for digest in ["../../../secret/token", "/secret/token", "sha256:../x", "sha256:", ""] {
            let error = with("a", "x", digest).unwrap_err();
            assert!(error.0.contains("`components[0].files[0].digest` is not a digest"), "{digest}: {error}");
            let module = json!({"digest": digest});
            let dependency = json!({"a:b/c": {"source": module}});
            let error = read(&app(&json!([{"id": "a", "source": source("d"), "dependencies": dependency}])));
            assert!(error.unwrap_err().0.contains("source.digest` is not a digest"), "{digest}");
            let error = read(&app(&json!([{"id": "a", "source": module}]))).unwrap_err();
            assert!(error.0.contains("`components[0].source.digest` is not a digest"), "{digest}: {error}");
        }
        let error = read(&app(&json!([{"id": "a", "source": source("d"), "files": [{"path": "x"}]}])));
        assert!(error.unwrap_err().0.contains("`components[0].files[0].digest` is missing"));
    }

    #[test]
    fn an_id_is_no_longer_than_the_name_of_a_folder() {
        let with = |length: usize| {
            let id = "c".repeat(length);
            read(&app(&json!([{"id": id, "source": source("d")}]))).map(|_| ())
        };
        assert!(with(255).is_ok());
        assert_eq!(
            with(256).unwrap_err().0,
            "`components[0].id` is an id of 256 bytes; at most 255 are read"
        );
    }

    #[test]
    fn a_variable_that_may_get_the_value_of_another_one_is_refused() {
        let edit = |key: &str, with: Value| {
            let mut component = json!({"id": "api", "metadata": {}, "source": {"digest": format!("sha256:{}", "a".repeat(64))}});
            component[key] = with;
            read(&app(&json!([component]))).map(|_| ())
        };
        for name in ["spin_variable_a", "SPIN_VARIABLE_A", "spin_variable_spin_variable_a"] {
            let template = format!("https://{{{{ {name} }}}}");
            for (key, value) in [
                ("config", json!({"key": template})),
                ("metadata", json!({"allowed_outbound_hosts": [template]})),
            ] {
                let said = edit(key, value).unwrap_err().0;
                assert!(said.contains(&format!("reads the variable `{name}`")), "{said}");
            }
        }
        assert!(edit("config", json!({"key": "{{ spin_variables }} {{ a_spin_variable_b }}"})).is_ok());
    }

    #[test]
    fn a_locked_app_with_parts_that_must_be_understood_is_refused() {
        let edit = |key: &str, with: Value| {
            let mut value = app(&json!([]));
            value[key] = with;
            read(&value).map(|_| ()).unwrap_err().0
        };
        assert!(edit("spin_lock_version", json!(2)).contains("only 0 and 1"));
        assert!(edit("spin_lock_version", json!("1")).contains("`spin_lock_version`"));
        assert!(edit("must_understand", json!(["time_travel"])).contains("`time_travel`"));
        assert!(edit("host_requirements", json!({"splines": "required"})).contains("`splines`"));
        let mut fine = app(&json!([]));
        fine["must_understand"] = json!(["host_requirements"]);
        fine["host_requirements"] = json!({"splines": "optional", "local_service_chaining": "required"});
        assert!(read(&fine).is_ok());
    }

    #[test]
    fn an_error_names_the_field() {
        let cases = [
            (json!([{"source": source("d")}]), "`components[0].id` is missing"),
            (json!([{"id": "a"}]), "`components[0].source` is missing"),
            (
                json!([{"id": "a", "source": {"inline": "AGFzbQ=="}}]),
                "`components[0].source.digest` is missing",
            ),
            (
                json!([{"id": "a", "source": source("d"), "files": [{}]}]),
                "`components[0].files[0].path` is missing",
            ),
            (
                json!([{"id": "a", "source": source("d"), "metadata": {"allowed_outbound_hosts": [1]}}]),
                "`components[0].metadata.allowed_outbound_hosts[0]` must be a string",
            ),
            (
                json!([{"id": "a", "source": source("d"), "env": {"A": 1}}]),
                "`components[0].env.A` must be a string",
            ),
            (json!("x"), "`components` must be a list"),
            (json!([{"id": "a", "source": source("d")}, {"id": "a", "source": source("d")}]), "`a` twice"),
        ];
        for (components, expected) in cases {
            let error = read(&app(&components)).unwrap_err();
            assert!(error.0.contains(expected), "{error}");
        }
        assert!(parse(b"[]").unwrap_err().0.contains("the document"));
        assert!(parse(b"{").is_err());
        assert!(parse(b"{}").unwrap_err().0.contains("`spin_lock_version` is missing"));
    }

    #[test]
    fn templates_are_found_however_they_are_spaced() {
        assert_eq!(template_variables("{{a}}-{{ b }}-{{c"), ["a", "b", "c"]);
        assert!(template_variables("plain }} text").is_empty());
    }
}
