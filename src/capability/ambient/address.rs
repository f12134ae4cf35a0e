//! The host in an address that some client reads as a URL. Clients read what is no plain URL in several ways, so that it may be any
//! host.

use url::Url;

use crate::capability::HostPattern;
use crate::image::address::is_plain;

/// The host of an address, with its scheme and port, without user, password and path. `None` for what another client may read
/// otherwise. `default` is the port of the client for an address without one, where the scheme has none.
pub(super) fn host(address: &str, default: Option<u16>) -> Option<HostPattern> {
    if !is_plain(address) || address.contains(['*', '"', '<', '>', '^', '`', '{', '|', '}']) {
        return None;
    }
    let (scheme, rest) = address.split_once("://")?;
    let place = rest.split(['/', '?', '#']).next()?;
    // A second `@` may end the user for one client, and not for another.
    if rest.matches('@').count() > 1 {
        return None;
    }
    let user = rest.split_once('@').map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(['/', '?', '#'])) {
        return None;
    }
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let known =
        |place: &str| format!("{}://{place}", scheme.to_ascii_lowercase()).parse::<HostPattern>().ok();
    let with_default = || known(&format!("{}:{}", place.trim_end_matches(':'), default?));
    let pattern = known(place).or_else(with_default).filter(|pattern| !pattern.is_internal())?;
    let url = Url::parse(address).ok()?;
    let port = url.port_or_known_default().or(default);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let as_url = format!("{}://{}{port}", url.scheme(), url.host_str()?).parse::<HostPattern>().ok()?;
    (as_url == pattern).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::WrittenHost;

    #[test]
    fn a_plain_address_is_its_host_and_any_other_may_be_any() {
        for (address, default, found) in [
            ("http://collector.example:4318/v1/logs", None, Some("http://collector.example:4318")),
            ("https://me:secret@collector.example", None, Some("https://collector.example")),
            ("redis://u:p@cache:6380/0", Some(6379), Some("redis://cache:6380")),
            ("rediss://cache", Some(6379), Some("rediss://cache:6379")),
            ("redis://[fd00::1]:6379", None, Some("redis://[fd00::1]")),
            ("HTTPS://Collector.example?x=1", None, Some("https://collector.example")),
            ("http://10.0.0.1:80", None, Some("http://10.0.0.1")),
            ("rediss://cache", None, None),
            ("http://evil.example:3128\\@good.example:3128", None, None),
            ("http://evil.example?@good.example", None, None),
            ("http://evil.example/@good.example", None, None),
            ("http://a@evil.example@good.example", None, None),
            ("http://0x7f.1", None, None),
            ("http://ev%69l.example", None, None),
            ("http://good.example\t.evil.example", None, None),
            ("http://\u{ff45}vil.example", None, None),
            ("http://*.example", None, None),
            ("http://a.spin.internal", None, None),
            ("unix:///run/redis.sock", Some(6379), None),
            ("cache:6379", Some(6379), None),
            ("http://", None, None),
        ] {
            let pattern = host(address, default).map(|pattern| String::from(WrittenHost::from(pattern)));
            assert_eq!(pattern.as_deref(), found, "{address}");
        }
    }
}
