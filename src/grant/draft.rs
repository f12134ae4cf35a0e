//! A grant as a person would write it: YAML with a comment on each line that says why it is there.

use std::fmt::Write as _;

use serde_json::Value;

use super::cover::covers;
use super::suggest::{smallest_for, to_yaml};
use super::types::API_VERSION;
use crate::capability::{Capability, Entry, Parameter, WrittenHost};
use crate::text;

/// Most places that one comment lists; `explain` lists all of them.
const PLACES: usize = 4;

/// The comment above a grant of native code.
const NATIVE_CAUTION: &str = "native.exec: as trusted as a native program; grant it only to images that you trust like one \
                              (docs/capabilities.md)";

/// The grant for one workload.
#[derive(Debug, Clone)]
pub struct GrantDraft<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// The only service account that it is for.
    pub service_account: &'a str,
    /// Patterns of the images that it is for.
    pub images: &'a [String],
    /// The entries that it must cover.
    pub entries: &'a [Entry],
}

impl GrantDraft<'_> {
    /// The `WasiGrant`, one document without `---`.
    pub fn to_yaml(&self) -> String {
        let images: Vec<Value> = self.images.iter().map(|image| Value::from(image.as_str())).collect();
        let mut text = format!(
            "apiVersion: {API_VERSION}\nkind: WasiGrant\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  subjects:\n    \
             serviceAccounts: [{}]\n    # every tag and digest of the repository; write `name@sha256:…` for one build alone\n    \
             images: {}\n  capabilities:\n",
            scalar(self.name),
            scalar(self.namespace),
            scalar(self.service_account),
            text::flow_yaml(&Value::Array(images).to_string()),
        );
        let mut left: Vec<&Entry> = self.entries.iter().collect();
        for item in smallest_for(self.entries) {
            let (here, rest): (Vec<&Entry>, Vec<&Entry>) =
                left.into_iter().partition(|entry| covers(&item, entry));
            left = rest;
            for entry in here {
                // Writing to a string cannot fail, here and below.
                let _ = writeln!(text, "    # {}", why(entry));
            }
            if item.name == Capability::NativeExec {
                let _ = writeln!(text, "    # {NATIVE_CAUTION}");
            }
            let _ = writeln!(text, "    - {}", to_yaml(&item));
        }
        text
    }
}

/// What an entry reaches, and where that was found.
fn why(entry: &Entry) -> String {
    let port = entry.port.map(|port| format!("port {port}"));
    let host = entry.host.as_ref().map(WrittenHost::as_str);
    let parameters = [entry.path.as_deref(), host, entry.name.as_deref(), port.as_deref()];
    let parameters: Vec<&str> = parameters.into_iter().flatten().collect();
    let mut places = entry.evidence.iter().take(PLACES).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = entry.evidence.len().checked_sub(PLACES).filter(|more| *more > 0) {
        let _ = write!(places, "; and {more} more");
    }
    let any = match entry.capability {
        Capability::Env => "(any name)",
        Capability::Fs => "(any path)",
        capability if capability.parameters().contains(&Parameter::Hosts) => "(any host)",
        _ => "",
    };
    let parameters = if parameters.is_empty() { any } else { &parameters.join(" ") };
    let subject = format!("{} {parameters}", entry.capability.as_str());
    // A comment ends with its line, and evidence is foreign.
    text::visible(&format!("{}: {places}", subject.trim_end())).into_owned()
}

/// A name as it is, or quoted if the API server would refuse it.
pub fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain { text.to_string() } else { text::flow_yaml(&Value::from(text).to_string()).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Access;
    use crate::grant::WasiGrant;
    use proptest::prelude::*;

    fn yaml(entries: &[Entry]) -> String {
        let images = ["ghcr.io/org/app".to_string()];
        GrantDraft { name: "app", namespace: "shop", service_account: "default", images: &images, entries }
            .to_yaml()
    }

    #[test]
    fn every_line_has_its_reason() {
        let text = yaml(&[
            Entry::new(Capability::Fs, "volumeMount /data (emptyDir data)")
                .at_path("/data", Access::ReadWrite),
            Entry::new(Capability::Fs, "volumeMount /logs (emptyDir logs)")
                .at_path("/logs", Access::ReadWrite),
            Entry::new(Capability::NetListen, "import wasi:sockets/tcp@0.2.0"),
        ]);
        let (_, capabilities) = text.split_once("  capabilities:\n").unwrap();
        assert_eq!(
            capabilities,
            "    # fs /data: volumeMount /data (emptyDir data)\n    # fs /logs: volumeMount /logs (emptyDir logs)\n    \
             - { name: fs, paths: [\"/data\",\"/logs\"], access: read-write }\n    \
             # net.listen: import wasi:sockets/tcp@0.2.0\n    - { name: net.listen }\n"
        );
    }

    proptest! {
        #[test]
        fn no_text_can_leave_its_comment_or_its_value(text in any::<String>(), name in any::<String>()) {
            let entry = Entry { evidence: vec![text.clone(), format!("a\n- b{text}")], ..Entry::new(Capability::Env, "") }.named(&name);
            let images = [format!("x{text}")];
            let draft = GrantDraft { name: "app", namespace: "shop", service_account: &format!("s{text}"), images: &images, entries: std::slice::from_ref(&entry) };
            // Read without the checks: no image has such a name.
            let read: Vec<WasiGrant> = serde_saphyr::from_multiple(&draft.to_yaml()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].spec.capabilities.len(), 1);
            prop_assert!(covers(&read[0].spec.capabilities[0], &entry));
            prop_assert_eq!(&read[0].spec.subjects.as_ref().unwrap().images[..], &images[..]);
        }
    }
}
