//! The triggers of a manifest of version 2, and the ids of the components that are written inside them. Spin gives these before it reads
//! the manifest further (`spin:crates/manifest/src/normalize.rs`, `normalize_trigger_ids` and `normalize_inline_components`, which are the
//! same from v2.0.0 to v4.0.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::at::At;
use super::{TriggerIds, check_count, check_id, trigger_type};
use crate::image::malformed::Malformed;

/// The components of a manifest by their ids, as they are written.
pub(super) type Listed<'a> = BTreeMap<String, At<'a>>;

/// A trigger and what it starts.
pub(super) struct Trigger<'a> {
    pub kind: &'a str,
    pub at: At<'a>,
    /// The id of its component; `None` if it names none, and may start any.
    pub starts: Option<String>,
    /// Its component, if that is written inside it.
    pub inline: Option<At<'a>>,
}

/// Reads the triggers with their types, and adds the components inside them to the others. A type may have no trigger.
pub(super) fn read<'a>(
    root: &At<'a>,
    listed: &mut Listed<'a>,
) -> Result<(BTreeSet<String>, Vec<Trigger<'a>>), Malformed> {
    let (mut types, mut triggers, mut ids) = (BTreeSet::new(), Vec::new(), TriggerIds::default());
    for (kind, all) in root.members_of("trigger")? {
        types.insert(trigger_type(kind, &types)?);
        for at in all.list()? {
            // An empty one is made anew, and of what Spin makes none is that of another trigger.
            ids.add(at.get("id")?.filter(|id| id.value.as_str() != Some("")))?;
            triggers.push(Trigger::new(kind, at)?);
        }
    }
    if triggers.iter().any(|trigger| trigger.inline.is_some()) {
        name_inline(&mut triggers, ids, &types, listed)?;
    }
    Ok((types, triggers))
}

impl<'a> Trigger<'a> {
    fn new(kind: &'a str, at: At<'a>) -> Result<Self, Malformed> {
        check_keys(&at)?;
        let (starts, inline) = match at.get("component")? {
            Some(inside) if inside.value.is_object() => (None, Some(inside)),
            Some(named) => (Some(named.text()?), None),
            None => (None, None),
        };
        Ok(Self { kind, at, starts, inline })
    }

    /// The id that is written in it.
    fn id(&self) -> Option<&'a str> {
        self.at.value.get("id").and_then(Value::as_str).filter(|id| !id.is_empty())
    }
}

/// Keys of a trigger of which it is not known what they start: the first is reserved (`spin:crates/manifest/src/schema/v2.rs`,
/// `Trigger`, tag v3.6.3), and the second is middleware of Spin 4.
fn check_keys(trigger: &At<'_>) -> Result<(), Malformed> {
    for (key, what) in [
        (
            "components",
            "is reserved by Spin, and it is not known what it starts; name one `component` for each trigger",
        ),
        (
            "dependencies",
            "is middleware, which Spin 3.6.3 does not have, and which is not read from a manifest; push the application with \
             `spin registry push`",
        ),
    ] {
        if let Some(found) = trigger.get(key)?.filter(|found| found.value != &Value::Object(Map::new())) {
            return Err(found.wrong(what));
        }
    }
    Ok(())
}

/// Gives each component inside a trigger its id. Spin takes the types of triggers in the order of the document, which is not kept here:
/// where that decides, as it may where an id is taken, the id is not known.
fn name_inline<'a>(
    triggers: &mut [Trigger<'a>],
    written: TriggerIds,
    types: &BTreeSet<String>,
    listed: &mut Listed<'a>,
) -> Result<(), Malformed> {
    let several = types.len() > 1;
    // An id that Spin makes of the name of a component and such a type may be the same as one of another type.
    let dashed = several && types.iter().any(|kind| kind.contains('-'));
    let ids = ids(triggers, written);
    for (trigger, id) in triggers.iter_mut().zip(ids) {
        let Some(inline) = trigger.inline.clone() else { continue };
        check_count(listed.len())?;
        let natural = format!("{id}-component");
        let is_free = is_kebab(&natural) && !listed.contains_key(&natural);
        let name = match (is_free, several) {
            (true, _) if !dashed => natural,
            (_, false) => counted(listed),
            (_, true) => {
                return Err(inline.wrong(
                    "is a component inside a trigger, whose id Spin makes from the order of the triggers, which is not known here; write it \
                     as a table `component` of its own, and name that",
                ));
            }
        };
        check_id(&inline, &name)?;
        listed.insert(name.clone(), inline);
        trigger.starts = Some(name);
    }
    Ok(())
}

/// The ids of triggers: those that are written, or else those that Spin makes.
fn ids(triggers: &[Trigger<'_>], TriggerIds(mut taken): TriggerIds) -> Vec<String> {
    let mut counters: HashMap<&str, usize> = HashMap::new();
    let mut ids = Vec::with_capacity(triggers.len());
    for trigger in triggers {
        ids.push(match trigger.id() {
            Some(id) => id.to_string(),
            None => made(trigger, &mut taken, counters.entry(trigger.kind).or_insert(1)),
        });
    }
    ids
}

/// An id that no other trigger has.
fn made(trigger: &Trigger<'_>, taken: &mut BTreeSet<String>, counter: &mut usize) -> String {
    let kind = trigger.kind;
    if let Some(component) = &trigger.starts {
        let natural = format!("{component}-{kind}-trigger");
        if taken.insert(natural.clone()) {
            return natural;
        }
    }
    loop {
        let id = format!("{kind}-trigger{counter}");
        if taken.insert(id.clone()) {
            return id;
        }
        *counter += 1;
    }
}

/// The id of a component that cannot have the one of its trigger.
fn counted(listed: &Listed<'_>) -> String {
    let mut counter = 1_usize;
    loop {
        let id = format!("inline-component{counter}");
        if !listed.contains_key(&id) {
            return id;
        }
        counter += 1;
    }
}

/// Whether Spin takes a text for the id of a component (`spin:crates/serde/src/id.rs`, `Id::try_from`): words of letters and digits with
/// `-` between them, each in one case and beginning with a letter.
pub(super) fn is_kebab(id: &str) -> bool {
    id.split('-').all(|word| {
        let lower = word.contains(|c: char| c.is_ascii_lowercase());
        let upper = word.contains(|c: char| c.is_ascii_uppercase());
        lower != upper
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::spin::manifest::parse;

    const INLINE: &str = "component = { source = \"a.wasm\" }";
    const NAMED: &str = "component = \"b\"";

    /// The ids of an application with these components in tables and these triggers, or why it is refused.
    fn ids_of(tables: &[&str], triggers: &[(&str, &str, &str)]) -> Result<Vec<String>, String> {
        let table = |id: &&str| format!("[component.{id}]\nsource = \"t.wasm\"\n");
        let trigger = |(kind, id, component): &(&str, &str, &str)| {
            let id = if id.is_empty() { String::new() } else { format!("id = \"{id}\"\n") };
            format!("[[trigger.{kind}]]\n{id}{component}\n")
        };
        let text = format!(
            "spin_manifest_version = 2\napplication.name = \"a\"\n{}{}",
            tables.iter().map(table).collect::<Vec<_>>().concat(),
            triggers.iter().map(trigger).collect::<Vec<_>>().concat()
        );
        let app = parse(text.as_bytes()).map_err(|malformed| malformed.0)?;
        Ok(app.components.into_iter().map(|component| component.id).collect())
    }

    #[test]
    fn a_component_inside_a_trigger_has_the_id_that_spin_makes() {
        let (http, redis) = ("http", "redis");
        let one = |id| (http, id, INLINE);
        for (tables, triggers, found) in [
            (&[][..], &[one("")][..], &["http-trigger1-component"][..]),
            (&[], &[one(""), one("")], &["http-trigger1-component", "http-trigger2-component"]),
            (&[], &[one("front"), one("")], &["front-component", "http-trigger1-component"]),
            (&[], &[one("http-trigger1"), one("")], &["http-trigger1-component", "http-trigger2-component"]),
            (&[], &[one(""), one("http-trigger1")], &["http-trigger2-component", "http-trigger1-component"]),
            // A trigger that names a component has an id from that name, but for a second one.
            (&["b"], &[(http, "", NAMED), one("")], &["b", "http-trigger1-component"]),
            (&["b"], &[(http, "", NAMED), (http, "", NAMED), one("")], &["b", "http-trigger2-component"]),
            (&[], &[one(""), (redis, "", INLINE)], &["http-trigger1-component", "redis-trigger1-component"]),
            // What is taken or is no id of a component is counted.
            (&["http-trigger1-component"], &[one("")], &["http-trigger1-component", "inline-component1"]),
            (&["inline-component1"], &[one("a_b")], &["inline-component1", "inline-component2"]),
        ] {
            assert_eq!(ids_of(tables, triggers).unwrap(), found, "{tables:?} {triggers:?}");
        }
    }

    #[test]
    fn an_id_on_which_the_order_of_types_decides_is_not_made() {
        for triggers in
            [[("http", "a_b", INLINE), ("redis", "", NAMED)], [("http", "", INLINE), ("x-http", "", NAMED)]]
        {
            let said = ids_of(&["b"], &triggers).unwrap_err();
            assert!(said.contains("write it as a table `component` of its own"), "{said}");
        }
        assert!(
            ids_of(&["b"], &[("http", "", NAMED), ("x-http", "", NAMED)]).is_ok(),
            "none is inside a trigger"
        );
    }

    #[test]
    fn two_triggers_of_a_manifest_do_not_have_one_id() {
        for second in ["http", "redis"] {
            let said = ids_of(&["b"], &[("http", "x", NAMED), (second, "x", NAMED)]).unwrap_err();
            assert!(said.contains("is the id of another trigger"), "{said}");
        }
        assert!(ids_of(&["b"], &[("http", "", NAMED), ("redis", "", NAMED)]).is_ok(), "Spin makes two");
    }

    #[test]
    fn components_inside_triggers_are_no_more_than_are_read() {
        let found = |count: usize| {
            let ids: Vec<String> = (0..count).map(|number| format!("a_{number}")).collect();
            let triggers: Vec<_> = ids.iter().map(|id| ("http", id.as_str(), INLINE)).collect();
            ids_of(&[], &triggers)
        };
        assert_eq!(found(128).unwrap().len(), 128);
        assert!(found(500).unwrap_err().contains("at most 128 are read"));
        let long = "x".repeat(250);
        let said = ids_of(&[], &[("http", long.as_str(), INLINE)]).unwrap_err();
        assert!(said.contains("is an id of 260 bytes"), "{said}");
    }

    #[test]
    fn an_id_is_of_words_in_one_case() {
        for id in ["a", "order-api", "API-v2", "a1-B2"] {
            assert!(is_kebab(id), "{id}");
        }
        for id in ["", "a--b", "-a", "a_b", "aB", "1a", "a b", "ä", "a.b"] {
            assert!(!is_kebab(id), "{id}");
        }
    }
}
