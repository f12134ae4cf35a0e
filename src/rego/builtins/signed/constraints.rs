//! `io.jwt.decode_verify`: a token whose signature, issuer, audience and times are as a rule asks for
//! (`open-policy-agent/opa:v1/topdown/tokens.go`, `builtinJWTDecodeVerify`).

use std::cmp::Ordering;

use super::algorithm::{Algorithm, Form, is_right};
use super::keys::{self, NamedKey, PublicKey};
use super::{Header, by_any};
use crate::rego::builtins::encoding::base64url;
use crate::rego::builtins::token::{MAX_NESTED, header, object, parts};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::{Object, Value};

/// Nanoseconds in a second, by which OPA divides a time as a float.
const NANOSECONDS: f64 = 1e9;

/// What a token must be.
struct Constraints<'a> {
    /// The keys that may have signed it: public ones, or the one secret.
    keys: Vec<NamedKey>,
    /// Any algorithm where it is empty.
    algorithm: &'a str,
    /// Any issuer where it is empty.
    issuer: &'a str,
    audience: &'a str,
    /// The time to compare with, in seconds since 1970.
    time: Number,
}

impl<'a> Constraints<'a> {
    /// In the order of their names, since the first that is wrong is the one that counts. Looks at the clock where no time is given, so
    /// that the evaluation is not kept.
    fn read(call: &mut Call, constraints: &'a Object) -> Result<Self, Failure> {
        let (mut certificate, mut secret, mut time) = (None, "", None);
        let (mut algorithm, mut issuer, mut audience) = ("", "", "");
        for (name, value) in constraints {
            let Value::String(name) = name else {
                // OPA panics.
                return Err(Failure::Halt("the name of a constraint is no string".into()));
            };
            let text = || match value {
                Value::String(text) => Ok(text.as_str()),
                _ => Failure::error(format!("{name} constraint: must be a string")),
            };
            match name.as_str() {
                "alg" => algorithm = text()?,
                "aud" => audience = text()?,
                "cert" => certificate = Some(keys::parse(text()?)?),
                "iss" => issuer = text()?,
                "secret" => secret = text()?,
                "time" => time = Some(time_of(value)?),
                _ => return Failure::error(format!("unknown token validation constraint: {name}")),
            }
        }
        let time = match time {
            Some(time) => time,
            None => time_of(&Value::int(call.now()))?,
        };
        let keys = match (certificate, secret) {
            (Some(keys), "") => keys,
            (None, "") => return Failure::error("no key constraint"),
            (None, secret) => vec![NamedKey {
                key: PublicKey::Shared(secret.into()),
                algorithm: String::new(),
                id: String::new(),
            }],
            _ => return Failure::error("duplicate key constraints"),
        };
        Ok(Self { keys, algorithm, issuer, audience, time })
    }

    /// Whether the audience that a token names is the one that is asked for.
    fn is_for(&self, audience: Option<&Value>) -> bool {
        let is_own = |name: &Value| matches!(name, Value::String(name) if name == self.audience);
        match audience {
            None => self.audience.is_empty(),
            Some(Value::Array(names)) => names.iter().any(is_own),
            Some(name) => is_own(name),
        }
    }

    /// Whether the claims hold.
    fn hold(&self, claims: &Value) -> Result<bool, Failure> {
        if !self.issuer.is_empty() {
            match claims.get("iss") {
                Some(Value::String(issuer)) if issuer == self.issuer => {}
                None | Some(Value::String(_)) => return Ok(false),
                // OPA panics.
                Some(_) => return Err(Failure::Halt("the issuer of the token is no string".into())),
            }
        }
        if !self.is_for(claims.get("aud")) {
            return Ok(false);
        }
        let compared = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::Number(time)) => Ok(Some(self.time.cmp(time))),
            Some(_) => Failure::error(format!("{name} value must be a number")),
        };
        // Expired from that very moment on.
        if compared("exp")?.is_some_and(|order| order != Ordering::Less) {
            return Ok(false);
        }
        Ok(compared("nbf")? != Some(Ordering::Less))
    }
}

/// A time in nanoseconds as a float of 64 bits, and that in seconds, as OPA computes with it.
fn time_of(value: &Value) -> Result<Number, Failure> {
    let Value::Number(number) = value else {
        return Failure::error("token time constraint: must be a number");
    };
    let time = number.to_f64();
    if !time.is_finite() {
        return Failure::error("token time constraint: unvalid float64");
    }
    if time < 0.0 {
        return Failure::error("token time constraint: must not be negative");
    }
    Ok(Number::from_text(&format!("{}", time / NANOSECONDS)))
}

/// The header and the payload of the innermost token; `None` where one of them is not as it must be.
fn verified(
    call: &mut Call,
    token: &str,
    constraints: &Constraints<'_>,
) -> Result<Option<[Value; 2]>, Failure> {
    let mut token = token.to_string();
    for _ in 0..MAX_NESTED {
        let [head, payload, signature] = parts(&token)?;
        let head_value = header(head)?;
        let header = Header::read(&head_value)?;
        let is_other = !constraints.algorithm.is_empty() && constraints.algorithm != header.algorithm;
        if header.algorithm.is_empty() || header.is_critical || is_other {
            return Ok(None);
        }
        let signature = base64url(signature)?;
        let signed = format!("{head}.{payload}");
        let algorithm = Algorithm::named(&header.algorithm);
        let is_signed = by_any(&constraints.keys, &header, |named| match algorithm {
            Some(algorithm) => {
                is_right(call, (algorithm, Form::Exact), &named.key, signed.as_bytes(), &signature)
            }
            None => Ok(false),
        })?;
        if !is_signed {
            return Ok(None);
        }
        if !is_token(&header.content) {
            return Ok(Some([head_value, object(payload, "payload")?]));
        }
        // Bytes that are no text are signed otherwise than the gate could write them.
        token = String::from_utf8(base64url(payload)?)
            .map_err(|_| Failure::Halt("the token in the token is no UTF-8".into()))?;
    }
    Err(Failure::Halt("tokens are nested more deeply than is read here".into()))
}

/// Whether a content type is that of a token, by Unicode's simple folding: no letter beside ASCII folds to these.
fn is_token(content: &str) -> bool {
    content.eq_ignore_ascii_case("JWT")
}

pub(in crate::rego::builtins) fn decode_verify(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let constraints = Constraints::read(call, operands.object(1)?)?;
    if let Some([head, claims]) = verified(call, operands.text(0)?, &constraints)?
        && constraints.hold(&claims)?
    {
        return Ok(Value::Array(vec![Value::Bool(true), head, claims]));
    }
    let nothing = || Value::Object(Object::new());
    Ok(Value::Array(vec![Value::Bool(false), nothing(), nothing()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego::call::Asked;

    /// `{"alg": "HS256"}`, `{"exp": 100}`, signed with `secret`.
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEwMH0.iGFY4mdbZokANbC7d3jcUO5xNfMLThfwDflGLTQAoiY";

    fn said(now: i64, constraints: &[(&str, Value)]) -> (Outcome, Asked) {
        let mut call = Call::default();
        call.begin(now, 1 << 20);
        let members = constraints.iter().map(|(name, value)| (Value::text(*name), value.clone()));
        let operands = [Value::text(TOKEN), Value::Object(members.collect())];
        (decode_verify(&mut call, Operands(&operands)), call.asked())
    }

    /// A verdict that depends on the clock must not be kept.
    #[test]
    fn the_clock_is_that_of_the_evaluation_and_is_told() {
        let secret = ("secret", Value::text("secret"));
        let is_valid = |outcome: Outcome| matches!(outcome, Ok(Value::Array(items)) if items.first() == Some(&Value::Bool(true)));
        let (before, asked) = said(99_999_999_999, std::slice::from_ref(&secret));
        assert!(asked.time);
        let (after, _) = said(100_000_000_000, std::slice::from_ref(&secret));
        assert_eq!((is_valid(before), is_valid(after)), (true, false));
        let (given, asked) = said(i64::MAX, &[secret, ("time", Value::int(1))]);
        assert!(is_valid(given) && asked.is_nothing(), "the rule says the time");
    }
}
