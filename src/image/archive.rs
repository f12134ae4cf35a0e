//! Layer archives as a stream: decompression within a limit, and tar entries as containerd reads them.
//!
//! The loop over headers is written here because every length in them is foreign: names are bounded, and what Go's
//! `archive/tar` (which the nodes use) would read otherwise is refused instead of guessed.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tar::{EntryType, Header};

use super::malformed::Malformed;

/// Bytes of a tar block (POSIX `pax`, ustar interchange format).
const BLOCK: usize = 512;
/// Most bytes of one extended header or long name; Linux paths end at 4096.
const MAX_EXTENDED: u64 = 1 << 20;

/// Why a layer could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It unpacks to more than the limit.
    TooLarge,
    /// It is not a layer archive.
    Malformed(Malformed),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

fn malformed(message: impl Into<String>) -> Fault {
    Fault::Malformed(Malformed::new(message))
}

/// Bytes that may still be unpacked, and a way to stop from outside.
#[derive(Debug)]
pub struct UnpackBudget<'a> {
    left: u64,
    exceeded: bool,
    stop: &'a AtomicBool,
}

impl<'a> UnpackBudget<'a> {
    /// `bytes` from now on; setting `stop` ends every read with an error.
    pub fn new(bytes: u64, stop: &'a AtomicBool) -> Self {
        Self { left: bytes, exceeded: false, stop }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

struct Bounded<'b, 'a, R> {
    inner: R,
    budget: &'b mut UnpackBudget<'a>,
}

impl<R: Read> Read for Bounded<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let count = self.inner.read(buffer)?;
        let Some(left) = self.budget.left.checked_sub(count as u64) else {
            self.budget.exceeded = true;
            return Err(io::Error::other("it unpacks to more than the limit"));
        };
        self.budget.left = left;
        Ok(count)
    }
}

/// Zstandard frames one after another, skippable ones left out (RFC 8878, 3.1).
struct Zstd<'a> {
    input: &'a [u8],
    decoder: FrameDecoder,
    open: bool,
}

impl Zstd<'_> {
    /// Begins the next frame; `false` at the end of the input.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => {
                    self.open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let rest = self.input.get(length as usize..);
                    self.input = rest.ok_or_else(|| io::Error::other("a skippable frame is cut off"))?;
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(false)
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.open {
                let count = self.decoder.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                if !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(|error| io::Error::other(error.to_string()))?;
                    continue;
                }
                if self.decoder.can_collect() > 0 {
                    continue;
                }
                self.open = false;
            }
            if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

/// The archive's bytes. The first bytes tell the compression, not the media type, as in containerd
/// (`containerd:pkg/archive/compression/compression.go`).
fn unpack<'a>(blob: &'a [u8]) -> Box<dyn Read + 'a> {
    match blob {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Zstd { input: blob, decoder: FrameDecoder::new(), open: false })
        }
        plain => Box::new(plain),
    }
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// Name as written.
    pub name: Vec<u8>,
    /// Target of a link, as written.
    pub target: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
}

/// What visits the entries of an archive. It may read as much of the content as it likes.
pub trait Visitor {
    /// One entry and its content.
    fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault>;
}

/// Shows every entry of a layer to a visitor, in order.
pub fn read(blob: &[u8], budget: &mut UnpackBudget<'_>, visitor: &mut dyn Visitor) -> Result<(), Fault> {
    let mut input = Bounded { inner: unpack(blob), budget };
    let result = entries(&mut input, visitor);
    if input.budget.exceeded { Err(Fault::TooLarge) } else { result }
}

/// Extended headers that belong to the next entry.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

fn entries(input: &mut dyn Read, visitor: &mut dyn Visitor) -> Result<(), Fault> {
    let mut extended = Extended::default();
    while let Some(header) = next_header(input)? {
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|error| unreadable(&error))?;
        match kind {
            EntryType::XHeader => extended.pax(&body(input, size)?)?,
            EntryType::GNULongName => extended.name = Some(until_nul(body(input, size)?)),
            EntryType::GNULongLink => extended.target = Some(until_nul(body(input, size)?)),
            // Go does not apply global headers to the entries that follow.
            EntryType::XGlobalHeader => drop(body(input, size)?),
            EntryType::GNUSparse => return Err(sparse()),
            _ => visit(input, &header, std::mem::take(&mut extended), visitor)?,
        }
    }
    Ok(())
}

fn visit(
    input: &mut dyn Read,
    header: &Header,
    extended: Extended,
    visitor: &mut dyn Visitor,
) -> Result<(), Fault> {
    let header_size = header.entry_size().map_err(|error| unreadable(&error))?;
    let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
    let mut kind = header.entry_type();
    // Version 7 archives mark a folder by its trailing slash alone.
    if header.as_bytes().get(156) == Some(&0) && name.last() == Some(&b'/') {
        kind = EntryType::Directory;
    }
    let entry = TarEntry {
        target: extended
            .target
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default(),
        mode: header.mode().map_err(|error| unreadable(&error))?,
        size: if has_no_content(kind) { 0 } else { extended.size.unwrap_or(header_size) },
        name,
        kind,
    };
    let mut content = input.take(entry.size);
    visitor.visit(&entry, &mut content)?;
    let rest = content.limit();
    skip(input, rest.saturating_add(padding(entry.size)))
}

/// Kinds whose size field means nothing (Go `archive/tar`, `isHeaderOnly`).
fn has_no_content(kind: EntryType) -> bool {
    kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_dir()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_fifo()
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
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let header = Header::from_byte_slice(&block).clone();
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    match header.cksum() {
        Ok(stored) if stored == sum => Ok(Some(header)),
        _ => Err(malformed("it is not a tar archive, or not a whole one: the checksum of a header is wrong")),
    }
}

/// The content of an extended header.
fn body(input: &mut dyn Read, size: u64) -> Result<Vec<u8>, Fault> {
    if size > MAX_EXTENDED {
        return Err(malformed(format!("it has an extended tar header of {size} bytes")));
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

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn unreadable(error: &io::Error) -> Fault {
    malformed(format!("it cannot be unpacked: {error}"))
}

fn cut_off() -> Fault {
    malformed("it ends in the middle of an entry")
}

fn sparse() -> Fault {
    malformed("it holds a sparse file, which is not read; pack the layer without `--sparse`")
}

impl Extended {
    /// Records are `LENGTH KEY=VALUE\n` (POSIX `pax`, extended header); an empty value changes nothing, as in Go.
    fn pax(&mut self, mut rest: &[u8]) -> Result<(), Fault> {
        while !rest.is_empty() {
            let (key, value, after) = pax_record(rest)
                .ok_or_else(|| malformed("it has an extended tar header that does not parse"))?;
            match key {
                _ if value.is_empty() => {}
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size =
                        Some(size.ok_or_else(|| malformed("it has an extended tar header with a bad size"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(length..)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Names(Vec<(String, u64)>);

    impl Visitor for Names {
        fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault> {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
            self.0.push((String::from_utf8_lossy(&entry.name).into_owned(), bytes.len() as u64));
            Ok(())
        }
    }

    fn names(blob: &[u8], limit: u64) -> Result<Vec<(String, u64)>, Fault> {
        let stop = AtomicBool::new(false);
        let mut names = Names::default();
        read(blob, &mut UnpackBudget::new(limit, &stop), &mut names).map(|()| names.0)
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = Header::new_gnu();
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
        let long = format!("folder/{}", "x".repeat(300));
        let plain = archive(&[("a", b"12345"), (&long, b"")]);
        let expected = vec![("a".to_string(), 5), (long, 0)];
        assert_eq!(names(&plain, 1 << 20).unwrap(), expected);
        assert_eq!(names(&gzip(&plain), 1 << 20).unwrap(), expected);
        assert_eq!(names(&zstd(&plain), 1 << 20).unwrap(), expected);
        // Several members or frames, and a skippable frame between them.
        let (head, tail) = plain.split_at(700);
        assert_eq!(names(&[gzip(head), gzip(tail)].concat(), 1 << 20).unwrap(), expected);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9][..]].concat();
        let frames = [skippable.clone(), zstd(head), skippable, zstd(tail)].concat();
        assert_eq!(names(&frames, 1 << 20).unwrap(), expected);
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&archive(&[("zeros", &vec![0; 8 << 20])]));
        assert!(bomb.len() < 64 << 10, "{}", bomb.len());
        assert_eq!(names(&bomb, 1 << 20), Err(Fault::TooLarge));
        assert_eq!(names(&zstd(&archive(&[("zeros", &vec![0; 8 << 20])])), 1 << 20), Err(Fault::TooLarge));
        assert!(names(&bomb, 16 << 20).is_ok());
    }

    #[test]
    fn reading_stops_when_nobody_waits() {
        let stop = AtomicBool::new(true);
        let blob = archive(&[("a", b"1")]);
        let result = read(&blob, &mut UnpackBudget::new(1 << 20, &stop), &mut Names::default());
        assert!(matches!(result, Err(Fault::Malformed(_))));
    }

    #[test]
    fn pax_records_rename_and_resize() {
        let mut extended = Extended::default();
        extended.pax(b"12 path=a/b\n13 size=12345\n").unwrap_err();
        let mut extended = Extended::default();
        extended.pax(b"12 path=a/b\n14 size=12345\n7 uid=\n").unwrap();
        assert_eq!((extended.name.as_deref(), extended.size), (Some(b"a/b".as_slice()), Some(12345)));
        assert!(extended.pax(b"25 GNU.sparse.major=1234\n").is_err());
        assert!(extended.pax(b"99999999999999999999 a=b\n").is_err());
        assert!(extended.pax(b"nonsense").is_err());
    }

    #[test]
    fn an_archive_cut_at_any_byte_is_read_or_refused() {
        let plain = archive(&[("a", b"12345"), ("b", b"67")]);
        for blob in [plain.clone(), gzip(&plain), zstd(&plain)] {
            for end in 0..blob.len() {
                if let Ok(found) = names(&blob[..end], 1 << 20) {
                    assert!(found.len() <= 2);
                }
            }
        }
        assert!(names(&plain[..700], 1 << 20).is_err());
        assert!(names(b"this is not a tar archive", 1 << 20).is_err());
        assert!(names(&[7; 512], 1 << 20).is_err());
    }

    #[test]
    fn a_huge_extended_header_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 30);
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
