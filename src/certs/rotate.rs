//! Rotation of a set of certificates that several servers share, one step at a time.
//!
//! A new CA is published beside the old one. One overlap later the serving certificate is issued from it, and
//! one more overlap later the old CA is dropped. The certificates themselves show when each step was done, so
//! no other state is needed, and the next writer continues where the last one stopped.
//!
//! | state | bundle (`ca.crt`) | signs (`ca.key`) | `next-ca.key` | issuer of the serving certificate |
//! |---|---|---|---|---|
//! | steady | A | A | – | A |
//! | begun | B, A | A | B | A |
//! | switched | B, A | B | – | B |
//! | steady again | B | B | – | B |

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;

use super::Error;
use super::issue::{self, CLOCK_SKEW, covers, trusted};
use super::pem::Texts;

/// Key of the CAs that clients should trust, newest first, in PEM.
pub const CA_CERTIFICATES: &str = "ca.crt";
/// Key of the private key of the signing CA.
pub const CA_KEY: &str = "ca.key";
/// Key of the private key of the CA that will sign after the overlap.
pub const NEXT_CA_KEY: &str = "next-ca.key";
/// Key of the serving certificate, followed by its CA's.
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the serving certificate's private key.
pub const KEY: &str = "tls.key";

/// Most CAs in a bundle; wasmgate never makes one with more.
const MAX_CAS: usize = 4;

/// Data of a Secret: key → bytes.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Names and lifetimes. Certificates are replaced after two thirds of their lifetimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Names and addresses of the serving certificate.
    pub names: Vec<String>,
    /// Lifetime of a serving certificate.
    pub leaf: Duration,
    /// Lifetime of a CA.
    pub ca: Duration,
    /// How long a new CA is published before it is used, and an old CA after its last use.
    pub overlap: Duration,
}

/// The next step of rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Do nothing.
    Keep,
    /// Issue a new serving certificate from the same CA.
    IssueLeaf(&'static str),
    /// Publish a new CA beside the old one, without using it yet.
    BeginCa(&'static str),
    /// Issue a serving certificate from the new CA, which becomes the signing one.
    SwitchLeaf,
    /// Remove CAs that do not sign any more from the bundle.
    DropOld,
    /// Nothing is usable: make a new CA and a serving certificate at once.
    StartOver(&'static str),
}

impl Step {
    /// Name of the step in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::IssueLeaf(_) => "issue-leaf",
            Self::BeginCa(_) => "begin-ca",
            Self::SwitchLeaf => "switch-leaf",
            Self::DropOld => "drop-old",
            Self::StartOver(_) => "start-over",
        }
    }

    /// Reason for the step, in words.
    pub const fn because(self) -> &'static str {
        match self {
            Self::Keep => "nothing is due",
            Self::IssueLeaf(because) | Self::BeginCa(because) | Self::StartOver(because) => because,
            Self::SwitchLeaf => "the new CA was published for the whole overlap",
            Self::DropOld => "no replica serves a certificate of the old CA any more",
        }
    }
}

/// Validity of a certificate.
#[derive(Debug, Clone, Copy)]
struct Span {
    made: SystemTime,
    ends: SystemTime,
}

impl Span {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        // Certificates have whole seconds; rounding up never shortens an overlap.
        let made = instant(validity.not_before.timestamp()) + CLOCK_SKEW + Duration::from_secs(1);
        Self { made, ends: instant(validity.not_after.timestamp()) }
    }

    /// Whether two thirds of the lifetime have passed.
    fn is_due(&self, now: SystemTime) -> bool {
        let lifetime = self.ends.duration_since(self.made).unwrap_or_default();
        now + lifetime / 3 >= self.ends
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        now < self.ends
    }
}

fn instant(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// A CA of the bundle.
#[derive(Debug, Clone)]
struct Ca {
    der: CertificateDer<'static>,
    span: Span,
    public_key: Vec<u8>,
}

/// A CA with its key.
#[derive(Debug, Clone)]
struct Signer {
    ca: Ca,
    key: String,
}

/// A serving certificate and its matching key.
#[derive(Debug)]
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    span: Span,
    /// The texts as read, since a key from elsewhere may have another form than ours.
    texts: (Vec<u8>, Vec<u8>),
}

/// The usable content of a Secret.
#[derive(Debug, Default)]
pub struct Holding {
    bundle: Vec<Ca>,
    signer: Option<Signer>,
    next: Option<Signer>,
    leaf: Option<Leaf>,
    problems: Vec<String>,
}

impl Holding {
    /// Parses the data of a Secret. Unusable parts are left out and reported by [`Holding::problems`].
    pub fn read(data: &Data) -> Self {
        let mut holding = Self::default();
        holding.bundle = holding.read_bundle(data);
        holding.signer = holding.read_signer(data, CA_KEY);
        holding.next = holding.read_signer(data, NEXT_CA_KEY);
        holding.leaf = holding.read_leaf(data);
        if holding.signer.is_none() && data.get(CA_KEY).is_none() && !data.is_empty() {
            holding.problems.push(format!("`{CA_KEY}` is missing"));
        }
        holding
    }

    /// Problems with the Secret, one per line; none if it is intact or empty.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The CAs that clients should trust, in PEM.
    pub fn bundle(&self) -> String {
        self.bundle.iter().map(|ca| pem(&ca.der)).collect()
    }

    /// When the signing CA expires, in seconds since 1970.
    pub fn ca_expires(&self) -> Option<i64> {
        let ends = self.signer.as_ref()?.ca.span.ends;
        i64::try_from(ends.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    }

    /// Whether it can be served: key and certificate match, and clients that trust the bundle accept them for all names.
    pub fn is_served_by(&self, names: &[String], now: SystemTime) -> bool {
        self.leaf_verifies(&self.ca_certs(), names, now)
    }

    /// Whether clients that trust the bundle accept the serving certificate, for any name: a replica
    /// whose settings are newer than the writer's must serve the existing certificate.
    pub fn can_be_served(&self, now: SystemTime) -> bool {
        self.leaf.as_ref().is_some_and(|leaf| trusted(&leaf.chain, &self.ca_certs(), now))
    }

    fn read_bundle(&mut self, data: &Data) -> Vec<Ca> {
        let Some(text) = data.get(CA_CERTIFICATES) else { return Vec::new() };
        let mut bundle = Vec::new();
        for block in CertificateDer::pem_slice_iter(text).take(MAX_CAS) {
            match block.ok().and_then(ca) {
                Some(ca) => bundle.push(ca),
                None => self.problems.push(format!("`{CA_CERTIFICATES}` has a non-CA certificate")),
            }
        }
        bundle
    }

    fn read_signer(&mut self, data: &Data, name: &str) -> Option<Signer> {
        let text = data.get(name)?;
        let key = std::str::from_utf8(text).ok().and_then(|text| Some((text, KeyPair::from_pem(text).ok()?)));
        let Some((text, key)) = key else {
            self.problems.push(format!("`{name}` holds no usable key"));
            return None;
        };
        let found = self.bundle.iter().find(|ca| ca.public_key == key.public_key_raw());
        let signer = found.map(|ca| Signer { ca: ca.clone(), key: text.to_owned() });
        if signer.is_none() {
            self.problems.push(format!("`{name}` belongs to no certificate of `{CA_CERTIFICATES}`"));
        }
        signer
    }

    fn read_leaf(&mut self, data: &Data) -> Option<Leaf> {
        let (cert, key) = (data.get(CERTIFICATE), data.get(KEY));
        if cert.is_none() && key.is_none() {
            return None;
        }
        let empty = Vec::new();
        let (cert, key) = (cert.unwrap_or(&empty), key.unwrap_or(&empty));
        let pair = match Texts::of(Path::new(CERTIFICATE), Path::new(KEY), cert, key).pair() {
            Ok(pair) => pair,
            Err(error) => {
                self.problems.push(error.to_string());
                return None;
            }
        };
        let der = pair.chain.first()?.clone();
        let span = x509_parser::parse_x509_certificate(&der).ok().map(|(_, found)| Span::of(&found))?;
        Some(Leaf { chain: pair.chain, span, texts: (cert.clone(), key.clone()) })
    }

    fn ca_certs(&self) -> Vec<CertificateDer<'static>> {
        self.bundle.iter().map(|ca| ca.der.clone()).collect()
    }

    fn leaf_verifies(&self, ca_certs: &[CertificateDer<'static>], names: &[String], now: SystemTime) -> bool {
        self.leaf.as_ref().is_some_and(|leaf| covers(&leaf.chain, ca_certs, names, now))
    }
}

fn ca(der: CertificateDer<'static>) -> Option<Ca> {
    let (_, found) = x509_parser::parse_x509_certificate(&der).ok()?;
    let (span, public_key) = (Span::of(&found), found.public_key().subject_public_key.data.to_vec());
    let may_sign = found.is_ca();
    may_sign.then_some(Ca { der, span, public_key })
}

// === the decision ===

impl Holding {
    /// The step that is due. `published` is the time since which every client is known to get this bundle. If that is not
    /// known (`None`), a CA is changed only when waiting would lead to an expired certificate.
    pub fn decide(&self, now: SystemTime, published: Option<SystemTime>, rotation: &Rotation) -> Step {
        let signer = self.signer.as_ref().filter(|signer| signer.ca.span.is_valid(now));
        let next = self.next.as_ref().filter(|next| next.ca.span.is_valid(now));
        let sound = self.leaf_verifies(&self.ca_certs(), &rotation.names, now);
        match (signer, next) {
            (None, None) if sound => Step::BeginCa("there is no usable key of the CA"),
            (None, None) => Step::StartOver("there is nothing that can be used"),
            (signer, Some(next)) => self.within_overlap(signer, next, sound, now, published, rotation),
            (Some(signer), None) => self.steady(signer, sound, now, published, rotation),
        }
    }

    fn within_overlap(
        &self,
        signer: Option<&Signer>,
        next: &Signer,
        sound: bool,
        now: SystemTime,
        published: Option<SystemTime>,
        rotation: &Rotation,
    ) -> Step {
        let leaf_ends = self.leaf.as_ref().map(|leaf| leaf.span.ends);
        let last = signer.map(|signer| signer.ca.span.ends).or(leaf_ends).unwrap_or(now);
        let late = now + rotation.overlap / 4 >= last || (signer.is_none() && !sound);
        if late || Self::is_over(next.ca.span.made, published, now, rotation) {
            return Step::SwitchLeaf;
        }
        signer.map_or(Step::Keep, |signer| self.leaf_step(signer, sound, now, rotation).unwrap_or(Step::Keep))
    }

    fn steady(
        &self,
        signer: &Signer,
        sound: bool,
        now: SystemTime,
        published: Option<SystemTime>,
        rotation: &Rotation,
    ) -> Step {
        if !sound {
            return Step::IssueLeaf("the serving certificate cannot be used");
        }
        if signer.ca.span.is_due(now) {
            return Step::BeginCa("two thirds of the CA's lifetime are over");
        }
        if let Some(step) = self.leaf_step(signer, sound, now, rotation) {
            return step;
        }
        let by_signer = self.leaf_verifies(std::slice::from_ref(&signer.ca.der), &rotation.names, now);
        let made = self.leaf.as_ref().map_or(now, |leaf| leaf.span.made);
        if !by_signer && Self::is_over(signer.ca.span.made, published, now, rotation) {
            return Step::IssueLeaf("the serving certificate is of another CA");
        }
        if by_signer && self.bundle.len() > 1 && now >= made + rotation.overlap {
            return Step::DropOld;
        }
        Step::Keep
    }

    /// The step for a serving certificate that is unusable, or that is due and would last longer if issued again.
    fn leaf_step(&self, signer: &Signer, sound: bool, now: SystemTime, rotation: &Rotation) -> Option<Step> {
        if !sound {
            return Some(Step::IssueLeaf("the serving certificate cannot be used"));
        }
        let leaf = self.leaf.as_ref()?;
        let longer = leaf_end(signer, now, rotation) > leaf.span.ends + Duration::from_secs(1);
        (leaf.span.is_due(now) && longer)
            .then_some(Step::IssueLeaf("two thirds of the serving certificate's lifetime are over"))
    }

    fn is_over(
        made: SystemTime,
        published: Option<SystemTime>,
        now: SystemTime,
        rotation: &Rotation,
    ) -> bool {
        now >= made + rotation.overlap && published.is_some_and(|since| now >= since + rotation.overlap)
    }
}

fn leaf_end(signer: &Signer, now: SystemTime, rotation: &Rotation) -> SystemTime {
    (now + rotation.leaf).min(signer.ca.span.ends)
}

// === carrying it out ===

impl Holding {
    /// Data of the Secret after a step; `None` if the step changes nothing.
    pub fn after(&self, step: Step, now: SystemTime, rotation: &Rotation) -> Result<Option<Data>, Error> {
        match (step, &self.signer, &self.next) {
            (Step::IssueLeaf(_), Some(signer), next) => {
                self.written(&self.bundle, signer, next.as_ref(), true, now, rotation).map(Some)
            }
            (Step::SwitchLeaf, _, Some(next)) => {
                self.written(&self.bundle, next, None, true, now, rotation).map(Some)
            }
            (Step::DropOld, Some(signer), next) => {
                let bundle = [signer.ca.clone()];
                self.written(&bundle, signer, next.as_ref(), false, now, rotation).map(Some)
            }
            (Step::BeginCa(_), ..) => self.begun(now, rotation).map(Some),
            (Step::StartOver(_), ..) => {
                let signer = new_signer(now, rotation)?;
                let bundle = self.bundle_with(&signer, now);
                self.written(&bundle, &signer, None, true, now, rotation).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The new CA, followed by the old ones that are still valid.
    fn bundle_with(&self, signer: &Signer, now: SystemTime) -> Vec<Ca> {
        let old = self.bundle.iter().filter(|ca| ca.span.is_valid(now)).cloned();
        [signer.ca.clone()].into_iter().chain(old.take(MAX_CAS - 1)).collect()
    }

    fn begun(&self, now: SystemTime, rotation: &Rotation) -> Result<Data, Error> {
        let next = new_signer(now, rotation)?;
        let bundle = self.bundle_with(&next, now);
        let mut data = self.kept_leaf();
        data.insert(
            CA_CERTIFICATES.into(),
            bundle.iter().map(|a| pem(&a.der)).collect::<String>().into_bytes(),
        );
        data.insert(NEXT_CA_KEY.into(), next.key.into_bytes());
        if let Some(signer) = &self.signer {
            data.insert(CA_KEY.into(), signer.key.clone().into_bytes());
        }
        Ok(data)
    }

    fn written(
        &self,
        bundle: &[Ca],
        signer: &Signer,
        next: Option<&Signer>,
        leaf: bool,
        now: SystemTime,
        rotation: &Rotation,
    ) -> Result<Data, Error> {
        let mut data = if leaf { new_leaf(signer, now, rotation)? } else { self.kept_leaf() };
        data.insert(
            CA_CERTIFICATES.into(),
            bundle.iter().map(|a| pem(&a.der)).collect::<String>().into_bytes(),
        );
        data.insert(CA_KEY.into(), signer.key.clone().into_bytes());
        if let Some(next) = next {
            data.insert(NEXT_CA_KEY.into(), next.key.clone().into_bytes());
        }
        Ok(data)
    }

    fn kept_leaf(&self) -> Data {
        let Some(leaf) = &self.leaf else { return Data::new() };
        let (cert, key) = leaf.texts.clone();
        Data::from([(CERTIFICATE.into(), cert), (KEY.into(), key)])
    }
}

fn new_signer(now: SystemTime, rotation: &Rotation) -> Result<Signer, Error> {
    // Each CA has a unique name, so that a verifier never has to try two keys for one name.
    let name = format!("wasmgate CA {}", uuid::Uuid::new_v4().simple());
    let (cert, key) = issue::ca(&name, now, rotation.ca)?;
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).ok().and_then(ca);
    let ca = der.ok_or(Error::Make(rcgen::Error::CouldNotParseCertificate))?;
    Ok(Signer { ca, key })
}

fn new_leaf(signer: &Signer, now: SystemTime, rotation: &Rotation) -> Result<Data, Error> {
    let ca = pem(&signer.ca.der);
    let until = leaf_end(signer, now, rotation);
    let (cert, key) = issue::serving(&rotation.names, &ca, &signer.key, now, until)?;
    let chain = (cert + &ca).into_bytes();
    Ok(Data::from([(CERTIFICATE.into(), chain), (KEY.into(), key.into_bytes())]))
}

/// PEM with line feeds (RFC 7468, section 2).
fn pem(der: &CertificateDer<'static>) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", &**der), lines)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn rotation() -> Rotation {
        Rotation {
            names: vec!["gate.system.svc".into(), "127.0.0.1".into()],
            leaf: 90 * DAY,
            ca: 730 * DAY,
            overlap: DAY,
        }
    }

    /// A moment on a whole second, so that sums come out even.
    fn start() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000)
    }

    /// The Secret after the step that is due.
    fn step(data: &Data, now: SystemTime, published: Option<SystemTime>) -> (Step, Data) {
        let holding = Holding::read(data);
        let step = holding.decide(now, published, &rotation());
        let after = holding.after(step, now, &rotation()).unwrap();
        (step, after.unwrap_or_else(|| data.clone()))
    }

    fn fresh() -> Data {
        step(&Data::new(), start(), None).1
    }

    fn ca_certs(data: &Data) -> usize {
        Holding::read(data).bundle.len()
    }

    #[test]
    fn an_empty_secret_is_filled_at_once_and_then_kept() {
        let (first, data) = step(&Data::new(), start(), None);
        assert!(matches!(first, Step::StartOver(_)));
        let keys: Vec<_> = data.keys().map(String::as_str).collect();
        assert_eq!(keys, [CA_CERTIFICATES, CA_KEY, CERTIFICATE, KEY]);
        let holding = Holding::read(&data);
        assert_eq!(holding.problems(), [""; 0]);
        assert!(holding.is_served_by(&rotation().names, start()));
        for days in [0, 1, 30, 59] {
            assert_eq!(step(&data, start() + days * DAY, None).0, Step::Keep, "day {days}");
        }
    }

    #[test]
    fn a_serving_certificate_is_renewed_after_two_thirds_by_the_same_ca() {
        let data = fresh();
        let (renewed, after) = step(&data, start() + 61 * DAY, None);
        assert!(matches!(renewed, Step::IssueLeaf(_)));
        assert_eq!(after[CA_CERTIFICATES], data[CA_CERTIFICATES]);
        assert_ne!(after[KEY], data[KEY]);
        assert_eq!(step(&after, start() + 62 * DAY, None).0, Step::Keep);
    }

    #[test]
    fn another_name_is_another_certificate_and_not_another_ca() {
        let data = fresh();
        let more = Rotation { names: vec!["other.system.svc".into()], ..rotation() };
        assert!(matches!(Holding::read(&data).decide(start(), None, &more), Step::IssueLeaf(_)));
    }

    #[test]
    fn a_ca_is_published_used_and_dropped_one_overlap_after_the_other() {
        let mut now = start() + 500 * DAY;
        let (_, data) = step(&fresh(), now - DAY, None);
        let (begun, data) = step(&data, now, None);
        assert!(matches!(begun, Step::BeginCa(_)));
        assert_eq!((ca_certs(&data), data.contains_key(NEXT_CA_KEY)), (2, true));
        let published = Some(now + DAY / 2);
        now += DAY + DAY / 4;
        assert_eq!(step(&data, now, published).0, Step::Keep, "made, but not published for long enough");
        now += DAY / 2;
        assert_eq!(step(&data, now, None).0, Step::Keep, "it is not known to be published");
        let (switched, data) = step(&data, now, published);
        assert_eq!((switched, ca_certs(&data)), (Step::SwitchLeaf, 2));
        assert!(!data.contains_key(NEXT_CA_KEY));
        assert_eq!(step(&data, now + DAY / 2, published).0, Step::Keep);
        let (dropped, data) = step(&data, now + DAY + Duration::from_secs(2), published);
        assert_eq!((dropped, ca_certs(&data)), (Step::DropOld, 1));
        assert!(Holding::read(&data).is_served_by(&rotation().names, now + DAY));
        assert_eq!(step(&data, now + 2 * DAY, published).0, Step::Keep);
    }

    #[test]
    fn a_ca_that_cannot_be_published_is_changed_before_everything_expires() {
        let now = start() + 500 * DAY;
        let (_, data) = step(&fresh(), now - DAY, None);
        let (_, data) = step(&data, now, None);
        assert_ne!(step(&data, start() + 729 * DAY, None).0, Step::SwitchLeaf);
        assert_eq!(step(&data, start() + 730 * DAY - DAY / 8, None).0, Step::SwitchLeaf);
    }

    #[test]
    fn a_lost_key_of_the_ca_begins_a_rotation_and_changes_nothing_that_is_served() {
        for spoil in [
            None,
            Some(b"nonsense".to_vec()),
            Some(KeyPair::generate().unwrap().serialize_pem().into_bytes()),
        ] {
            let mut data = fresh();
            let old = data.clone();
            data.remove(CA_KEY);
            data.extend(spoil.map(|key| (CA_KEY.to_string(), key)));
            assert_eq!(Holding::read(&data).problems().len(), 1);
            let (begun, after) = step(&data, start(), None);
            assert!(matches!(begun, Step::BeginCa(_)), "{begun:?}");
            assert_eq!((&after[CERTIFICATE], &after[KEY]), (&old[CERTIFICATE], &old[KEY]));
            assert!(Holding::read(&after).is_served_by(&rotation().names, start()));
            assert_eq!(step(&after, start() + DAY / 2, Some(start())).0, Step::Keep);
            assert_eq!(step(&after, start() + 2 * DAY, Some(start())).0, Step::SwitchLeaf);
        }
    }

    #[test]
    fn a_damaged_serving_certificate_is_made_anew_by_the_same_ca() {
        for (key, text) in
            [(KEY, "nonsense"), (CERTIFICATE, ""), (KEY, &KeyPair::generate().unwrap().serialize_pem())]
        {
            let mut data = fresh();
            data.insert(key.into(), text.as_bytes().to_vec());
            assert!(!Holding::read(&data).problems().is_empty());
            let (repaired, after) = step(&data, start(), None);
            assert!(matches!(repaired, Step::IssueLeaf(_)), "{key}: {repaired:?}");
            assert_eq!(after[CA_CERTIFICATES], data[CA_CERTIFICATES]);
            assert!(Holding::read(&after).is_served_by(&rotation().names, start()));
        }
    }

    #[test]
    fn a_secret_without_its_bundle_starts_over() {
        let mut data = fresh();
        data.insert(
            CA_CERTIFICATES.into(),
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
        );
        let (over, after) = step(&data, start(), None);
        assert!(matches!(over, Step::StartOver(_)), "{over:?}");
        assert!(Holding::read(&after).is_served_by(&rotation().names, start()));
    }

    #[test]
    fn a_serving_certificate_stands_for_no_ca() {
        let mut data = fresh();
        let leaf = data[CERTIFICATE].clone();
        data.insert(CA_CERTIFICATES.into(), leaf);
        let holding = Holding::read(&data);
        assert_eq!(holding.bundle.len(), 1, "its issuer is one, it is not");
    }

    /// The bundles that clients got and when, and the certificates that replicas may serve.
    struct World {
        now: SystemTime,
        rotation: Rotation,
        secret: Data,
        /// Bundle, and from when to when clients got it.
        bundles: Vec<(String, SystemTime, SystemTime)>,
        served: Vec<(Vec<CertificateDer<'static>>, SystemTime)>,
        published: Option<SystemTime>,
        steps: Vec<Step>,
    }

    impl World {
        fn new(rotation: Rotation) -> Self {
            let (secret, bundles, served) = (Data::new(), Vec::new(), Vec::new());
            let mut world =
                Self { now: start(), rotation, secret, bundles, served, published: None, steps: Vec::new() };
            world.write();
            world.publish();
            world
        }

        fn write(&mut self) {
            let holding = Holding::read(&self.secret);
            let step = holding.decide(self.now, self.published, &self.rotation);
            if let Some(after) = holding.after(step, self.now, &self.rotation).unwrap() {
                self.steps.push(step);
                self.secret = after;
                let changed = Holding::read(&self.secret).bundle() != holding.bundle();
                self.published = self.published.filter(|_| !changed);
            }
            let chain = Holding::read(&self.secret).leaf.unwrap().chain;
            self.served.retain(|(served, _)| *served != chain);
            self.served.push((chain, self.now));
        }

        fn publish(&mut self) {
            let bundle = Holding::read(&self.secret).bundle();
            match self.bundles.last_mut() {
                Some((last, _, until)) if *last == bundle => *until = self.now,
                _ => self.bundles.push((bundle, self.now, self.now)),
            }
            self.published = self.published.or(Some(self.now));
        }

        /// Every certificate that a replica may still serve is accepted with every bundle of the last overlap.
        fn check(&self) -> Result<(), TestCaseError> {
            let lag = self.rotation.overlap / 2;
            let last = self.served.len() - 1;
            for (index, (chain, until)) in self.served.iter().enumerate() {
                if index < last && *until + lag < self.now {
                    continue;
                }
                let newest = self.bundles.len() - 1;
                for (number, (bundle, _, until)) in self.bundles.iter().enumerate() {
                    // With the old certificate only the bundles that were published while it was served count.
                    if number < newest && *until + self.rotation.overlap <= self.now {
                        continue;
                    }
                    let roots: Vec<_> =
                        CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap).collect();
                    prop_assert!(
                        covers(chain, &roots, &self.rotation.names, self.now),
                        "certificate {index} of {last}, bundle {number} of {newest}, after {:?}: {:?}",
                        self.now.duration_since(start()),
                        self.steps
                    );
                }
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn at_every_moment_every_served_certificate_verifies_against_every_bundle_of_the_overlap(
            overlap in 20..400_u64,
            leaf in 4..9_u64,
            ca in 2..6_u64,
            ticks in prop::collection::vec((1..100_u64, prop::bool::weighted(0.7), prop::bool::weighted(0.7)), 250),
        ) {
            let rotation = Rotation {
                overlap: Duration::from_secs(overlap),
                leaf: Duration::from_secs(overlap * leaf),
                ca: Duration::from_secs(overlap * leaf * ca),
                ..rotation()
            };
            let mut world = World::new(rotation);
            // The writer is missing, or a bundle cannot be written, only for a limited time: after a longer time
            // any certificate expires.
            let (mut unwritten, mut unpublished) = (0, 0);
            for (part, writes, publishes) in ticks {
                world.now += Duration::from_secs((overlap * part / 400).max(1));
                (unwritten, unpublished) = (unwritten + 1, unpublished + 1);
                if writes || unwritten > 3 {
                    world.write();
                    unwritten = 0;
                }
                if publishes || unpublished > 3 {
                    world.publish();
                    unpublished = 0;
                }
                world.check()?;
            }
            prop_assert!(world.steps.len() > 3, "{:?}", world.steps);
        }
    }
}
