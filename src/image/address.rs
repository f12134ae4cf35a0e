//! Addresses that foreign text gives and that clients read as URLs, each by a reader of its own.

/// Whether all readers of URLs find the same parts in an address: it has no sign that some of them drop (tabs, ends of lines), and no
/// `\`, which ends the host for readers by WHATWG's standard and stands in a user name for those by RFC 3986. It is asked of the whole
/// text, before anything is cut off: `https://a.example\@b.example` leads some of them to `a.example`, and others to `b.example`.
pub fn is_plain(address: &str) -> bool {
    address.chars().all(|c| c.is_ascii_graphic() && c != '\\')
}
