//! Extended headers, which precede an entry: pax records, or GNU's long names.
//!
//! Readers differ on which of two equal records wins, on empty records, and on a mix of both kinds, so each of these is
//! refused.

use std::collections::BTreeSet;

use super::header::{Header, sparse};
use super::{Fault, refused};
use crate::image::malformed::short;

/// Names, or prefixes of names, of records that affect neither a file's path, nor its length, nor how nodes unpack it
/// (`star:star/star.4`, `libarchive:libarchive/archive_write_set_format_pax.c`, `go-winio:backuptar/tar.go`). Go drops
/// all of these.
const HARMLESS: [&str; 14] = [
    "comment",
    "uname",
    "gname",
    "SCHILY.dev",
    "SCHILY.ino",
    "SCHILY.nlink",
    "SCHILY.devmajor",
    "SCHILY.devminor",
    "SCHILY.fflags",
    // Access lists as text, which `bsdtar` writes by itself. Nodes set none (`erofs-utils:lib/tar.c` neither).
    "SCHILY.acl.",
    "LIBARCHIVE.creationtime",
    "LIBARCHIVE.symlinktype",
    "MSWINDOWS.",
    "RHT.security.selinux",
];
const XATTR: &str = "SCHILY.xattr.";
/// The same attributes in libarchive's own spelling. Go drops them, and `mkfs.erofs` sets them
/// (`erofs-utils:lib/tar.c`, `tarerofs_parse_pax_header`).
const LIBARCHIVE_XATTR: &str = "LIBARCHIVE.xattr.";
/// How macOS names attributes (`com.apple.provenance`), which its `tar` writes in both spellings. Linux has no such namespace, so they
/// are set nowhere (`linux:fs/xattr.c`, `xattr_resolve_name`; `containerd:pkg/archive/tar.go`, `createTarFile`).
const OF_MACOS: &str = "com.";
/// How attributes begin that Linux has (xattr(7)).
const NAMESPACES: [&str; 4] = ["user.", "trusted.", "security.", "system."];

/// What extended headers have said about the next entry.
#[derive(Debug, Default)]
pub(super) struct Extended {
    records: bool,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    /// Whether an entry must follow.
    pub(super) fn is_pending(&self) -> bool {
        self.records || self.name.is_some() || self.target.is_some()
    }

    /// GNU's long name; `body` ends with a NUL.
    pub(super) fn long_name(&mut self, body: &[u8]) -> Result<(), Fault> {
        let name = self.long(body, self.name.is_some())?;
        self.name = Some(name);
        Ok(())
    }

    /// GNU's long link target.
    pub(super) fn long_target(&mut self, body: &[u8]) -> Result<(), Fault> {
        let target = self.long(body, self.target.is_some())?;
        self.target = Some(target);
        Ok(())
    }

    fn long(&self, body: &[u8], again: bool) -> Result<Vec<u8>, Fault> {
        if again || self.records {
            return Err(twice());
        }
        let text = body.strip_suffix(&[0]).unwrap_or(body);
        if text.is_empty() || text.contains(&0) {
            return Err(refused(
                "it has a GNU long name that is empty or holds a NUL; pack it with `tar --format=pax`",
            ));
        }
        Ok(text.to_vec())
    }

    /// Records have the form `LENGTH KEY=VALUE\n` (POSIX `pax`, "pax Extended Header").
    pub(super) fn records(&mut self, mut rest: &[u8]) -> Result<(), Fault> {
        if self.is_pending() {
            return Err(twice());
        }
        self.records = true;
        let mut seen = BTreeSet::new();
        while !rest.is_empty() {
            let (key, value, after) = record(rest)
                .ok_or_else(|| refused("it has an extended tar header that does not parse; pack it again"))?;
            if !seen.insert(key) {
                return Err(refused(format!(
                    "it has an extended tar header with `{}` twice; pack it again",
                    short(key)
                )));
            }
            self.take(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), Fault> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return check_xattr(name);
        }
        if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
            return check_encoded_xattr(name);
        }
        if HARMLESS.iter().any(|known| key == *known || known.ends_with('.') && key.starts_with(known)) {
            return Ok(());
        }
        let bad =
            || refused(format!("it has an extended tar header whose `{key}` cannot be used; pack it again"));
        match key {
            "path" => self.name = Some(words(value).ok_or_else(bad)?),
            "linkpath" => self.target = Some(words(value).ok_or_else(bad)?),
            "size" => self.size = Some(digits(value).ok_or_else(bad)?),
            "uid" | "gid" => drop(digits(value).ok_or_else(bad)?),
            "mtime" | "atime" | "ctime" => time(value).ok_or_else(bad)?,
            key if key.starts_with("GNU.sparse.") || key == "SUN.holesdata" || key == "SCHILY.realsize" => {
                return Err(sparse());
            }
            unknown => {
                return Err(refused(format!(
                    "it has an extended tar header with `{}`, which readers of tar do not agree on; pack it without",
                    short(unknown)
                )));
            }
        }
        Ok(())
    }

    /// Applies the extended headers to the entry's own header.
    pub(super) fn complete(self, header: &mut Header) -> Result<(), Fault> {
        if let Some(name) = self.name {
            header.name = name;
        }
        if let Some(target) = self.target {
            header.target = target;
        }
        // A record may state a size only if the header field cannot hold it, and such a file exceeds every limit.
        match self.size {
            Some(size) if size != header.size => Err(refused(format!(
                "it has a tar entry of {} bytes by its header and of {size} by its extended header; pack it again",
                header.size
            ))),
            _ => Ok(()),
        }
    }
}

fn twice() -> Fault {
    refused("it has several extended tar headers for one entry; pack it with `tar --format=pax`")
}

fn record(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let number = bytes.get(..space)?;
    if number.starts_with(b"0") {
        return None;
    }
    let length = usize::try_from(digits(number)?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let key = std::str::from_utf8(record.get(..equals)?).ok()?;
    let known = !key.is_empty() && !key.contains('\0');
    known.then_some(())?;
    Some((key, record.get(equals + 1..)?, bytes.get(length..)?))
}

/// Decimal digits, without a sign.
fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

fn words(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

/// Seconds with a fraction; negative before 1970.
fn time(value: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds = seconds.strip_prefix('-').unwrap_or(seconds);
    i64::try_from(digits(seconds.as_bytes())?).ok()?;
    (!seconds.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
}

/// containerd sets every attribute as root. Those that overlay file systems use would hide and move files, and access
/// lists decide what can be executed.
fn check_xattr(name: &str) -> Result<(), Fault> {
    let storage = ["user.overlay.", "user.fuseoverlayfs.", "user.containers."];
    let plain = name.starts_with(OF_MACOS)
        || name.starts_with("user.") && !storage.iter().any(|prefix| name.starts_with(prefix));
    if plain || matches!(name, "security.capability" | "security.ima" | "security.evm" | "security.selinux") {
        return Ok(());
    }
    Err(changing(name))
}

/// The same of a name in libarchive's spelling, where `%` begins a character by its number.
fn check_encoded_xattr(name: &str) -> Result<(), Fault> {
    if name.contains('%') && !name.starts_with(OF_MACOS) {
        return Err(changing(name));
    }
    if NAMESPACES.iter().any(|start| name.starts_with(start)) { check_xattr(name) } else { Ok(()) }
}

fn changing(name: &str) -> Fault {
    refused(format!(
        "it sets the extended attribute `{}`, which changes what a node makes of the files; pack it without",
        short(name)
    ))
}

/// A record as tools write it.
#[cfg(test)]
pub(super) fn record_of(key: &str, value: &str) -> Vec<u8> {
    let mut length = key.len() + value.len() + 3;
    while length != key.len() + value.len() + 3 + length.to_string().len() {
        length = key.len() + value.len() + 3 + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[(&str, &str)]) -> Result<Extended, Fault> {
        let mut extended = Extended::default();
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record_of(key, value)).collect();
        extended.records(&body).map(|()| extended)
    }

    fn why<T>(result: Result<T, Fault>) -> String {
        match result {
            Err(Fault::Malformed(malformed)) => malformed.0,
            _ => String::new(),
        }
    }

    #[test]
    fn what_tools_write_is_accepted() {
        let read = read(&[
            ("path", "a/b"),
            ("linkpath", "../c"),
            ("size", "12345"),
            ("uid", "4000000000"),
            ("mtime", "1700000000.123456789"),
            ("atime", "-5"),
            ("ctime", "0"),
            ("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}"),
            ("SCHILY.xattr.user.note", ""),
            ("SCHILY.xattr.com.apple.provenance", "\u{1}\0"),
            ("LIBARCHIVE.xattr.com.apple.provenance", "AQAA"),
            ("LIBARCHIVE.xattr.com.example.a%20b", "AQAA"),
            ("SCHILY.acl.ace", "user:root:r-------------:-------:allow:0"),
            ("LIBARCHIVE.creationtime", "1700000000"),
            ("MSWINDOWS.fileattr", "32"),
            ("comment", ""),
        ])
        .unwrap();
        assert_eq!((read.name.as_deref(), read.size), (Some(b"a/b".as_slice()), Some(12345)));
    }

    #[test]
    fn a_repeated_or_empty_record_is_refused() {
        assert!(why(read(&[("path", "other"), ("path", "")])).contains("`path` twice"));
        assert!(why(read(&[("path", "")])).contains("`path` cannot be used"));
        assert!(why(read(&[("size", "+5")])).contains("`size` cannot be used"));
        assert!(why(read(&[("mtime", "x")])).contains("`mtime` cannot be used"));
        assert!(why(read(&[("path", "a\0b")])).contains("`path` cannot be used"));
        assert!(why(read(&[("hdrcharset", "BINARY")])).contains("`hdrcharset`"));
        assert!(why(read(&[("GNU.sparse.major", "1")])).contains("sparse"));
        for bytes in [
            &b"nonsense"[..],
            b"12 path=a/b\n13 size=12345\n",
            b"012 path=a/b\n",
            b"99999999999999999999 a=b\n",
        ] {
            assert!(why(Extended::default().records(bytes)).contains("does not parse"), "{bytes:?}");
        }
    }

    #[test]
    fn attributes_of_overlay_file_systems_are_refused() {
        for name in [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "user.overlay.opaque",
            "system.posix_acl_access",
        ] {
            for spelling in ["SCHILY", "LIBARCHIVE"] {
                let error = why(read(&[(&format!("{spelling}.xattr.{name}"), "y")]));
                assert!(error.contains(name), "{spelling}, {name}: {error}");
            }
        }
        let encoded = why(read(&[("LIBARCHIVE.xattr.user.%6fverlay.opaque", "eQ==")]));
        assert!(encoded.contains("`user.%6fverlay.opaque`"), "{encoded}");
        // The name is decoded before its namespace is looked for.
        for name in ["%75ser.overlay.opaque", "trusted%2eoverlay.opaque", "c%6fm.apple.macl"] {
            let error = why(read(&[(&format!("LIBARCHIVE.xattr.{name}"), "eQ==")]));
            assert!(error.contains(name), "{error}");
        }
        assert!(
            read(&[("LIBARCHIVE.xattr.user.note", "eQ=="), ("LIBARCHIVE.xattr.com.apple.macl", "")]).is_ok()
        );
    }

    #[test]
    fn a_mix_of_two_kinds_of_extended_headers_is_refused() {
        let mut extended = read(&[("path", "a")]).unwrap();
        assert!(why(extended.long_name(b"b\0")).contains("several extended"));
        assert!(why(extended.records(b"")).contains("several extended"));
        let mut extended = Extended::default();
        extended.long_name(b"b\0").unwrap();
        extended.long_target(b"c\0").unwrap();
        assert!(why(extended.long_name(b"b\0")).contains("several extended"));
        assert!(why(extended.records(b"")).contains("several extended"));
        assert!(why(Extended::default().long_name(b"a\0b\0")).contains("holds a NUL"));
    }
}
