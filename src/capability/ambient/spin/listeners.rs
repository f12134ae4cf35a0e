//! What the Spin shim connects to for the messages of its triggers, and what it sends there, whatever the components may reach.

use super::{Resolved, UNRESOLVED, resolve, retains, variable, without_credentials};
use crate::capability::ambient::{RuntimeHost, address};
use crate::capability::{Capability, Entry, HostPattern};
use crate::image::SpinListener;
use crate::image::outbound::has_template;

/// The hosts of the triggers of kept components, and the variables that go there.
pub(in crate::capability::ambient) fn listeners(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let all = host.facts.spin.iter().flat_map(|app| &app.listeners);
    let kept = all.filter(|listener| listener.component.as_ref().is_none_or(|id| retains(host, id)));
    kept.flat_map(|listener| of(host, listener)).collect()
}

fn of(host: &RuntimeHost<'_>, listener: &SpinListener) -> Vec<Entry> {
    let at = format!("locked app trigger \"{}\":", listener.trigger);
    let (to, is_final) = connection(host, listener, &at);
    let mut entries = vec![to];
    entries.extend(listener.variables.iter().map(|name| variable(host, name, &at)));
    if !is_final {
        let why = format!(
            "{at} what its variables make of the common address is read for variables again, so that any may go there"
        );
        entries.push(Entry::new(Capability::Config, why).mark_secret(true));
    }
    entries
}

/// Where it connects to, and whether no other variable can get into the address.
fn connection(host: &RuntimeHost<'_>, listener: &SpinListener, at: &str) -> (Entry, bool) {
    let written = listener.address.as_str();
    let evidence = format!("{at} address \"{}\"", without_credentials(written));
    let entry = |pattern, note: &str| {
        Entry::new(capability(&listener.trigger), format!("{evidence}{note}")).to_host(pattern)
    };
    if !has_template(written) {
        return match host_of(written) {
            Some(pattern) => (entry(pattern, ""), true),
            None => (entry(widest(written), " is no plain address: taken for any host"), true),
        };
    }
    let Resolved { text, variables } = match resolve(host, written) {
        Ok(resolved) => resolved,
        Err(why) => {
            let note = format!(" {UNRESOLVED}{why}: taken for any host");
            return (entry(widest(written), &note), !listener.twice);
        }
    };
    let set_by = variables.iter().map(|name| format!("env {name}")).collect::<Vec<_>>().join(", ");
    let is_final = !listener.twice || !has_template(&text);
    let Some(pattern) = host_of(&text).filter(|_| is_final) else {
        let note = format!(": what {set_by} of the pod makes of it is no plain address: taken for any host");
        return (entry(widest(written), &note), is_final);
    };
    (entry(pattern, &format!(" is set by {set_by} of the pod")), true)
}

fn capability(trigger: &str) -> Capability {
    if trigger == "mqtt" { Capability::Mqtt } else { Capability::DbRedis }
}

/// The host, with the port that the clients take where none is written (`redis-rs:redis/src/connection.rs`,
/// `paho.mqtt.c:src/MQTTProtocolOut.c`). The path of a Unix socket is none.
fn host_of(address: &str) -> Option<HostPattern> {
    let default = match address.split_once("://")?.0 {
        "redis" | "rediss" | "valkey" | "valkeys" => 6379,
        "mqtt" | "tcp" => 1883,
        "mqtts" | "ssl" => 8883,
        _ => return None,
    };
    address::host(address, Some(default))
}

/// Any host, of the scheme that is written out.
fn widest(address: &str) -> HostPattern {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let is_word = |scheme: &&str| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphabetic());
    scheme.filter(is_word).map_or(HostPattern::ANY, |scheme| HostPattern::ANY.with_scheme(scheme))
}
