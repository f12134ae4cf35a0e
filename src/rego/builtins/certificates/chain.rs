//! `crypto.x509.parse_and_verify_certificates`: whether the last certificate of a text is signed by the first one, with those between them
//! (Go's `crypto/x509:verify.go`, `Verify`, Go 1.26). Certificates with constraints of names or policies were not read, so those rules of Go
//! are not here: without them every chain keeps them.

use std::collections::BTreeSet;

use super::hosts;
use super::{Certificate, certificates, contents};
use crate::rego::builtins::signed::{Algorithm, Form, Hash, is_right};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

/// Signatures that Go checks before it gives up.
const MAX_CHECKS: usize = 100;
/// The bit of a key's usage for signing certificates.
const CERTIFICATE_SIGN: i64 = 1 << 5;
/// The usage that allows every other one (`ExtKeyUsageAny`).
const ANY_USAGE: i64 = 0;
/// The usage that is asked for where a rule names none (`ExtKeyUsageServerAuth`).
const SERVER: i64 = 1;
/// Names of usages in the order of Go's numbers (`open-policy-agent/opa:v1/topdown/crypto.go`, `allowedKeyUsages`).
const USAGES: [&str; 14] = [
    "KeyUsageAny",
    "KeyUsageServerAuth",
    "KeyUsageClientAuth",
    "KeyUsageCodeSigning",
    "KeyUsageEmailProtection",
    "KeyUsageIPSECEndSystem",
    "KeyUsageIPSECTunnel",
    "KeyUsageIPSECUser",
    "KeyUsageTimeStamping",
    "KeyUsageOCSPSigning",
    "KeyUsageMicrosoftServerGatedCrypto",
    "KeyUsageNetscapeServerGatedCrypto",
    "KeyUsageMicrosoftCommercialCodeSigning",
    "KeyUsageMicrosoftKernelCodeSigning",
];

/// What is asked for beside the signatures.
#[derive(Default)]
struct Options {
    /// Empty for any.
    host: String,
    /// In nanoseconds since 1970; now where it is not given.
    time: Option<i64>,
    usages: Vec<i64>,
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is of one lifetime, and the closure of any"
)]
pub(in crate::rego::builtins) fn verify(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    let found = contents(call, text)
        .and_then(|bytes| chain(call, &certificates(&bytes)?, Options::default(), |one| one.value()));
    answer(found)
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is of one lifetime, and the closure of any"
)]
pub(in crate::rego::builtins) fn verify_with_options(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (text, given) = (operands.text(0)?, operands.object(1)?);
    let bytes = match contents(call, text) {
        Err(Failure::Error(_)) => return answer(Failure::error("no certificates")),
        other => other?,
    };
    let read = match certificates(&bytes) {
        Err(Failure::Error(_)) => return answer(Failure::error("no certificates")),
        other => other?,
    };
    let options = options(given)?;
    answer(chain(call, &read, options, |one| one.plain_value()))
}

/// Whether there is a chain, and it. What is no certificate is no chain either.
fn answer(found: Result<Vec<Value>, Failure>) -> Outcome {
    let (is_right, chain) = match found {
        Ok(chain) => (true, chain),
        Err(Failure::Error(_)) => (false, Vec::new()),
        Err(other) => return Err(other),
    };
    Ok(Value::Array(vec![Value::Bool(is_right), Value::Array(chain)]))
}

fn options(given: &Object) -> Result<Options, Failure> {
    let mut options = Options::default();
    for (name, value) in given {
        let Value::String(name) = name else { continue };
        match (name.as_str(), value) {
            ("DNSName", Value::String(host)) => options.host = host.trim_matches('"').into(),
            ("CurrentTime", Value::Number(time)) => {
                let not = || Failure::Error("'CurrentTime' should be a valid int64 number".into());
                options.time = Some(time.to_count().ok_or_else(not)?);
            }
            // There are no constraints to compare.
            ("MaxConstraintComparisons", Value::Number(number)) if number.to_count().is_some() => {}
            ("KeyUsages", Value::Array(names)) => options.usages = usages(names)?,
            ("KeyUsages", Value::Set(names)) => options.usages = usages(names)?,
            ("DNSName" | "CurrentTime" | "MaxConstraintComparisons" | "KeyUsages", _) => {
                return Failure::error(format!("'{name}' is of another type"));
            }
            _ => return Failure::error("invalid key option"),
        }
    }
    Ok(options)
}

/// Items that are no texts do not count.
fn usages<'a>(names: impl IntoIterator<Item = &'a Value>) -> Result<Vec<i64>, Failure> {
    let mut usages = Vec::new();
    for name in names {
        let Value::String(name) = name else { continue };
        let name = name.trim_matches('"');
        let place =
            USAGES.iter().position(|known| *known == name).and_then(|place| i64::try_from(place).ok());
        let unknown = || Failure::Error(format!("invalid entries for 'KeyUsages' found: [{name}]"));
        usages.push(place.ok_or_else(unknown)?);
    }
    Ok(usages)
}

/// The first chain from the last certificate to the first one.
fn chain(
    call: &mut Call,
    certificates: &[Certificate<'_>],
    options: Options,
    value: fn(&Certificate<'_>) -> Value,
) -> Result<Vec<Value>, Failure> {
    let [root, between @ .., leaf] = certificates else {
        return Failure::error("must supply at least two certificates to be able to verify");
    };
    let now = options.time.unwrap_or_else(|| call.now());
    let mut search = Search { call, root, between: distinct(between), now, checks: 0 };
    if !search.is_valid(leaf, Role::Leaf, &[]) {
        return Failure::error("x509: the last certificate is not valid");
    }
    if !options.host.is_empty() && !hosts::is_for(leaf, &options.host) {
        return Failure::error("x509: the last certificate is for other hosts");
    }
    let chains = if leaf.raw == root.raw { vec![vec![leaf]] } else { search.chains_from(&[leaf])?.0 };
    let usages = if options.usages.is_empty() { vec![SERVER] } else { options.usages };
    let is_for = |chain: &&Vec<&Certificate<'_>>| usages.contains(&ANY_USAGE) || is_usable(chain, &usages);
    match chains.iter().find(is_for) {
        Some(chain) => Ok(chain.iter().map(|certificate| value(certificate)).collect()),
        None => Failure::error("x509: no valid chain"),
    }
}

/// Each once.
fn distinct<'a, 'b>(certificates: &'a [Certificate<'b>]) -> Vec<&'a Certificate<'b>> {
    let mut seen = BTreeSet::new();
    certificates.iter().filter(|certificate| seen.insert(certificate.raw)).collect()
}

/// What a certificate is in a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Leaf,
    Between,
    Root,
}

type Chain<'a, 'b> = Vec<&'a Certificate<'b>>;

struct Search<'c, 'a, 'b> {
    call: &'c mut Call,
    root: &'a Certificate<'b>,
    between: Vec<&'a Certificate<'b>>,
    now: i64,
    checks: usize,
}

impl<'a, 'b> Search<'_, 'a, 'b> {
    /// The chains that go on from this one, and whether the search was given up. Each call of itself was paid for by a check.
    fn chains_from(&mut self, chain: &[&'a Certificate<'b>]) -> Result<(Vec<Chain<'a, 'b>>, bool), Failure> {
        let Some(last) = chain.last() else { return Ok((Vec::new(), false)) };
        let mut chains = Vec::new();
        let root = [self.root].into_iter().filter(|root| root.subject() == last.issuer());
        let candidates = root.map(|root| (Role::Root, root)).collect::<Vec<_>>().into_iter();
        self.call.take(self.between.len())?;
        let parents = parents(&self.between, last).into_iter().map(|parent| (Role::Between, parent));
        for (role, candidate) in candidates.chain(parents) {
            self.call.take(chain.len())?;
            // Before it counts, as in Go (`crypto/x509/verify.go`, `alreadyInChain`).
            if is_in(candidate, chain) {
                continue;
            }
            self.checks = self.checks.saturating_add(1);
            if self.checks > MAX_CHECKS {
                let is_given_up = chains.is_empty();
                return Ok((chains, is_given_up));
            }
            if !self.has_signed(candidate, last)? || !self.is_valid(candidate, role, chain) {
                continue;
            }
            let longer = [chain, &[candidate]].concat();
            if role == Role::Root {
                chains.push(longer);
                continue;
            }
            let (more, is_given_up) = self.chains_from(&longer)?;
            chains.extend(more);
            if is_given_up {
                let is_given_up = chains.is_empty();
                return Ok((chains, is_given_up));
            }
        }
        Ok((chains, false))
    }

    /// Whether a certificate may stand behind those of a chain.
    fn is_valid(&self, certificate: &Certificate<'_>, role: Role, chain: &[&Certificate<'_>]) -> bool {
        let now = i128::from(self.now);
        let validity = &certificate.parsed.tbs_certificate.validity;
        let nanoseconds = |time: x509_parser::time::ASN1Time| i128::from(time.timestamp()) * 1_000_000_000;
        let is_issuer = chain.last().is_none_or(|child| child.issuer() == certificate.subject());
        let may_stand_here = role != Role::Between || certificate.is_ca();
        let longest = certificate.longest_path();
        certificate.members.get("UnhandledCriticalExtensions") == Some(&Value::Null)
            && is_issuer
            && (nanoseconds(validity.not_before)..=nanoseconds(validity.not_after)).contains(&now)
            && may_stand_here
            && longest.is_none_or(|longest| chain.len() <= longest.saturating_add(1))
    }

    /// Whether one certificate is signed by the key of another, which may sign certificates.
    fn has_signed(&mut self, parent: &Certificate<'_>, child: &Certificate<'_>) -> Result<bool, Failure> {
        let may_sign = if parent.flag("BasicConstraintsValid") {
            parent.flag("IsCA")
        } else {
            parent.number("Version") != Some(3)
        };
        let usage = parent.number("KeyUsage").unwrap_or_default();
        let Some(algorithm) = algorithm(child.algorithm) else { return Ok(false) };
        if !may_sign || (usage != 0 && usage & CERTIFICATE_SIGN == 0) {
            return Ok(false);
        }
        let signed = child.parsed.tbs_certificate.as_ref();
        let signature = &child.parsed.signature_value.data;
        is_right(self.call, (algorithm, Form::Der), &parent.key, signed, signature)
    }
}

/// How a certificate is signed, by the number of its algorithm; `None` for MD5 and SHA-1, which Go refuses.
const fn algorithm(number: i64) -> Option<Algorithm> {
    Some(match number {
        4 => Algorithm::Pkcs1(Hash::Sha256),
        5 => Algorithm::Pkcs1(Hash::Sha384),
        6 => Algorithm::Pkcs1(Hash::Sha512),
        10 => Algorithm::Ecdsa(Hash::Sha256),
        11 => Algorithm::Ecdsa(Hash::Sha384),
        12 => Algorithm::Ecdsa(Hash::Sha512),
        16 => Algorithm::EdDsa,
        _ => return None,
    })
}

impl Certificate<'_> {
    fn subject(&self) -> &[u8] {
        self.parsed.tbs_certificate.subject.as_raw()
    }

    fn issuer(&self) -> &[u8] {
        self.parsed.tbs_certificate.issuer.as_raw()
    }

    fn flag(&self, name: &str) -> bool {
        self.members.get(name) == Some(&Value::Bool(true))
    }

    fn number(&self, name: &str) -> Option<i64> {
        match self.members.get(name) {
            Some(Value::Number(number)) => number.to_count(),
            _ => None,
        }
    }

    /// Empty where there is none.
    fn key_id(&self, name: &str) -> &str {
        match self.members.get(name) {
            Some(Value::String(id)) => id,
            _ => "",
        }
    }

    fn is_ca(&self) -> bool {
        self.flag("BasicConstraintsValid") && self.flag("IsCA")
    }

    /// Certificates that may stand between it and the last one.
    fn longest_path(&self) -> Option<usize> {
        let length = self.number("MaxPathLen").filter(|_| self.flag("BasicConstraintsValid"))?;
        usize::try_from(length).ok()
    }

    /// The purposes that Go knows, and whether there are others.
    fn purposes(&self) -> (Vec<i64>, bool) {
        let known = match self.members.get("ExtKeyUsage") {
            Some(Value::Array(items)) => items.iter().filter_map(|item| match item {
                Value::Number(number) => number.to_count(),
                _ => None,
            }),
            _ => return (Vec::new(), self.members.get("UnknownExtKeyUsage") != Some(&Value::Null)),
        };
        (known.collect(), true)
    }

    /// The alternative names as they are written.
    fn names(&self) -> Option<&[u8]> {
        let extensions = self.parsed.extensions();
        let names =
            extensions.iter().find(|one| one.oid == x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME);
        names.map(|one| one.value)
    }
}

/// Those that may have signed a certificate, by how likely that is: first those whose id is the one that it names, then those where one of the
/// two has none.
fn parents<'a, 'b>(all: &[&'a Certificate<'b>], child: &Certificate<'_>) -> Vec<&'a Certificate<'b>> {
    let mut parents: Vec<_> =
        all.iter().copied().filter(|candidate| candidate.subject() == child.issuer()).collect();
    parents.sort_by_key(|parent| match (parent.key_id("SubjectKeyId"), child.key_id("AuthorityKeyId")) {
        (own, named) if own == named => 0,
        ("", _) | (_, "") => 1,
        _ => 2,
    });
    parents
}

/// Whether a chain has the certificate, or another one with its subject, key and alternative names.
fn is_in(candidate: &Certificate<'_>, chain: &[&Certificate<'_>]) -> bool {
    let is_like = |one: &&&Certificate<'_>| {
        one.subject() == candidate.subject()
            && one.parsed.public_key().raw == candidate.parsed.public_key().raw
    };
    for one in chain.iter().filter(is_like) {
        match (candidate.names(), one.names()) {
            (Some(own), Some(other)) if own == other => return true,
            (Some(_), Some(_)) => {}
            (own, other) => return own.is_none() && other.is_none(),
        }
    }
    false
}

/// Whether a chain may be used for one of these: from the root on, each certificate takes away what it is not for.
fn is_usable(chain: &[&Certificate<'_>], usages: &[i64]) -> bool {
    let mut left = usages.to_vec();
    for certificate in chain.iter().rev() {
        let (purposes, is_limited) = certificate.purposes();
        if is_limited && !purposes.contains(&ANY_USAGE) {
            left.retain(|usage| purposes.contains(usage));
        }
    }
    !left.is_empty()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    }

    /// Twelve CAs of one name that have all signed one another: there are more ways through them than anyone can go.
    #[test]
    fn a_search_through_certificates_that_sign_one_another_ends() {
        let keys: Vec<_> = (0..12).map(|_| KeyPair::generate().unwrap()).collect();
        let issuers: Vec<_> = keys
            .iter()
            .map(|key| {
                let own = ca("n").self_signed(key).unwrap().pem();
                Issuer::from_ca_cert_pem(&own, KeyPair::from_pem(&key.serialize_pem()).unwrap()).unwrap()
            })
            .collect();
        let mut text = ca("root").self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        for (own, key) in keys.iter().enumerate() {
            for issuer in
                issuers.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, issuer)| issuer)
            {
                text += &ca("n").signed_by(key, issuer).unwrap().pem();
            }
        }
        let leaf = ca("leaf").signed_by(&KeyPair::generate().unwrap(), &issuers[0]).unwrap();
        text += &leaf.pem();
        let mut call = Call::within(64 << 20);
        call.begin(1_780_000_000_000_000_000, 64 << 20);
        call.allow(1_000_000);
        let found = verify(&mut call, Operands(&[Value::text(text)]));
        assert_eq!(found, Ok(Value::Array(vec![Value::Bool(false), Value::Array(Vec::new())])));
        assert!(call.taken() < 400_000, "{}", call.taken());
        assert!(call.asked().time, "it has looked at the clock");
    }
}
