//! Every built-in function that is here, by name; and those that are not, with the reason.

#![allow(clippy::unnecessary_wraps, reason = "all have one type, by which they are called")]

mod cases;
mod certificates;
mod checks;
mod clock;
mod crypto;
mod encoding;
mod extremes;
mod float;
mod glob;
mod globs;
mod graphql;
mod identity;
mod layout;
mod net;
mod numbers;
mod objects;
mod patch;
mod patched;
mod paths;
mod pointer;
mod regexes;
mod schema;
mod semver;
mod signed;
mod sprintf;
mod strings;
mod template;
mod time;
mod token;
mod verbs;
mod yaml;

use super::call::{Call, Operands, Outcome};
use super::failure::Failure;
use super::value::Value;

/// A built-in function.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// Its name in Rego.
    pub name: &'static str,
    run: fn(&mut Call, Operands<'_>) -> Outcome,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Builtin {
    const fn new(name: &'static str, run: fn(&mut Call, Operands<'_>) -> Outcome) -> Self {
        Self { name, run }
    }

    /// A function that panics.
    #[cfg(test)]
    pub(crate) const fn broken() -> Self {
        Self::new("broken", |_, _| unreachable!("this function is broken"))
    }

    /// Calls it; what it says of an error begins with its name.
    pub fn call(&self, call: &mut Call, operands: &[Value]) -> Result<Value, Failure> {
        (self.run)(call, Operands(operands)).map_err(|failure| match failure {
            Failure::Error(reason) => Failure::Error(format!("`{}`: {reason}", self.name)),
            Failure::Halt(reason) => Failure::Halt(format!("`{}`: {reason}", self.name)),
            Failure::Undefined => Failure::Undefined,
        })
    }
}

/// The functions that a compiled module asks its host for, sorted by name.
pub const BUILTINS: &[Builtin] = &[
    Builtin::new("base64url.encode_no_pad", encoding::base64url_encode_no_pad),
    Builtin::new("cast_array", objects::cast_array),
    Builtin::new("cast_boolean", objects::cast_boolean),
    Builtin::new("cast_null", objects::cast_null),
    Builtin::new("cast_object", objects::cast_object),
    Builtin::new("cast_set", objects::cast_set),
    Builtin::new("cast_string", objects::cast_string),
    Builtin::new("crypto.hmac.equal", crypto::hmac_equal),
    Builtin::new("crypto.hmac.md5", crypto::hmac_md5),
    Builtin::new("crypto.hmac.sha1", crypto::hmac_sha1),
    Builtin::new("crypto.hmac.sha256", crypto::hmac_sha256),
    Builtin::new("crypto.hmac.sha512", crypto::hmac_sha512),
    Builtin::new("crypto.md5", crypto::md5),
    Builtin::new("crypto.parse_private_keys", certificates::parse_private_keys),
    Builtin::new("crypto.sha1", crypto::sha1),
    Builtin::new("crypto.sha256", crypto::sha256),
    Builtin::new("crypto.x509.parse_and_verify_certificates", certificates::verify),
    Builtin::new("crypto.x509.parse_and_verify_certificates_with_options", certificates::verify_with_options),
    Builtin::new("crypto.x509.parse_certificate_request", certificates::parse_request),
    Builtin::new("crypto.x509.parse_certificates", certificates::parse),
    Builtin::new("crypto.x509.parse_keypair", certificates::parse_pair),
    Builtin::new("crypto.x509.parse_rsa_private_key", certificates::parse_first_private_key),
    Builtin::new("glob.quote_meta", regexes::glob_quote_meta),
    Builtin::new("graph.reachable_paths", objects::reachable_paths),
    Builtin::new("graphql.is_valid", graphql::is_valid),
    Builtin::new("graphql.parse", graphql::parse),
    Builtin::new("graphql.parse_and_verify", graphql::parse_and_verify),
    Builtin::new("graphql.parse_query", graphql::parse_query),
    Builtin::new("graphql.parse_schema", graphql::parse_schema),
    Builtin::new("graphql.schema_is_valid", graphql::schema_is_valid),
    Builtin::new("hex.decode", encoding::hex_decode),
    Builtin::new("hex.encode", encoding::hex_encode),
    Builtin::new("indexof_n", strings::indexof_n),
    Builtin::new("internal.print", strings::print),
    Builtin::new("io.jwt.decode", token::decode),
    Builtin::new("io.jwt.decode_verify", signed::decode_verify),
    Builtin::new("io.jwt.encode_sign", signed::encode),
    Builtin::new("io.jwt.encode_sign_raw", signed::encode_raw),
    Builtin::new("io.jwt.verify_eddsa", signed::eddsa),
    Builtin::new("io.jwt.verify_es256", signed::es256),
    Builtin::new("io.jwt.verify_es384", signed::es384),
    Builtin::new("io.jwt.verify_es512", signed::es512),
    Builtin::new("io.jwt.verify_hs256", token::verify_hs256),
    Builtin::new("io.jwt.verify_hs384", token::verify_hs384),
    Builtin::new("io.jwt.verify_hs512", token::verify_hs512),
    Builtin::new("io.jwt.verify_ps256", signed::ps256),
    Builtin::new("io.jwt.verify_ps384", signed::ps384),
    Builtin::new("io.jwt.verify_ps512", signed::ps512),
    Builtin::new("io.jwt.verify_rs256", signed::rs256),
    Builtin::new("io.jwt.verify_rs384", signed::rs384),
    Builtin::new("io.jwt.verify_rs512", signed::rs512),
    Builtin::new("json.marshal_with_options", encoding::json_marshal_with_options),
    Builtin::new("json.match_schema", schema::matches),
    Builtin::new("json.patch", patch::patch),
    Builtin::new("json.verify_schema", schema::verify),
    Builtin::new("net.cidr_contains_matches", net::contains_matches),
    Builtin::new("net.cidr_expand", net::expand),
    Builtin::new("net.cidr_is_valid", net::is_valid),
    Builtin::new("net.cidr_merge", net::merge),
    Builtin::new("numbers.range_step", numbers::range_step),
    Builtin::new("object.subset", objects::subset),
    Builtin::new("rand.intn", numbers::random),
    Builtin::new("regex.find_n", regexes::find_n),
    Builtin::new("regex.globs_match", globs::matches),
    Builtin::new("regex.replace", regexes::replace),
    Builtin::new("regex.split", regexes::split),
    Builtin::new("regex.template_match", regexes::template_match),
    Builtin::new("semver.compare", semver::compare),
    Builtin::new("semver.is_valid", semver::is_valid),
    Builtin::new("sprintf", sprintf::sprintf),
    Builtin::new("strings.any_prefix_match", strings::any_prefix_match),
    Builtin::new("strings.any_suffix_match", strings::any_suffix_match),
    Builtin::new("strings.count", strings::count),
    Builtin::new("strings.render_template", template::render),
    Builtin::new("strings.split_n", strings::split_n),
    Builtin::new("time.add_date", time::add_date),
    Builtin::new("time.clock", time::clock),
    Builtin::new("time.date", time::date),
    Builtin::new("time.diff", time::difference),
    Builtin::new("time.format", time::format),
    Builtin::new("time.now_ns", time::now),
    Builtin::new("time.parse_duration_ns", time::parse_duration),
    Builtin::new("time.parse_ns", time::parse),
    Builtin::new("time.parse_rfc3339_ns", time::parse_rfc3339),
    Builtin::new("time.weekday", time::weekday),
    Builtin::new("trace", strings::trace),
    Builtin::new("units.parse", numbers::parse_units),
    Builtin::new("units.parse_bytes", numbers::parse_bytes),
    Builtin::new("uri.is_valid", identity::uri_is_valid),
    Builtin::new("uri.parse", identity::uri_parse),
    Builtin::new("urlquery.decode", encoding::query_decode),
    Builtin::new("urlquery.decode_object", encoding::query_decode_object),
    Builtin::new("urlquery.encode", encoding::query_encode),
    Builtin::new("urlquery.encode_object", encoding::query_encode_object),
    Builtin::new("uuid.parse", identity::parse),
    Builtin::new("uuid.rfc4122", identity::random),
    Builtin::new("yaml.is_valid", yaml::is_valid),
    Builtin::new("yaml.marshal", encoding::yaml_marshal),
    Builtin::new("yaml.unmarshal", yaml::unmarshal),
];

/// A function of OPA's library that is compiled into modules and computes otherwise than OPA's interpreter.
#[derive(Debug, Clone, Copy)]
pub struct Correction {
    /// Its name in the module (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`).
    pub function: &'static str,
    /// What is computed instead.
    pub builtin: Builtin,
    /// Where the module's own code is right.
    pub own_code: OwnCode,
}

/// Where the module's own code of a function is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnCode {
    /// Nowhere.
    Never,
    /// Where all operands are integers of 64 bits.
    Integers,
    /// Where all operands but the first are integers of 64 bits, or numbers that are written as one digit.
    PlainAfterFirst,
    /// Where the host has a value, which is not that of the function. Elsewhere the call is undefined.
    Defined,
    /// Where its second operand, the place of an item in an array, is an integer of 64 bits or written as one digit; what the host makes of
    /// another number is put in its place.
    Places,
}

const fn instead(
    function: &'static str,
    name: &'static str,
    run: fn(&mut Call, Operands<'_>) -> Outcome,
) -> Correction {
    Correction { function, builtin: Builtin::new(name, run), own_code: OwnCode::Never }
}

const fn arithmetic(
    function: &'static str,
    name: &'static str,
    run: fn(&mut Call, Operands<'_>) -> Outcome,
) -> Correction {
    Correction { function, builtin: Builtin::new(name, run), own_code: OwnCode::Integers }
}

const fn checked(
    function: &'static str,
    name: &'static str,
    run: fn(&mut Call, Operands<'_>) -> Outcome,
) -> Correction {
    Correction { function, builtin: Builtin::new(name, run), own_code: OwnCode::Defined }
}

/// The functions whose calls go to the host although the module has code for them.
pub const CORRECTED: &[Correction] = &[
    Correction {
        function: "opa_value_get",
        builtin: Builtin::new("array[place]", numbers::place),
        own_code: OwnCode::Places,
    },
    instead("opa_agg_max", "max", extremes::greatest),
    instead("opa_agg_min", "min", extremes::least),
    instead("opa_agg_product", "product", numbers::product),
    // It goes wrong with places that are written as other numbers. Elsewhere it copies addresses, where the host would read and write values.
    Correction {
        function: "opa_array_slice",
        builtin: Builtin::new("array.slice", objects::slice),
        own_code: OwnCode::PlainAfterFirst,
    },
    instead("opa_base64_decode", "base64.decode", encoding::base64_decode),
    instead("opa_base64_encode", "base64.encode", encoding::base64_encode),
    instead("opa_base64_is_valid", "base64.is_valid", encoding::base64_is_valid),
    instead("opa_base64_url_decode", "base64url.decode", encoding::base64url_decode),
    instead("opa_base64_url_encode", "base64url.encode", encoding::base64url_encode),
    instead("builtin_object_union_n", "object.union_n", objects::union_n),
    instead("builtin_json_filter", "json.filter", paths::filter),
    instead("builtin_json_remove", "json.remove", paths::remove),
    instead("opa_agg_sum", "sum", numbers::sum),
    instead("opa_glob_match", "glob.match", glob::matches),
    instead("opa_strings_substring", "substring", strings::substring),
    instead("opa_to_number", "to_number", numbers::to_number),
    instead("opa_cidr_contains", "net.cidr_contains", net::contains),
    instead("opa_cidr_intersects", "net.cidr_intersects", net::intersects),
    instead("opa_json_is_valid", "json.is_valid", encoding::json_is_valid),
    instead("opa_json_marshal", "json.marshal", encoding::json_marshal),
    instead("opa_json_unmarshal", "json.unmarshal", encoding::json_unmarshal),
    instead("opa_numbers_range", "numbers.range", numbers::range),
    instead(
        "opa_regex_find_all_string_submatch",
        "regex.find_all_string_submatch_n",
        regexes::find_all_submatches,
    ),
    instead("opa_regex_is_valid", "regex.is_valid", regexes::is_valid),
    instead("opa_regex_match", "regex.match", regexes::matches),
    instead("opa_strings_concat", "concat", strings::concat),
    instead("opa_strings_format_int", "format_int", strings::format_int),
    instead("opa_strings_indexof", "indexof", strings::indexof),
    instead("opa_strings_lower", "lower", cases::lower),
    instead("opa_strings_replace", "replace", strings::replace),
    instead("opa_strings_replace_n", "strings.replace_n", strings::replace_n),
    instead("opa_strings_upper", "upper", cases::upper),
    arithmetic("opa_arith_abs", "abs", numbers::abs),
    arithmetic("opa_arith_ceil", "ceil", numbers::ceil),
    arithmetic("opa_arith_floor", "floor", numbers::floor),
    arithmetic("opa_arith_round", "round", numbers::round),
    arithmetic("opa_bits_and", "bits.and", numbers::bits_and),
    arithmetic("opa_bits_negate", "bits.negate", numbers::bits_negate),
    arithmetic("opa_bits_or", "bits.or", numbers::bits_or),
    arithmetic("opa_bits_shiftleft", "bits.lsh", numbers::shift_left),
    arithmetic("opa_bits_shiftright", "bits.rsh", numbers::shift_right),
    arithmetic("opa_bits_xor", "bits.xor", numbers::bits_xor),
    arithmetic("opa_arith_divide", "div", numbers::divide),
    arithmetic("opa_arith_minus", "minus", numbers::minus),
    arithmetic("opa_arith_multiply", "mul", numbers::times),
    arithmetic("opa_arith_plus", "plus", numbers::plus),
    arithmetic("opa_arith_rem", "rem", numbers::remainder),
];

/// The functions whose operands the host looks at in strict mode, since the module does not tell an error from undefined.
const CHECKED: &[Correction] = &[
    checked("builtin_graph_reachable", "graph.reachable", checks::graph),
    checked("builtin_object_filter", "object.filter", checks::object_and_keys),
    checked("builtin_object_get", "object.get", checks::object),
    checked("builtin_object_keys", "object.keys", checks::object),
    checked("builtin_object_remove", "object.remove", checks::object_and_keys),
    checked("builtin_object_union", "object.union", checks::two_objects),
    checked("opa_agg_all", "all", checks::items),
    checked("opa_agg_any", "any", checks::items),
    checked("opa_agg_count", "count", checks::countable),
    checked("opa_agg_sort", "sort", checks::items),
    checked("opa_array_concat", "array.concat", checks::two_arrays),
    checked("opa_array_flatten", "array.flatten", checks::array),
    checked("opa_array_reverse", "array.reverse", checks::array),
    checked("opa_set_diff", "set_diff", checks::two_sets),
    checked("opa_set_intersection", "and", checks::two_sets),
    checked("opa_set_union", "or", checks::two_sets),
    checked("opa_sets_intersection", "intersection", checks::set_of_sets),
    checked("opa_sets_union", "union", checks::set_of_sets),
    checked("opa_strings_contains", "contains", checks::two_texts),
    checked("opa_strings_endswith", "endswith", checks::two_texts),
    checked("opa_strings_reverse", "strings.reverse", checks::text),
    checked("opa_strings_split", "split", checks::two_texts),
    checked("opa_strings_startswith", "startswith", checks::two_texts),
    checked("opa_strings_trim", "trim", checks::two_texts),
    checked("opa_strings_trim_left", "trim_left", checks::two_texts),
    checked("opa_strings_trim_prefix", "trim_prefix", checks::two_texts),
    checked("opa_strings_trim_right", "trim_right", checks::two_texts),
    checked("opa_strings_trim_space", "trim_space", checks::text),
    checked("opa_strings_trim_suffix", "trim_suffix", checks::two_texts),
];

/// What is changed about a module. In strict mode the host sees every error: it computes what the module has no errors for, and looks at
/// the operands of the rest.
pub fn corrections(strict: bool) -> Vec<Correction> {
    let own_code = |own_code| match own_code {
        OwnCode::Integers | OwnCode::PlainAfterFirst if strict => OwnCode::Never,
        other => other,
    };
    let corrected = CORRECTED.iter().map(|one| Correction { own_code: own_code(one.own_code), ..*one });
    corrected.chain(CHECKED.iter().filter(|_| strict).copied()).collect()
}

/// The functions that no rule may call here, sorted by name, and why.
pub const REFUSED: &[(&str, &str)] = &[
    ("http.send", "it would touch the network"),
    ("net.lookup_ip_addr", "it would touch the network"),
    ("opa.runtime", "it would hand the gate's environment to rules, and through their messages to users"),
    ("providers.aws.sign_req", "it would handle secrets"),
    ("rego.parse_module", "there is no Rego compiler in the gate"),
];

/// The function of this name that modules may ask for.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    let place = BUILTINS.binary_search_by_key(&name, |builtin| builtin.name).ok()?;
    BUILTINS.get(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_so_that_they_are_found_and_none_is_refused_too() {
        assert!(BUILTINS.is_sorted_by_key(|builtin| builtin.name));
        assert!(REFUSED.is_sorted_by_key(|(name, _)| *name));
        for known in BUILTINS {
            assert_eq!(builtin(known.name).unwrap().name, known.name);
            assert!(REFUSED.iter().all(|(name, _)| *name != known.name));
        }
        assert!(builtin("http.send").is_none());
    }

    #[test]
    fn an_error_names_the_function() {
        let mut call = Call::within(1 << 20);
        let error = builtin("strings.count").unwrap().call(&mut call, &[Value::Null, Value::text("a")]);
        assert_eq!(
            error,
            Err(Failure::Error("`strings.count`: operand 1 must be string but got null".into()))
        );
    }

    #[test]
    fn work_that_grows_faster_than_the_operands_ends_with_the_fuel() {
        let array = |count: usize, item: &Value| Value::Array(vec![item.clone(); count]);
        let nodes: Vec<Value> = (0..12).map(Value::int).collect();
        let edges = nodes.iter().map(|node| (node.clone(), Value::Array(nodes.clone())));
        let (graph, roots) = (Value::Object(edges.collect()), Value::Array(vec![Value::int(0)]));
        let cidrs = array(2_000, &Value::text("10.0.0.0/8"));
        let mut almost = vec![Value::int(1); 1_000];
        almost.push(Value::int(2));
        let ranges =
            Value::texts((0..2_000).map(|third| format!("10.{}.{}.1/32", third / 100, 2 * (third % 100))));
        let aliases = format!("a: &a [{}]\nb: [{}]", vec!["x"; 100].join(","), vec!["*a"; 400].join(","));
        for (name, operands) in [
            ("yaml.unmarshal", vec![Value::text(aliases)]),
            ("graph.reachable_paths", vec![graph, roots]),
            ("net.cidr_contains_matches", vec![cidrs.clone(), cidrs]),
            ("net.cidr_merge", vec![ranges]),
            ("object.subset", vec![array(2_000, &Value::int(1)), Value::Array(almost)]),
            (
                "strings.any_prefix_match",
                vec![array(2_000, &Value::text("a")), array(2_000, &Value::text("b"))],
            ),
            (
                "strings.any_suffix_match",
                vec![array(2_000, &Value::text("a")), array(2_000, &Value::text("b"))],
            ),
            ("indexof_n", vec![Value::text("a".repeat(20_000)), Value::text("a".repeat(10_000))]),
        ] {
            let mut call = Call::within(64 << 20);
            call.allow(30_000);
            let found = builtin(name).unwrap().call(&mut call, &operands);
            assert!(
                matches!(found, Err(Failure::Halt(_))) && call.is_exhausted(),
                "{name}: {}",
                call.taken()
            );
        }
    }
}
