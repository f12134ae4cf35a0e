//! Layer archives as a stream: decompression up to a limit, and tar entries of a canonical subset.
//!
//! A node reads the same bytes with another reader. Whatever the two understood differently would start without having
//! been judged. So this reader accepts only what POSIX and GNU tar define unambiguously, and refuses the rest with
//! advice; it skips and guesses nothing. docs/image-format.md lists the subset.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use extended::Extended;
use header::{Announced, BLOCK, Header};

pub use compression::{Compression, MAX_WINDOW};
pub use fault::Fault;
pub(super) use fault::{refused, unreadable};
pub use header::Kind;

mod compression;
mod extended;
mod fault;
mod header;

/// Most bytes of one extended header or long name (Go `archive/tar`, `maxSpecialFileSize`).
const MAX_EXTENDED: u64 = 1 << 20;

/// The bytes that may still be unpacked, and a flag to stop from outside.
#[derive(Debug)]
pub struct UnpackBudget<'a> {
    left: u64,
    exceeded: bool,
    stop: &'a AtomicBool,
}

impl<'a> UnpackBudget<'a> {
    /// A budget of `bytes`. Setting `stop` ends every read with an error.
    pub fn new(bytes: u64, stop: &'a AtomicBool) -> Self {
        Self { left: bytes, exceeded: false, stop }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// Counts and digests what is read.
struct Bounded<'b, 'a, R> {
    inner: R,
    budget: &'b mut UnpackBudget<'a>,
    digest: Sha256,
}

impl<R: Read> Read for Bounded<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the look-up was given up"));
        }
        let count = self.inner.read(buffer)?;
        let Some(left) = self.budget.left.checked_sub(count as u64) else {
            self.budget.exceeded = true;
            return Err(io::Error::other("it unpacks to more than the limit"));
        };
        self.budget.left = left;
        self.digest.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Name as written; never empty.
    pub name: String,
    /// Target of a link, as written; empty for everything else.
    pub target: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
    /// Whether some readers leave the entry out, or take another name for it: one without a type in a POSIX or GNU header, or with
    /// times of access in a GNU header.
    pub missed: bool,
}

/// Receives the entries of an archive. May read as much of the content as it likes.
pub trait Visitor {
    /// One entry and its content.
    fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault>;
}

/// Passes every entry of a layer to a visitor, in order. Returns the digest of the unpacked layer, by which a config
/// lists its layers (OCI image-spec `config.md`, "Layer `DiffID`").
pub fn read<'a>(
    blob: impl BufRead + 'a,
    compression: Compression,
    budget: &mut UnpackBudget<'_>,
    visitor: &mut dyn Visitor,
) -> Result<String, Fault> {
    let inner = compression::unpack(Box::new(blob), compression)?;
    let mut input = Bounded { inner, budget, digest: Sha256::new() };
    let result = entries(&mut input, visitor);
    if input.budget.exceeded {
        return Err(Fault::TooLarge);
    }
    result.map(|()| format!("sha256:{:x}", input.digest.finalize()))
}

fn entries(input: &mut dyn Read, visitor: &mut dyn Visitor) -> Result<(), Fault> {
    let mut extended = Extended::default();
    while let Some(header) = next_header(input)? {
        match header.announced {
            Announced::Records => extended.records(&body(input, header.size)?)?,
            Announced::LongName => extended.long_name(&body(input, header.size)?)?,
            Announced::LongTarget => extended.long_target(&body(input, header.size)?)?,
            Announced::Entry(kind) => visit(input, header, kind, std::mem::take(&mut extended), visitor)?,
        }
    }
    if extended.is_pending() {
        return Err(refused(
            "it ends after an extended tar header, without the entry that this belongs to; pack it again",
        ));
    }
    zeros_only(input)
}

fn visit(
    input: &mut dyn Read,
    mut header: Header,
    kind: Kind,
    extended: Extended,
    visitor: &mut dyn Visitor,
) -> Result<(), Fault> {
    extended.complete(&mut header)?;
    let name = utf8(header.name, "name")?;
    let kind = if header.old_file && name.ends_with('/') { Kind::Folder } else { kind };
    let entry = TarEntry {
        name,
        target: if matches!(kind, Kind::HardLink | Kind::Symlink) {
            utf8(header.target, "link target")?
        } else {
            String::new()
        },
        mode: header.mode,
        size: header.size,
        missed: header.missed,
        kind,
    };
    check(&entry)?;
    let mut content = input.take(entry.size);
    visitor.visit(&entry, &mut content)?;
    let rest = content.limit();
    skip(input, rest.saturating_add(padding(entry.size)))
}

/// Readers disagree on whether a file whose name ends with a slash is a folder, and on whether content follows an entry
/// that should have none.
fn check(entry: &TarEntry) -> Result<(), Fault> {
    let name = &entry.name;
    if entry.kind != Kind::File && entry.size > 0 {
        return Err(refused(format!("`{name}` is not a regular file but has content; pack it again")));
    }
    if entry.kind != Kind::Folder && name.ends_with('/') {
        return Err(refused(format!("`{name}` is not a folder but ends with a slash; pack it again")));
    }
    Ok(())
}

fn utf8(bytes: Vec<u8>, what: &str) -> Result<String, Fault> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
        refused(format!("the {what} `{shown}` is not UTF-8; rename the file"))
    })?;
    if text.is_empty() {
        return Err(refused(format!("it holds an entry whose {what} is empty; pack it again")));
    }
    Ok(text)
}

/// The next header; `None` at the end marker or the end of the input.
fn next_header(input: &mut dyn Read) -> Result<Option<Header>, Fault> {
    let mut block = [0_u8; BLOCK];
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest).map_err(|error| unreadable(&error))? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(cut_off()),
            count => filled += count,
        }
    }
    if block.iter().all(|byte| *byte == 0) { Ok(None) } else { Header::read(&block).map(Some) }
}

/// Nothing may follow the end marker: a reader that continues would find more entries.
fn zeros_only(input: &mut dyn Read) -> Result<(), Fault> {
    let mut buffer = [0_u8; 1 << 13];
    loop {
        match input.read(&mut buffer).map_err(|error| unreadable(&error))? {
            0 => return Ok(()),
            count if buffer.iter().take(count).all(|byte| *byte == 0) => {}
            _ => return Err(refused("it has data after the end of its tar archive; pack it as one archive")),
        }
    }
}

/// The content of an extended header.
fn body(input: &mut dyn Read, size: u64) -> Result<Vec<u8>, Fault> {
    if size > MAX_EXTENDED {
        return Err(refused(format!(
            "it has an extended tar header of {size} bytes; at most {MAX_EXTENDED} are read, so leave large attributes out"
        )));
    }
    let mut bytes = Vec::new();
    input.take(size).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 != size {
        return Err(cut_off());
    }
    skip(input, padding(size))?;
    Ok(bytes)
}

fn skip(input: &mut dyn Read, count: u64) -> Result<(), Fault> {
    let skipped = io::copy(&mut input.take(count), &mut io::sink()).map_err(|error| unreadable(&error))?;
    if skipped == count { Ok(()) } else { Err(cut_off()) }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn cut_off() -> Fault {
    refused("it ends in the middle of an entry; push the image again")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use tar::{EntryType, Header as Raw};

    use super::*;

    /// An archive, built block by block, so that tests can make hostile ones.
    #[derive(Default)]
    pub(crate) struct Blocks(Vec<u8>);

    impl Blocks {
        /// A header that is changed before it gets its checksum, and its content.
        pub(crate) fn entry(mut self, mut header: Raw, content: &[u8]) -> Self {
            header.set_size(content.len() as u64);
            header.set_cksum();
            self.0.extend(header.as_bytes());
            self.0.extend(content);
            self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
            self
        }

        pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
            self.entry(named(Raw::new_ustar(), name.as_bytes(), EntryType::Regular), content)
        }

        pub(crate) fn records(self, kind: EntryType, name: &str, records: &[(&str, &str)]) -> Self {
            let body: Vec<u8> =
                records.iter().flat_map(|(key, value)| super::extended::record_of(key, value)).collect();
            self.entry(named(Raw::new_ustar(), name.as_bytes(), kind), &body)
        }

        pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
            self.records(EntryType::XHeader, "PaxHeaders.0/x", records)
        }

        pub(crate) fn long_name(self, name: &str) -> Self {
            let body = [name.as_bytes(), &[0]].concat();
            self.entry(named(Raw::new_gnu(), b"././@LongLink", EntryType::GNULongName), &body)
        }

        pub(crate) fn end(mut self) -> Vec<u8> {
            self.0.extend([0; 2 * BLOCK]);
            self.0
        }
    }

    pub(crate) fn named(mut header: Raw, name: &[u8], kind: EntryType) -> Raw {
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header
    }

    #[derive(Default)]
    struct Names(Vec<(String, u64)>);

    impl Visitor for Names {
        fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault> {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
            self.0.push((entry.name.clone(), bytes.len() as u64));
            Ok(())
        }
    }

    fn read_as(blob: &[u8], said: Compression, limit: u64) -> Result<(Vec<(String, u64)>, String), Fault> {
        let stop = AtomicBool::new(false);
        let mut names = Names::default();
        let digest = read(blob, said, &mut UnpackBudget::new(limit, &stop), &mut names)?;
        Ok((names.0, digest))
    }

    fn names(blob: &[u8], limit: u64) -> Result<Vec<(String, u64)>, Fault> {
        read_as(blob, Compression::Any, limit).map(|(names, _)| names)
    }

    fn why(blob: &[u8]) -> String {
        match names(blob, 1 << 20) {
            Err(Fault::Malformed(malformed)) => malformed.0,
            other => format!("{other:?}"),
        }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = Raw::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_compression_and_long_names_are_read() {
        let long = format!("folder/{}", "x".repeat(200));
        let plain = archive(&[("a", b"12345"), (&long, b"")]);
        let expected =
            (vec![("a".to_string(), 5), (long, 0)], format!("sha256:{:x}", Sha256::digest(&plain)));
        let any = |blob: &[u8]| read_as(blob, Compression::Any, 1 << 20).unwrap();
        assert_eq!(any(&plain), expected);
        assert_eq!(any(&gzip(&plain)), expected);
        assert_eq!(any(&zstd(&plain)), expected);
        // Several members or frames, and a skippable frame between them.
        let (head, tail) = plain.split_at(700);
        assert_eq!(any(&[gzip(head), gzip(tail)].concat()), expected);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9][..]].concat();
        let frames = [skippable.clone(), zstd(head), skippable, zstd(tail)].concat();
        assert_eq!(any(&frames), expected);
    }

    #[test]
    fn a_layer_whose_compression_contradicts_its_media_type_is_refused() {
        let plain = archive(&[("a", b"12345")]);
        let packed = [
            (Compression::Plain, plain.clone()),
            (Compression::Gzip, gzip(&plain)),
            (Compression::Zstd, zstd(&plain)),
        ];
        for (said, _) in &packed {
            for (found, blob) in &packed {
                let read = read_as(blob, *said, 1 << 20);
                assert_eq!(read.is_ok(), said == found, "{said:?} {found:?}: {read:?}");
                if let Err(Fault::Malformed(malformed)) = read {
                    assert!(malformed.0.contains("its media type says"), "{malformed}");
                }
            }
        }
    }

    #[test]
    fn an_empty_path_record_after_another_is_refused() {
        let blob = Blocks::default().pax(&[("path", "other"), ("path", "")]).file("app.wasm", b"").end();
        assert!(why(&blob).contains("`path` twice"), "{}", why(&blob));
        let blob = Blocks::default().pax(&[("path", "")]).file("app.wasm", b"").end();
        assert!(why(&blob).contains("`path` cannot be used"), "{}", why(&blob));
    }

    #[test]
    fn a_gnu_long_name_beside_a_pax_path_is_refused() {
        let gnu_first =
            Blocks::default().long_name("one").pax(&[("path", "two")]).file("app.wasm", b"").end();
        let pax_first =
            Blocks::default().pax(&[("path", "two")]).long_name("one").file("app.wasm", b"").end();
        for blob in [gnu_first, pax_first] {
            assert!(why(&blob).contains("several extended tar headers"), "{}", why(&blob));
        }
    }

    #[test]
    fn a_global_header_is_refused_in_any_position() {
        let global =
            |blocks: Blocks, name| blocks.records(EntryType::XGlobalHeader, name, &[("comment", "x")]);
        let between = global(Blocks::default().pax(&[("path", "other")]), "g").file("app.wasm", b"").end();
        let removing = global(Blocks::default().file("app.wasm", b""), "app.wasm").end();
        for blob in [between, removing] {
            assert!(why(&blob).contains("global extended header"), "{}", why(&blob));
        }
    }

    #[test]
    fn a_gnu_header_with_a_prefix_is_refused_and_one_with_times_is_read() {
        let mut header = named(Raw::new_gnu(), b"app.wasm", EntryType::Regular);
        header.as_mut_bytes()[345..351].copy_from_slice(b"prefix");
        let blob = Blocks::default().entry(header, b"").end();
        assert!(why(&blob).contains("time is not a number"), "{}", why(&blob));
        let mut header = named(Raw::new_gnu(), b"app.wasm", EntryType::Regular);
        header.as_mut_bytes()[400..406].copy_from_slice(b"prefix");
        let blob = Blocks::default().entry(header, b"").end();
        assert!(why(&blob).contains("sparse file or of several volumes"), "{}", why(&blob));
        let mut header = named(Raw::new_gnu(), b"app.wasm", EntryType::Regular);
        header.as_mut_bytes()[345..357].copy_from_slice(b"14450371401\0");
        let blob = Blocks::default().entry(header, b"").end();
        assert_eq!(names(&blob, 1 << 20).unwrap(), [("app.wasm".to_string(), 0)]);
    }

    #[test]
    fn a_number_with_a_nul_before_its_digits_is_refused() {
        // A size that `mkfs.erofs` takes for 0, so that the content is the next header.
        let mut block = named(Raw::new_ustar(), b"app.wasm", EntryType::Regular);
        block.set_size(5);
        block.as_mut_bytes()[124..136].copy_from_slice(b" \x00000000005\0");
        block.set_cksum();
        let blob = [&block.as_bytes()[..], b"12345", &[0; BLOCK - 5], &[0; 2 * BLOCK]].concat();
        assert!(why(&blob).contains("size is not a number"), "{}", why(&blob));
        // A checksum that it does not read, beside a name in a record, so that it passes over the header.
        let mut blob = Blocks::default().pax(&[("path", "app.wasm")]).file("", b"").end();
        let header = blob.len() - 3 * BLOCK;
        assert_eq!(names(&blob, 1 << 20).unwrap(), [("app.wasm".to_string(), 0)]);
        let field = &mut blob[header + 148..header + 156];
        field.rotate_right(1);
        field[0] = 0;
        assert!(why(&blob).contains("the checksum of a header is wrong"), "{}", why(&blob));
    }

    #[test]
    fn headers_that_go_repairs_are_refused() {
        let edits: [(usize, &[u8], &str); 6] = [
            (257, b"ustar\x0000tar", "checksum"),
            (263, b"99", "neither POSIX nor GNU"),
            (508, b"tar\0", "neither POSIX nor GNU"),
            (100, b"0x1ff\0\0\0", "mode is not a number"),
            (136, b"1777\0junk", "time is not a number"),
            (156, b"7", "type `7`"),
        ];
        for (at, bytes, expected) in edits {
            let mut header = named(Raw::new_ustar(), b"app.wasm", EntryType::Regular);
            header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
            let mut blob = Blocks::default().entry(header, b"").end();
            if expected == "checksum" {
                blob[0] = b'b';
            }
            assert!(why(&blob).contains(expected), "{expected}: {}", why(&blob));
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_refused() {
        let blob =
            Blocks::default().entry(named(Raw::new_gnu(), b"app\xff.wasm", EntryType::Regular), b"").end();
        assert!(why(&blob).contains("is not UTF-8"), "{}", why(&blob));
        let mut link = named(Raw::new_gnu(), b"app.wasm", EntryType::Symlink);
        link.as_old_mut().linkname[..2].copy_from_slice(b"a\xff");
        let blob = Blocks::default().entry(link, b"").end();
        assert!(why(&blob).contains("link target `a"), "{}", why(&blob));
    }

    #[test]
    fn what_tar_readers_disagree_on_is_refused() {
        let folder = named(Raw::new_ustar(), b"d/", EntryType::Directory);
        let slash = named(Raw::new_ustar(), b"app.wasm/", EntryType::Regular);
        let device = named(Raw::new_ustar(), b"app.wasm", EntryType::Char);
        let mut large = device.clone();
        large.set_device_major(1 << 12).unwrap();
        let sparse = named(Raw::new_gnu(), b"app.wasm", EntryType::GNUSparse);
        let trailing =
            [Blocks::default().file("a", b"").end(), Blocks::default().file("b", b"").end()].concat();
        for (blob, expected) in [
            (Blocks::default().entry(folder, b"content").end(), "not a regular file but has content"),
            (Blocks::default().entry(slash, b"").end(), "not a folder but ends with a slash"),
            (Blocks::default().entry(device, b"").end(), "character device 0:0"),
            (Blocks::default().entry(large, b"").end(), "numbers that Linux does not have"),
            (Blocks::default().entry(sparse, b"").end(), "sparse"),
            (
                Blocks::default().pax(&[("size", "1")]).file("a", b"12").end(),
                "2 bytes by its header and of 1",
            ),
            (Blocks::default().pax(&[("path", "a")]).end(), "without the entry"),
            (
                Blocks::default().pax(&[("SCHILY.xattr.trusted.overlay.opaque", "y")]).file("d", b"").end(),
                "trusted.overlay",
            ),
            (trailing, "after the end"),
        ] {
            assert!(why(&blob).contains(expected), "{expected}: {}", why(&blob));
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&archive(&[("zeros", &vec![0; 8 << 20])]));
        assert!(bomb.len() < 64 << 10, "{}", bomb.len());
        assert_eq!(names(&bomb, 1 << 20), Err(Fault::TooLarge));
        assert_eq!(names(&zstd(&archive(&[("zeros", &vec![0; 8 << 20])])), 1 << 20), Err(Fault::TooLarge));
        // What follows the end of the archive counts towards the limit too.
        let trailing = gzip(&[archive(&[("a", b"")]), vec![0; 8 << 20]].concat());
        assert_eq!(names(&trailing, 1 << 20), Err(Fault::TooLarge));
        assert!(names(&bomb, 16 << 20).is_ok());
    }

    #[test]
    fn reading_stops_once_no_caller_waits() {
        let stop = AtomicBool::new(true);
        let blob = archive(&[("a", b"1")]);
        let mut budget = UnpackBudget::new(1 << 20, &stop);
        let result = read(&*blob, Compression::Plain, &mut budget, &mut Names::default());
        assert!(matches!(result, Err(Fault::Malformed(_))));
    }

    #[test]
    fn an_archive_cut_at_any_byte_is_read_or_refused() {
        let plain = archive(&[("a", b"12345"), ("b", b"67")]);
        let whole = [("a".to_string(), 5), ("b".to_string(), 2)];
        for blob in [plain.clone(), gzip(&plain), zstd(&plain)] {
            assert_eq!(names(&blob, 1 << 20).unwrap(), whole);
            for end in 0..blob.len() {
                if let Ok(found) = names(&blob[..end], 1 << 20) {
                    assert!(whole.starts_with(&found), "cut at {end}: {found:?}");
                }
            }
        }
        assert!(names(&plain[..700], 1 << 20).is_err());
        assert!(names(b"this is not a tar archive", 1 << 20).is_err());
        assert!(names(&[7; 512], 1 << 20).is_err());
    }

    #[test]
    fn a_huge_extended_header_is_refused_before_it_is_read() {
        let mut header = Raw::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 30);
        header.set_mode(0);
        header.set_cksum();
        let error = names(header.as_bytes(), 1 << 40).unwrap_err();
        assert!(matches!(error, Fault::Malformed(m) if m.0.contains("1073741824")));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), head in 0usize..4) {
            let heads: [&[u8]; 4] = [b"", &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]];
            let _ = names(&[heads[head], &bytes].concat(), 1 << 20);
        }
    }
}
