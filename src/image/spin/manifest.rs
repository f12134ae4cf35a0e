//! `spin.toml`: the manifest that the Spin shim reads if the application is in the root file system
//! (`spin:crates/manifest/src/schema/v2.rs`, `compat.rs` for version 1). Read as an upper bound of what the components
//! are handed; unknown keys are refused, because they could hand over more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::at::At;
use super::listeners::Listeners;
use super::triggers::{self, Listed, is_kebab};
use super::variables::template_variables;
use super::{Dependencies, check_components, check_count, check_id, handed, hosts, trigger_type};
use crate::image::malformed::Malformed;
use crate::image::outbound::OutboundHost;
use crate::image::path;
use crate::image::toml_text;
use crate::image::{SpinApp, SpinComponent};
use crate::text;

/// Keys of a component, in both versions.
const COMPONENT_KEYS: [&str; 20] = [
    "id",
    "source",
    "description",
    "variables",
    "config",
    "environment",
    "files",
    "exclude_files",
    "allowed_http_hosts",
    "allowed_outbound_hosts",
    "key_value_stores",
    "sqlite_databases",
    "ai_models",
    "targets",
    "build",
    "tool",
    "dependencies_inherit_configuration",
    "dependencies",
    "profile",
    "trigger",
];
/// What a component must not have of its own to be a dependency of another one
/// (`spin:crates/manifest/src/normalize.rs`, `ensure_is_acceptable_dependency`, tag v3.6.3).
const OF_ITS_OWN: [&str; 9] = [
    "ai_models",
    "allowed_http_hosts",
    "allowed_outbound_hosts",
    "dependencies",
    "environment",
    "files",
    "key_value_stores",
    "sqlite_databases",
    "variables",
];
/// The hosts that a component of version 1 reaches unless it lists `allowed_outbound_hosts`
/// (`spin:crates/manifest/src/compat.rs`, `convert_allowed_http_to_allowed_hosts`).
const VERSION_1_HOSTS: [&str; 3] = ["redis://*:*", "mysql://*:*", "postgres://*:*"];

/// Reads a manifest. A component's module is named by its path in the root file system, where a locked app has its
/// digest.
pub fn parse(bytes: &[u8]) -> Result<SpinApp, Malformed> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| Malformed::new(format!("it is not text: {error}")))?;
    let root = toml_text::read(text)?;
    let root = At::document(&root);
    let app = if is_version_1(&root)? { version_1(&root) } else { version_2(&root) }?;
    check_components(&app.components)?;
    Ok(app)
}

/// `spin_manifest_version = "1"`, or its older name, or 1; `spin_manifest_version = 2`
/// (`spin:crates/manifest/src/schema.rs`).
fn is_version_1(root: &At<'_>) -> Result<bool, Malformed> {
    let version = match root.get("spin_manifest_version")? {
        Some(version) => version,
        None => root.need("spin_version")?,
    };
    match (version.value.as_str(), version.value.as_u64()) {
        (Some("1"), _) | (_, Some(1)) => Ok(true),
        (_, Some(2)) => Ok(false),
        _ => Err(version.wrong(&format!("is {}, only 1 and 2 are known", version.value))),
    }
}

fn version_1(root: &At<'_>) -> Result<SpinApp, Malformed> {
    let mut components = Vec::new();
    let of_app = root.need("trigger")?;
    let trigger = trigger_type(&of_app.need("type")?.text()?, &BTreeSet::new())?;
    let mut listeners = Listeners::default();
    for at in root.list_of("component")? {
        check_count(components.len())?;
        let mut component = component(&at, id_of(&at.need("id")?)?, &Listed::new())?;
        if at.get("allowed_outbound_hosts")?.is_none() {
            let defaults = VERSION_1_HOSTS.map(OutboundHost::from);
            component.allowed_outbound_hosts.splice(0..0, defaults);
        }
        let own = at.get("trigger")?;
        listeners.add(&trigger, Some(&component.id), own.as_ref(), std::slice::from_ref(&of_app))?;
        components.push(component);
    }
    triggered_by(&trigger, None, &mut components);
    let listeners = listeners.checked(handed(&components))?;
    let (name, triggers) = (root.need("name")?.text()?, BTreeSet::from([trigger]));
    Ok(SpinApp { name, triggers, components, listeners, ..SpinApp::default() })
}

fn version_2(root: &At<'_>) -> Result<SpinApp, Malformed> {
    let tables: Vec<(&str, At<'_>)> = root.members_of("component")?.collect();
    let mut listed: Listed<'_> = tables.iter().map(|(id, at)| ((*id).to_string(), at.clone())).collect();
    let (types, triggers) = triggers::read(root, &mut listed)?;
    // A component may be written inside its trigger instead of in a table.
    let inside = triggers.iter().filter_map(|one| Some((one.starts.as_deref()?, one.inline.as_ref()?)));
    let mut components = Vec::new();
    for (id, at) in tables.iter().map(|(id, at)| (*id, at)).chain(inside) {
        check_id(at, id)?;
        // Those of tables are counted once all of them are there.
        check_count(components.len())?;
        components.push(component(at, id.to_string(), &listed)?);
    }
    let mut listeners = Listeners::default();
    let application = root.need("application")?;
    let of_app = application.get("trigger")?;
    for trigger in &triggers {
        let (kind, starts) = (trigger.kind, trigger.starts.as_deref());
        let defaults = of_app.as_ref().map(|all| all.get(kind)).transpose()?.flatten();
        triggered_by(kind, starts, &mut components);
        listeners.add(kind, starts, Some(&trigger.at), defaults.as_slice())?;
    }
    let listeners = listeners.checked(handed(&components))?;
    let name = application.need("name")?.text()?;
    Ok(SpinApp { name, triggers: types, components, listeners, ..SpinApp::default() })
}

/// Records what starts a component; a trigger that names none may start any.
fn triggered_by(kind: &str, id: Option<&str>, components: &mut [SpinComponent]) {
    for component in components.iter_mut().filter(|component| id.is_none_or(|id| component.id == id)) {
        component.triggers.insert(kind.to_string());
    }
}

/// The id of a component of version 1, as Spin writes it in version 2 (`spin:crates/manifest/src/compat.rs`,
/// `component_id_from_string`, tag v3.6.3).
fn id_of(at: &At<'_>) -> Result<String, Malformed> {
    let written = at.text()?;
    let id = if is_kebab(&written) { written } else { written.replace('_', "-").to_lowercase() };
    check_id(at, &id)?;
    Ok(id)
}

fn component(at: &At<'_>, id: String, listed: &Listed<'_>) -> Result<SpinComponent, Malformed> {
    if let Some(key) = at.map()?.keys().find(|key| !COMPONENT_KEYS.contains(&key.as_str())) {
        return Err(at.wrong(&format!("has the key `{key}`, which is not known and could hand over more")));
    }
    let mut variables = BTreeMap::new();
    for key in ["variables", "config"] {
        variables.extend(at.map_of_text(key)?);
    }
    let hosts = hosts(at)?;
    let files = files(at)?;
    let dependencies = dependencies(at, listed)?;
    let read: BTreeSet<String> = variables.values().flat_map(|value| template_variables(value)).collect();
    Ok(SpinComponent {
        id,
        digest: Some(local_file(&at.need("source")?, None)?),
        allowed_outbound_hosts: hosts.into_iter().map(OutboundHost::from).collect(),
        key_value_stores: at.list_of_text("key_value_stores")?,
        sqlite_databases: at.list_of_text("sqlite_databases")?,
        ai_models: at.list_of_text("ai_models")?,
        files: files.iter().map(|(_, place)| place.clone()).collect(),
        sources: files.into_iter().map(|(source, _)| source).collect(),
        ways: Vec::new(),
        triggers: BTreeSet::new(),
        env: at.map_of_text("environment")?.into_keys().collect(),
        variables: read.into_iter().collect(),
        inherited: dependencies.inherited,
        isolated: dependencies.isolated,
        satisfied: dependencies.names,
    })
}

/// The path of a file of the image. What Spin fetches from elsewhere at every start cannot be judged.
fn local_file(at: &At<'_>, key: Option<&str>) -> Result<String, Malformed> {
    let path = match key {
        Some(key) if at.value.is_object() => at.get(key)?,
        Some(_) => None,
        None => at.value.is_string().then(|| at.clone()),
    };
    match path {
        Some(path) => Ok(text::clean_path(&forward(&path)?)),
        None => Err(at.wrong(
            "is fetched by Spin at every start, so what will run is not known; put the file into the image",
        )),
    }
}

/// A path that is followed: twice as long at most as one that the kernel takes. Each component that has it is handed a copy.
fn path_of(at: &At<'_>) -> Result<String, Malformed> {
    let text = at.text()?;
    if text.len() > path::MAX_LENGTH {
        let most = path::MAX_LENGTH;
        return Err(at.wrong(&format!("is a path of {} bytes; at most {most} are read", text.len())));
    }
    Ok(text)
}

/// A path that does not go up from a name: where that leads depends on links, and as text it leads elsewhere.
fn forward(at: &At<'_>) -> Result<String, Malformed> {
    let text = path_of(at)?;
    if path::goes_up(&text) {
        return Err(at.wrong(&format!("is `{text}`, which goes up from a name; write the path without `..`")));
    }
    Ok(text)
}

/// All dependencies, if any of them may inherit: a list of single capabilities counts as all, as in a locked app.
fn dependencies(at: &At<'_>, listed: &Listed<'_>) -> Result<Dependencies, Malformed> {
    let all =
        at.get("dependencies_inherit_configuration")?.is_some_and(|flag| flag.value != &Value::Bool(false));
    let (mut inherited, mut isolated, mut names) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (name, dependency) in at.members_of("dependencies")? {
        names.push(name.to_string());
        let own =
            dependency.value.get("inherit_configuration").is_some_and(|flag| flag != &Value::Bool(false));
        let list = if all || own { &mut inherited } else { &mut isolated };
        let module = match dependency.value.get("component") {
            Some(_) => of_component(&dependency, listed)?,
            None => local_file(&dependency, Some("path"))?,
        };
        list.insert(module);
    }
    let (inherited, isolated) = (inherited.into_iter().collect(), isolated.into_iter().collect());
    Ok(Dependencies { inherited, isolated, names })
}

/// The module of another component of the application. Spin takes that one's source alone, and nothing that it has of its own
/// (`spin:crates/manifest/src/normalize.rs`, `normalize_dependency_component_refs`, tag v3.6.3).
fn of_component(dependency: &At<'_>, listed: &Listed<'_>) -> Result<String, Malformed> {
    if dependency
        .map()?
        .keys()
        .any(|key| !matches!(key.as_str(), "component" | "export" | "inherit_configuration"))
    {
        return Err(dependency
            .wrong("names a component and something else, which Spin refuses; leave one of them out"));
    }
    let id = dependency.need("component")?.text()?;
    let Some(other) = listed.get(id.as_str()) else {
        return Err(dependency.wrong(&format!(
            "names the component `{id}`, which is no table `component.{id}` of the manifest"
        )));
    };
    for key in OF_ITS_OWN {
        let is_empty = |at: &At<'_>| match at.value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if other.get(key)?.is_some_and(|at| !is_empty(&at)) {
            return Err(dependency.wrong(&format!(
                "names the component `{id}`, which has `{key}` of its own: Spin 3.6.3 does not start such an application"
            )));
        }
    }
    local_file(&other.need("source")?, None)
}

/// Each folder that is opened and the path at which the component sees it: source and destination, or the folder above
/// the first wildcard of a pattern (`spin:crates/loader/src/local.rs`, `resolve_direct_mount`).
fn files(at: &At<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let mut found = Vec::new();
    for file in at.list_of("files")? {
        let (source, place) = if file.value.is_object() {
            (forward(&file.need("source")?)?, path_of(&file.need("destination")?)?)
        } else {
            let pattern = forward(&file)?;
            (pattern.clone(), pattern)
        };
        found.push((fixed(&source), fixed(&place)));
    }
    Ok(found)
}

fn fixed(pattern: &str) -> String {
    let parts: Vec<&str> =
        pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
    text::clean_path(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
        spin_manifest_version = 2
        [application]
        name = "shop"
        [variables]
        host = { default = "example.com" }
        [[trigger.http]]
        route = "/..."
        component = "web"
        [[trigger.redis]]
        channel = "orders"
        component = { source = "worker.wasm", key_value_stores = ["default"] }
        [component.web]
        source = "web.wasm"
        allowed_outbound_hosts = ["https://{{ host }}", "redis://db:6379"]
        variables = { url = "https://{{ host }}/x" }
        environment = { LOG = "debug" }
        files = ["assets/**/*.css", { source = "static", destination = "/www" }, "*.html"]
        sqlite_databases = ["orders"]
        ai_models = ["llama2-chat"]
        [component.web.build]
        command = "make"
        [component.web.dependencies]
        "a:b/c" = { path = "lib/dep.wasm" }"#;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().0
    }

    #[test]
    fn a_manifest_has_no_more_of_anything_than_is_judged() {
        let components = |count: usize| {
            let one = |n: usize| format!("[component.c{n}]\nsource = \"a.wasm\"\n");
            (0..count).map(one).collect::<Vec<_>>().concat()
        };
        let triggers =
            |count: usize| (0..count).map(|n| format!("[[trigger.t{n}]]\n")).collect::<Vec<_>>().concat();
        let with = |components: &str, triggers: &str| {
            parse(
                format!("spin_manifest_version = 2\napplication.name = \"a\"\n{components}{triggers}")
                    .as_bytes(),
            )
        };
        assert!(with(&components(128), &triggers(16)).is_ok());
        assert!(with(&components(129), "").unwrap_err().0.contains("129 components"));
        assert!(with("", &triggers(17)).unwrap_err().0.contains("16 types"));
    }

    #[test]
    fn ids_and_paths_are_no_longer_than_a_node_takes_them() {
        let refused = |from: &str, to: &str| refusal(&SHOP.replace(from, to));
        let long = "w".repeat(256);
        assert!(refused("component.web", &format!("component.{long}")).contains("an id of 256 bytes"));
        assert!(parse(SHOP.replace("web", &"w".repeat(255)).as_bytes()).is_ok());
        let path = "/w".repeat(path::MAX_LENGTH);
        for (from, to) in [
            ("\"web.wasm\"", format!("\"{path}\"")),
            ("\"/www\"", format!("\"{path}\"")),
            ("\"static\"", format!("\"{path}\"")),
            ("\"lib/dep.wasm\"", format!("\"{path}\"")),
        ] {
            let said = refused(from, &to);
            assert!(said.contains("is a path of 16384 bytes") && said.len() < 300, "{from}: {said}");
        }
    }

    /// As in a locked app: the shim gives a variable `spin_variable_a` the value of `a`.
    #[test]
    fn a_manifest_with_a_variable_that_may_get_the_value_of_another_one_is_refused() {
        let with = |key: &str, value: &str| {
            SHOP.replace("environment = ", &format!("{key} = {value}\nenvironment = "))
                .replace("allowed_outbound_hosts = [\"https://{{ host }}\", \"redis://db:6379\"]\n", "")
                .replace("variables = { url = \"https://{{ host }}/x\" }\n", "")
        };
        let old = |key: &str, value: &str| {
            format!(
                "spin_manifest_version = \"1\"\nname = \"a\"\ntrigger = {{ type = \"http\" }}\n[[component]]\nid = \"c\"\nsource = \"c.wasm\"\n{key} = {value}\n\
                 [component.trigger]\nroute = \"/\"\n"
            )
        };
        let read = |name: &str| format!("{{{{ {name} }}}}");
        for name in ["spin_variable_host", "SPIN_VARIABLE_HOST"] {
            for text in [
                with("variables", &format!("{{ url = \"https://{}\" }}", read(name))),
                with("allowed_outbound_hosts", &format!("[\"https://{}\"]", read(name))),
                old("config", &format!("{{ url = \"{}\" }}", read(name))),
                old("allowed_outbound_hosts", &format!("[\"https://{}\"]", read(name))),
            ] {
                let said = refusal(&text);
                assert!(said.contains(&format!("reads the variable `{name}`")), "{said}: {text}");
            }
        }
        let other = format!("{{ url = \"{}\" }}", read("host_of_spin_variable"));
        assert!(parse(with("variables", &other).as_bytes()).is_ok());
        assert!(parse(old("config", &other).as_bytes()).is_ok());
    }

    #[test]
    fn a_manifest_lists_what_each_component_is_handed() {
        let app = parse(SHOP.as_bytes()).unwrap();
        assert_eq!(app.name, "shop");
        assert_eq!(app.triggers, BTreeSet::from(["http".to_string(), "redis".to_string()]));
        let web = &app.components[0];
        assert_eq!((web.id.as_str(), web.digest.as_deref()), ("web", Some("/web.wasm")));
        assert_eq!(web.allowed_outbound_hosts, ["https://{{ host }}", "redis://db:6379"]);
        assert!(
            web.allowed_outbound_hosts[0].has_template() && !web.allowed_outbound_hosts[1].has_template()
        );
        assert_eq!(web.variables, ["host"]);
        assert_eq!(web.files, ["/assets", "/www", "/"]);
        assert_eq!(web.sources, ["/assets", "/static", "/"]);
        assert_eq!(web.triggers, BTreeSet::from(["http".to_string()]));
        assert_eq!(
            (&web.env[0], &web.sqlite_databases[0], &web.ai_models[0]),
            (&"LOG".into(), &"orders".into(), &"llama2-chat".into())
        );
        assert_eq!(
            (web.inherited.as_slice(), web.isolated.as_slice()),
            (&[][..], &["/lib/dep.wasm".to_string()][..])
        );
        let worker = &app.components[1];
        assert_eq!(worker.id, "redis-trigger1-component");
        assert_eq!(worker.triggers, BTreeSet::from(["redis".to_string()]));
        assert_eq!(
            (worker.digest.as_deref(), worker.key_value_stores.as_slice()),
            (Some("/worker.wasm"), &["default".to_string()][..])
        );
    }

    #[test]
    fn dependencies_run_with_the_components_capabilities_when_they_inherit() {
        let inherit = SHOP.replace("ai_models", "dependencies_inherit_configuration = true\nai_models");
        assert_eq!(parse(inherit.as_bytes()).unwrap().components[0].inherited, ["/lib/dep.wasm"]);
        let one = SHOP.replace("lib/dep.wasm\"", "lib/dep.wasm\", inherit_configuration = [\"ai_models\"]");
        assert_eq!(parse(one.as_bytes()).unwrap().components[0].inherited, ["/lib/dep.wasm"]);
    }

    #[test]
    fn a_dependency_may_be_another_component_of_the_application() {
        let other = "\n[component.lib]\nsource = \"lib/own.wasm\"\nfiles = []\n";
        let named =
            SHOP.replace("{ path = \"lib/dep.wasm\" }", "{ component = \"lib\", export = \"a:b/d\" }");
        let app = parse(format!("{named}{other}").as_bytes()).unwrap();
        let web = app.components.iter().find(|component| component.id == "web").unwrap();
        assert_eq!(
            (web.isolated.as_slice(), web.satisfied.as_slice()),
            (&["/lib/own.wasm".to_string()][..], &["a:b/c".to_string()][..])
        );
        let lib = app.components.iter().find(|component| component.id == "lib").unwrap();
        assert_eq!((lib.digest.as_deref(), lib.triggers.len()), (Some("/lib/own.wasm"), 0));
        let all = named.replace("ai_models", "dependencies_inherit_configuration = true\nai_models");
        let app = parse(format!("{all}{other}").as_bytes()).unwrap();
        assert_eq!(
            app.components.iter().find(|component| component.id == "web").unwrap().inherited,
            ["/lib/own.wasm"]
        );
        let fetched = other.replace("\"lib/own.wasm\"", "{ url = \"https://x\", digest = \"sha256:1\" }");
        assert!(refusal(&format!("{named}{fetched}")).contains("`component.lib.source` is fetched by Spin"));
    }

    #[test]
    fn a_dependency_may_be_a_component_inside_a_trigger() {
        let worker = "component = { source = \"worker.wasm\" }";
        let named = SHOP
            .replace("component = { source = \"worker.wasm\", key_value_stores = [\"default\"] }", worker)
            .replace("{ path = \"lib/dep.wasm\" }", "{ component = \"redis-trigger1-component\" }");
        let app = parse(named.as_bytes()).unwrap();
        assert_eq!(app.components[0].isolated, ["/worker.wasm"]);
        let other = named.replace("redis-trigger1-component", "trigger.redis[0].component");
        assert!(refusal(&other).contains("which is no table"));
    }

    #[test]
    fn a_trigger_without_a_component_may_start_one_that_is_written_in_a_later_trigger() {
        let nameless = SHOP.replacen("component = \"web\"", "", 1);
        let app = parse(nameless.as_bytes()).unwrap();
        assert!(app.components.iter().all(|component| component.triggers.contains("http")));
    }

    /// Spin keeps an id that version 2 takes, and mends two others.
    #[test]
    fn an_id_of_version_1_is_written_as_in_version_2() {
        for (written, id) in
            [("api", "api"), ("API-v2", "API-v2"), ("my_Api", "my-api"), ("orderApi", "orderapi")]
        {
            let text = format!(
                "spin_manifest_version = \"1\"\nname = \"a\"\ntrigger = {{ type = \"http\" }}\n[[component]]\nid = \"{written}\"\n\
                 source = \"c.wasm\"\n[component.trigger]\nroute = \"/\"\n"
            );
            assert_eq!(parse(text.as_bytes()).unwrap().components[0].id, id);
        }
    }

    #[test]
    fn version_1_reaches_every_database_unless_it_lists_its_hosts() {
        let text = r#"
            spin_version = "1"
            name = "old"
            trigger = { type = "http", base = "/" }
            [[component]]
            id = "a"
            source = "a.wasm"
            allowed_http_hosts = ["insecure:allow-all"]
            [component.trigger]
            route = "/..."
            [[component]]
            id = "b"
            source = "b.wasm"
            allowed_outbound_hosts = ["https://example.com"]
            [component.trigger]
            route = "/b""#;
        let app = parse(text.as_bytes()).unwrap();
        assert_eq!(
            app.components[0].allowed_outbound_hosts,
            ["redis://*:*", "mysql://*:*", "postgres://*:*", "*://*:*"]
        );
        assert_eq!(app.components[1].allowed_outbound_hosts, ["https://example.com"]);
    }

    #[test]
    fn unknown_keys_and_what_is_fetched_later_are_refused() {
        for (from, to, expected) in [
            ("ai_models", "gpu_devices", "`gpu_devices`"),
            (
                "source = \"web.wasm\"",
                "source = { url = \"https://x\", digest = \"sha256:1\" }",
                "`component.web.source` is fetched by Spin",
            ),
            (
                "{ path = \"lib/dep.wasm\" }",
                "\"1.0\"",
                "`component.web.dependencies.a:b/c` is fetched by Spin",
            ),
            ("spin_manifest_version = 2", "spin_manifest_version = 3", "only 1 and 2"),
            (
                "channel = \"orders\"",
                "components = { x = \"web\" }",
                "`trigger.redis[0].components` is reserved by Spin",
            ),
            (
                "channel = \"orders\"",
                "dependencies = { x = [\"web\"] }",
                "`trigger.redis[0].dependencies` is middleware",
            ),
            (
                "{ path = \"lib/dep.wasm\" }",
                "{ component = \"none\" }",
                "names the component `none`, which is no table",
            ),
            (
                "{ path = \"lib/dep.wasm\" }",
                "{ component = \"web\" }",
                "`ai_models` of its own: Spin 3.6.3 does not",
            ),
            (
                "{ path = \"lib/dep.wasm\" }",
                "{ component = \"web\", path = \"a.wasm\" }",
                "a component and something else",
            ),
            ("web.wasm", "l/../web.wasm", "`component.web.source` is `l/../web.wasm`, which goes up"),
            ("lib/dep.wasm", "lib/../dep.wasm", "which goes up"),
            ("source = \"static\"", "source = \"l/../proc\"", "which goes up"),
            ("assets/**", "assets/../**", "which goes up"),
            ("[application]", "[application", "table"),
            ("name = \"shop\"", "", "`application.name` is missing"),
        ] {
            let message = refusal(&SHOP.replacen(from, to, 1));
            assert!(message.contains(expected), "{to}: {message}");
        }
        assert!(parse(b"\xff").is_err());
        assert!(refusal("").contains("`spin_version` is missing"));
    }
}
