//! A token service on loopback that signs what the real registry trusts
//! (`distribution:docs/content/spec/auth/jwt.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};

use super::registry::{PASSWORD, USER};
use super::web::{Asked, Said, Web, ok};

/// Its name as an issuer, and the registry's name as a service.
pub const ISSUER: &str = "wasmgate-tests";
pub const SERVICE: &str = "registry";

/// The lifetime in seconds that clients are told for every token.
const SAID_TO_LIVE: i64 = 300;

/// A token service. A client with the password gets everything that it asks for, and all others may read `public/`.
pub struct Tokens {
    pub web: Web,
    /// Certificate of the key that signs the tokens, in PEM.
    pub certificate: String,
    /// The real lifetime of tokens in seconds.
    pub lifetime: Arc<AtomicI64>,
}

impl Tokens {
    pub async fn start() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let lifetime = Arc::new(AtomicI64::new(SAID_TO_LIVE));
        let (lives, der) = (Arc::clone(&lifetime), certificate.der().to_vec());
        let web = Web::start(move |_, asked| answer(asked, &key, &der, lives.load(Ordering::SeqCst))).await;
        Self { web, certificate: certificate.pem(), lifetime }
    }

    /// Its URL under one of the names of loopback.
    pub fn realm(&self, host: &str) -> String {
        format!("http://{host}:{}/token", self.web.port)
    }
}

fn answer(asked: &Asked, key: &KeyPair, certificate: &[u8], lifetime: i64) -> Said {
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = asked.authorization.as_deref() == Some(&right);
    if !known && asked.authorization.is_some() {
        return (401, String::new(), Vec::new());
    }
    let query =
        asked.line.split_once('?').map_or("", |(_, query)| query).replace("%3A", ":").replace("%2F", "/");
    let query = query.replace("%2C", ",");
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access: Vec<Value> = scopes.filter_map(|scope| grant(scope, known)).collect();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let claims = json!({"iss": ISSUER, "sub": if known { USER } else { "" }, "aud": SERVICE, "access": access,
        "iat": now, "nbf": 0, "exp": now + lifetime, "jti": "1"});
    let header = json!({"alg": "EdDSA", "typ": "JWT", "x5c": [STANDARD.encode(certificate)]});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap()));
    ok(json!({"token": token, "expires_in": SAID_TO_LIVE}).to_string())
}

/// What a client gets of `repository:NAME:ACTIONS`.
fn grant(scope: &str, known: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| known || (*action == "pull" && name.starts_with("public/")))
        .collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}
