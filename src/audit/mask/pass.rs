//! Masks a JSON text in one pass, without a tree of it: each part is kept, replaced or left out as it comes, and the way to it says which.
//! What stands between two parts that are not kept is copied in one piece.
//!
//! A member that stands twice in an object is written twice, and masked each time.

use std::ops::Range;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::place::{Place, Token};
use super::trail::Trail;
use super::{APPLIED_MANIFESTS, DATA, MaskReport, Masks};
use crate::audit::json::{Kind, Reader, Unreadable, without_blanks};
use crate::audit::secrets::{Hider, REDACTED, Secrets, Shown};
use crate::policy::Violation;

/// Most levels of a document. Readers of JSON commonly take 128, and a record has the document some levels down.
const MOST_DEPTH: usize = 120;

/// Most copies of the manifest within each other in which values are looked for. kubectl makes one.
const MOST_COPIES: usize = 4;

/// Most bytes of the pointers of one record. A key may be as long as the document, and is in each pointer below it.
const MOST_LISTED: usize = 64 << 10;

/// Masks the documents of one record.
#[derive(Debug)]
pub struct Masking<'a> {
    masks: &'a Masks,
    pub(super) keeps_secrets: bool,
    /// Bytes of the pointers that were listed.
    pub(super) listed: usize,
    /// What was masked.
    pub report: MaskReport,
    /// The values that were masked, for texts that quote them.
    pub secrets: Secrets,
}

impl<'a> Masking<'a> {
    /// Nothing is masked yet.
    pub fn new(masks: &'a Masks) -> Self {
        Self {
            masks,
            keeps_secrets: true,
            listed: 0,
            report: MaskReport::default(),
            secrets: Secrets::default(),
        }
    }

    /// Nothing is masked yet, in a record without a text that could quote a value: the values are not kept.
    pub fn without_texts(masks: &'a Masks) -> Self {
        Self { keeps_secrets: false, ..Self::new(masks) }
    }

    /// An object's JSON, masked; `at` is the object's own pointer in the record. What readers of JSON do not take (nested too deep, a number that
    /// no float can hold) is erased whole: it is `null` then.
    pub fn object(&mut self, json: &RawValue, at: &str) -> String {
        let mut masked = String::with_capacity(json.get().len());
        self.write_object(json, at, None, &mut masked);
        masked
    }

    /// Writes an object's JSON, masked, at the end of a text. Where one value of the object begins and ends may be known, so that it is
    /// not looked for if it is left out.
    pub fn write_object(&mut self, json: &RawValue, at: &str, known: Option<Range<usize>>, to: &mut String) {
        self.write(Reader::knowing(json.get(), known), at, (Within::Plain, 1), (to, None));
    }

    /// What is kept of an object; `None` where that and placeholders are not all that becomes of it.
    pub(super) fn trail(&mut self, json: &str, at: &str) -> Option<Trail> {
        let (mut trail, mut masked) = (Trail::default(), String::with_capacity(json.len()));
        let to = (&mut masked, Some(&mut trail));
        self.write(Reader::new(json), at, (Within::Plain, 1), to).then_some(trail)
    }

    /// The JSON of the document that rules read, masked, which holds the object under `object`. The platform's own options stay.
    pub fn policy_input(&mut self, json: &RawValue, at: &str) -> String {
        let mut masked = String::with_capacity(json.get().len());
        if Reader::new(json.get()).kind() == Ok(Kind::Object) {
            self.write(Reader::new(json.get()), at, (Within::PolicyInput, 2), (&mut masked, None));
        } else {
            self.report.erased.push(at.to_owned());
            masked.push_str("null");
        }
        masked
    }

    /// Whether the document is as it was, but for what was masked.
    fn write(
        &mut self,
        mut reader: Reader<'_>,
        at: &str,
        (within, data_at): (Within, usize),
        (to, trail): (&mut String, Option<&mut Trail>),
    ) -> bool {
        let (start, erased, masked) = (to.len(), self.report.erased.len(), self.report.masked.len());
        let mut pass = Pass {
            masks: self.masks,
            keeps_secrets: self.keeps_secrets,
            report: &mut self.report,
            secrets: &mut self.secrets,
            listed: &mut self.listed,
            to: &mut *to,
            trail,
            data_at,
            copies: 0,
        };
        let is_read = pass.value(&mut reader, within, &Place::of(at)).and_then(|()| pass.rest(&mut reader));
        let (is_read, has_blanks) = (is_read.is_ok(), reader.has_blanks());
        if is_read {
            if has_blanks {
                let dense = without_blanks(to.get(start..).unwrap_or_default());
                to.truncate(start);
                to.push_str(&dense);
            }
        } else {
            to.truncate(start);
            to.push_str("null");
            self.report.erased.truncate(erased);
            self.report.masked.truncate(masked);
            self.report.erased.push(at.to_owned());
            // What stands behind the place was not looked at, and a text may quote it.
            if self.keeps_secrets {
                self.secrets.give_up();
            }
        }
        is_read && !has_blanks
    }
}

/// What takes the masked values of an object out of texts about it, of which rules found these violations.
pub fn hider_of<'v>(masks: &Masks, object: &Value, found: impl Iterator<Item = &'v Violation>) -> Hider {
    let mut masking = Masking::new(masks);
    // A value always has a text.
    let text = to_raw_value(object).unwrap_or_default();
    let shown = masking.object(&text, "");
    masking.secrets.hider_of(found, &[Shown::Json(&shown)])
}

/// What an object or a list is, as far as it matters for what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Anything: the names of its members say what those are.
    Plain,
    /// The platform's own: nothing in it is masked.
    Kept,
    /// The document that rules read.
    PolicyInput,
    Metadata,
    /// Annotations: copies of the manifest go, and what the platform lists.
    Annotations,
    /// What a probe or a hook runs (`k8s.io/api:core/v1/types.go`, `ExecAction`). The program's name stays.
    Exec,
    /// The program and its arguments.
    Words,
    /// `CSIVolumeSource` of the same file.
    Csi,
    /// `FlexVolumeSource` of the same file.
    FlexVolume,
    GitRepo,
    /// A list of variables in one of its three forms: `[{name, value}]`, `["NAME=value"]`, `{NAME: value}`. The first is that of
    /// Kubernetes; the others occur in custom resources and by mistake.
    Variables,
    /// An item of the first form.
    Variable,
    /// A list of names and values of a custom resource. Other members stay, since lists with this name may hold other things.
    AppVariables,
    AppVariable,
    /// The runtime configuration of a `SpinApp`: the options of its stores, databases and model service
    /// (`spin-operator:api/v1alpha1/spinapp_types.go`, `RuntimeConfigOption`).
    RuntimeConfig,
}

/// What happens to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Walk(Within),
    /// [`REDACTED`] takes its place.
    Redact,
    /// [`REDACTED`] takes its place, if the address has a user or a token in it.
    RedactLogin,
    /// It is left out, and is a secret.
    Erase,
    /// It is left out: a copy of the manifest, which is a secret, and in which each value is one besides.
    EraseCopy,
    /// It is left out as noise.
    Drop,
}

impl Within {
    /// What the member `key` of any object is, by its name and form.
    fn named(key: &str, kind: Kind) -> Self {
        match (key, kind) {
            ("variables", Kind::Array) => Self::AppVariables,
            ("runtimeConfig", Kind::Object) => Self::RuntimeConfig,
            ("env" | "httpHeaders", Kind::Array | Kind::Object) => Self::Variables,
            ("metadata", Kind::Object) => Self::Metadata,
            ("annotations", Kind::Object) => Self::Annotations,
            ("exec", Kind::Object) => Self::Exec,
            ("csi", Kind::Object) => Self::Csi,
            ("flexVolume", Kind::Object) => Self::FlexVolume,
            ("gitRepo", Kind::Object) => Self::GitRepo,
            _ => Self::Plain,
        }
    }

    /// What happens to the member `key` of an object that is this.
    fn member(self, key: &str, kind: Kind, masks: &Masks) -> Step {
        let is_list = matches!(kind, Kind::Array | Kind::Object);
        match (self, key) {
            (Self::Kept, _) | (Self::PolicyInput, "options") => Step::Walk(Self::Kept),
            (Self::Variables, _) | (Self::AppVariable, "value") => Step::Redact,
            (Self::Variable, key) if !matches!(key, "name" | "valueFrom") => Step::Redact,
            (Self::Variable, _) => Step::Walk(Self::Plain),
            (Self::RuntimeConfig, "options") if is_list => Step::Walk(Self::Variables),
            (Self::RuntimeConfig, _) => Step::Walk(Self::RuntimeConfig),
            (Self::Metadata, "managedFields") => Step::Drop,
            (Self::Annotations, key) if APPLIED_MANIFESTS.contains(&key) => Step::EraseCopy,
            (Self::Annotations, key) if masks.has(key) => Step::Erase,
            (Self::Exec, "command") if kind == Kind::Array => Step::Walk(Self::Words),
            (Self::Csi, "volumeAttributes") | (Self::FlexVolume, "options") if is_list => {
                Step::Walk(Self::Variables)
            }
            (Self::GitRepo, "repository") => {
                if kind == Kind::Text {
                    Step::RedactLogin
                } else {
                    Step::Redact
                }
            }
            _ => Step::Walk(Self::named(key, kind)),
        }
    }

    /// What happens to an item of a list that is this.
    const fn item(self, index: usize, kind: Kind) -> Step {
        match (self, kind) {
            (Self::Variables, Kind::Object) => Step::Walk(Self::Variable),
            (Self::Variables, _) => Step::Redact,
            (Self::AppVariables, Kind::Object) => Step::Walk(Self::AppVariable),
            (Self::Words, _) if index > 0 => Step::Redact,
            (Self::Kept | Self::RuntimeConfig, _) => Step::Walk(self),
            _ => Step::Walk(Self::Plain),
        }
    }
}

/// One pass over a document, or over a copy of the manifest in it.
struct Pass<'m> {
    masks: &'m Masks,
    keeps_secrets: bool,
    report: &'m mut MaskReport,
    secrets: &'m mut Secrets,
    listed: &'m mut usize,
    to: &'m mut String,
    /// Where it is noted what is kept, if that is asked for.
    trail: Option<&'m mut Trail>,
    /// How deep the members of the object are among which [`DATA`] is erased.
    data_at: usize,
    /// In how many copies of the manifest this is.
    copies: usize,
}

impl Pass<'_> {
    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        within: Within,
        place: &Place<'_>,
    ) -> Result<(), Unreadable> {
        match reader.kind()? {
            Kind::Object | Kind::Array if place.depth >= MOST_DEPTH => Err(Unreadable),
            Kind::Object => self.object(reader, within, place),
            Kind::Array => self.array(reader, within, place),
            kind @ (Kind::Text | Kind::Other) => reader.scalar(kind),
        }
    }

    /// Copies what was kept since the last part that was not.
    fn rest(&mut self, reader: &mut Reader<'_>) -> Result<(), Unreadable> {
        let end = reader.at();
        self.keep(reader, end)
    }

    /// The same up to this place.
    fn keep(&mut self, reader: &mut Reader<'_>, end: usize) -> Result<(), Unreadable> {
        if let Some(trail) = &mut self.trail {
            trail.keep(reader.start()..end);
        }
        self.to.push_str(reader.until(end)?);
        Ok(())
    }

    fn object(
        &mut self,
        reader: &mut Reader<'_>,
        within: Within,
        place: &Place<'_>,
    ) -> Result<(), Unreadable> {
        reader.enter();
        if within == Within::Plain && place.depth + 1 != self.data_at {
            return self.plain_object(reader, place);
        }
        let (mut is_empty, mut lacks_members) = (true, false);
        loop {
            let before = reader.at();
            let Some(key) = reader.key()? else { return Ok(()) };
            let kind = reader.kind()?;
            let name = key.said()?;
            let inner = place.inner(Token::Key(&name));
            let step = match within {
                Within::Kept => Step::Walk(within),
                _ if inner.depth == self.data_at && DATA.contains(&&*name) => Step::Erase,
                _ => within.member(&name, kind, self.masks),
            };
            if matches!(step, Step::Erase | Step::EraseCopy | Step::Drop) {
                self.keep(reader, before)?;
                self.erase(step, reader.skip()?, &inner);
                reader.go_on_from(reader.at());
                lacks_members = true;
                continue;
            }
            // The first member that is kept has no comma before it.
            if std::mem::take(&mut is_empty) && lacks_members {
                reader.go_on_from(key.at);
            }
            self.write(reader, step, &inner)?;
        }
    }

    /// Most objects. Nothing that is no list is anything by its name alone, and nothing is left out.
    fn plain_object(&mut self, reader: &mut Reader<'_>, place: &Place<'_>) -> Result<(), Unreadable> {
        while let Some((key, kind)) = reader.key_of_list()? {
            let name = key.said()?;
            self.value(reader, Within::named(&name, kind), &place.inner(Token::Key(&name)))?;
        }
        Ok(())
    }

    fn array(
        &mut self,
        reader: &mut Reader<'_>,
        within: Within,
        place: &Place<'_>,
    ) -> Result<(), Unreadable> {
        reader.enter();
        let mut index = 0;
        while reader.item()? {
            let kind = reader.kind()?;
            if within == Within::Plain && !kind.is_list() {
                reader.scalar(kind)?;
            } else {
                self.write(reader, within.item(index, kind), &place.inner(Token::Index(index)))?;
            }
            index += 1;
        }
        Ok(())
    }

    /// Writes what becomes of the value that comes next, which is not left out.
    fn write(&mut self, reader: &mut Reader<'_>, step: Step, place: &Place<'_>) -> Result<(), Unreadable> {
        match step {
            Step::Walk(within) => self.value(reader, within, place),
            Step::RedactLogin => {
                let address = reader.text()?;
                if address.said()?.contains('@') {
                    return self.redact(reader, (address.at, address.raw()?), place);
                }
                Ok(())
            }
            Step::Redact | Step::Erase | Step::EraseCopy | Step::Drop => {
                // The value begins after white space, if there is any.
                reader.kind()?;
                let start = reader.at();
                let secret = reader.skip()?;
                self.redact(reader, (start, secret), place)
            }
        }
    }

    /// Replaces the value that was read last.
    fn redact(
        &mut self,
        reader: &mut Reader<'_>,
        (start, secret): (usize, &str),
        place: &Place<'_>,
    ) -> Result<(), Unreadable> {
        if self.keeps_secrets {
            self.secrets.take_json(secret);
        }
        self.keep(reader, start)?;
        if let Some(trail) = &mut self.trail {
            trail.redact();
        }
        reader.go_on_from(reader.at());
        self.to.push('"');
        self.to.push_str(REDACTED);
        self.to.push('"');
        let at = self.listed(place);
        self.report.masked.extend(at);
        Ok(())
    }

    fn erase(&mut self, step: Step, secret: &str, place: &Place<'_>) {
        if self.keeps_secrets && step != Step::Drop {
            self.secrets.take_json(secret);
        }
        if self.keeps_secrets && step == Step::EraseCopy {
            self.copy(secret);
        }
        let at = self.listed(place);
        self.report.erased.extend(at);
    }

    /// The pointer to list; that of the whole document, once, where too much is listed already.
    fn listed(&mut self, place: &Place<'_>) -> Option<String> {
        if *self.listed >= MOST_LISTED {
            return None;
        }
        *self.listed = self.listed.saturating_add(place.length());
        Some(if *self.listed < MOST_LISTED { place.pointer() } else { place.document().to_owned() })
    }

    /// Takes the values of a copy of the manifest, which may be older than those that stand in the object. They are not listed.
    fn copy(&mut self, written: &str) {
        let Ok(text) = serde_json::from_str::<String>(written) else { return };
        let Ok(copy) = serde_json::from_str::<&RawValue>(&text) else { return };
        if self.copies == MOST_COPIES {
            return self.secrets.give_up();
        }
        // No pointer is made of what is not listed.
        let (mut report, mut to, mut listed) = (MaskReport::default(), String::new(), MOST_LISTED);
        let mut inner = Pass {
            masks: self.masks,
            keeps_secrets: true,
            report: &mut report,
            secrets: &mut *self.secrets,
            listed: &mut listed,
            to: &mut to,
            trail: None,
            data_at: 0,
            copies: self.copies + 1,
        };
        let is_read = inner.value(&mut Reader::new(copy.get()), Within::Plain, &Place::of("")).is_ok();
        if !is_read {
            self.secrets.give_up();
        }
    }
}
