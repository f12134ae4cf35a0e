//! Archives and packed layers whose bytes are changed without regard for what they mean.

use std::fmt::Write as _;

use proptest::sample::Index;

use super::archive::{Archive, Bytes, End, Entry, Item};
use super::image::Compression;

const BLOCK: usize = 512;

/// One change of an archive. Headers and blocks are counted, so that a change means something in every archive.
#[derive(Debug, Clone)]
pub enum Change {
    /// A field of a header is written anew.
    Field {
        header: Index,
        field: Field,
        text: Text,
        sum: Sum,
    },
    /// One byte of a header.
    Byte {
        header: Index,
        at: usize,
        value: u8,
        sum: Sum,
    },
    /// What an extended header holds; where it is counted, the header says its new length.
    Body {
        header: Index,
        edit: Edit,
        counted: bool,
    },
    /// Some blocks again, elsewhere.
    Repeat {
        from: Index,
        count: usize,
        to: Index,
    },
    /// Two blocks in each other's place.
    Swap(Index, Index),
    Remove(Index, usize),
    /// An entry between two blocks.
    Splice(Index, Entry),
    /// Blocks of nulls.
    Nulls(Index, usize),
    /// Nothing after this byte.
    Cut(Index),
    /// Bytes after the last block.
    Append(Bytes),
}

/// A field of a header, by its place and length (POSIX `pax`, "ustar Interchange Format"; `tar:src/tar.h`).
pub type Field = (&'static str, usize, usize);

pub const FIELDS: [Field; 21] = [
    ("name", 0, 100),
    ("mode", 100, 8),
    ("uid", 108, 8),
    ("gid", 116, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("checksum", 148, 8),
    ("type", 156, 1),
    ("link", 157, 100),
    ("magic", 257, 8),
    ("uname", 265, 32),
    ("gname", 297, 32),
    ("major", 329, 8),
    ("minor", 337, 8),
    ("prefix", 345, 155),
    ("GNU atime", 345, 12),
    ("GNU ctime", 357, 12),
    ("GNU offset", 369, 12),
    ("GNU sparse", 386, 97),
    ("GNU real size", 483, 12),
    ("rest", 500, 12),
];

/// What is written into a field.
#[derive(Debug, Clone)]
pub enum Text {
    /// These bytes, and the rest of the field as it is or null.
    Bytes(Bytes, Rest),
    /// The number that is there and so many more, in octal digits between these bytes.
    Octal { more: i64, before: Bytes, after: Bytes },
    /// The same in base 256, with this first byte.
    Binary { more: i64, first: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Kept,
    Null,
    Blank,
}

/// How the checksum is made after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    Right,
    /// Of signed bytes.
    Signed,
    /// Blanks instead of zeros in front.
    Blanks,
    /// Digits and nulls.
    Short,
    /// Digits to the end of the field.
    Full,
    /// As it was.
    Stale,
}

/// A change of some bytes.
#[derive(Debug, Clone)]
pub enum Edit {
    Set(Index, u8),
    /// At a known place.
    SetAt(usize, u8),
    Insert(Index, Bytes),
    Prepend(Bytes),
    Append(Bytes),
    Remove(Index, usize),
    /// Nothing from here on.
    Cut(Index),
    /// All of it again.
    Double,
    Replace(Bytes),
}

impl Edit {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Set(index, value) => {
                let at = at(index);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *value;
                }
            }
            Self::SetAt(at, value) => {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = *value;
                }
            }
            Self::Insert(index, new) => {
                let at = at(index);
                bytes.splice(at..at, new.0.iter().copied());
            }
            Self::Prepend(new) => drop(bytes.splice(0..0, new.0.iter().copied())),
            Self::Append(new) => bytes.extend(&new.0),
            Self::Remove(index, count) => {
                let at = at(index);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Self::Cut(index) => bytes.truncate(at(index)),
            Self::Double => bytes.extend_from_within(..),
            Self::Replace(new) => bytes.clone_from(&new.0),
        }
    }
}

impl Change {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Field { header, field: (_, start, length), text, sum } => {
                if let Some(at) = nth(*header, &headers(bytes)) {
                    text.write(&mut bytes[at + start..at + start + length]);
                    sum.write(&mut bytes[at..at + BLOCK]);
                }
            }
            Self::Byte { header, at: place, value, sum } => {
                if let Some(at) = nth(*header, &headers(bytes)) {
                    bytes[at + place] = *value;
                    sum.write(&mut bytes[at..at + BLOCK]);
                }
            }
            Self::Body { header, edit, counted } => {
                let mut extended = headers(bytes);
                extended.retain(|at| b"xgLK".contains(&bytes[at + 156]));
                if let Some(at) = nth(*header, &extended) {
                    change_body(bytes, at, edit, *counted);
                }
            }
            Self::Repeat { from, count, to } => {
                let start = block(*from, bytes);
                let copy = bytes[start..bytes.len().min(start + count * BLOCK)].to_vec();
                insert(bytes, block(*to, bytes), copy);
            }
            Self::Swap(one, other) => {
                let (one, other) = (block(*one, bytes), block(*other, bytes));
                if one.max(other) + BLOCK <= bytes.len() && one != other {
                    let (low, high) = bytes.split_at_mut(one.max(other));
                    low[one.min(other)..][..BLOCK].swap_with_slice(&mut high[..BLOCK]);
                }
            }
            Self::Remove(from, count) => {
                let start = block(*from, bytes);
                bytes.drain(start..bytes.len().min(start + count * BLOCK));
            }
            Self::Splice(at, entry) => {
                let archive = Archive { items: vec![Item::Entry(entry.clone())], end: End::Nothing };
                insert(bytes, block(*at, bytes), archive.bytes());
            }
            Self::Nulls(at, count) => insert(bytes, block(*at, bytes), vec![0; count * BLOCK]),
            Self::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Append(more) => bytes.extend(&more.0),
        }
    }
}

fn nth(index: Index, all: &[usize]) -> Option<usize> {
    (!all.is_empty()).then(|| all[index.index(all.len())])
}

/// Where a block begins, or the archive ends.
fn block(index: Index, bytes: &[u8]) -> usize {
    (index.index(bytes.len() / BLOCK + 1) * BLOCK).min(bytes.len())
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: Vec<u8>) {
    bytes.splice(at..at, new);
}

fn change_body(bytes: &mut Vec<u8>, header: usize, edit: &Edit, counted: bool) {
    let start = header + BLOCK;
    let size = size(&bytes[header..start]).min(bytes.len() - start);
    let mut body = bytes[start..start + size].to_vec();
    edit.apply(&mut body);
    let said = format!("{:011o}\0", body.len());
    body.resize(body.len().next_multiple_of(BLOCK), 0);
    let end = bytes.len().min(start + size.next_multiple_of(BLOCK));
    bytes.splice(start..end, body);
    if counted {
        bytes[header + 124..header + 136].copy_from_slice(said.as_bytes());
        Sum::Right.write(&mut bytes[header..start]);
    }
}

/// Where headers are, as far as their sizes can be read.
pub fn headers(bytes: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(block) = bytes.get(at..at + BLOCK) {
        at += BLOCK;
        if block.iter().any(|byte| *byte != 0) {
            found.push(at - BLOCK);
            at = at.saturating_add(size(block).min(bytes.len()).next_multiple_of(BLOCK));
        }
    }
    found
}

fn size(header: &[u8]) -> usize {
    usize::try_from(octal(&header[124..136])).unwrap_or(usize::MAX)
}

fn octal(field: &[u8]) -> u64 {
    let digits = field.iter().skip_while(|byte| !matches!(byte, b'0'..=b'7'));
    let digits = digits.take_while(|byte| matches!(byte, b'0'..=b'7'));
    digits.fold(0, |value, digit| value * 8 + u64::from(digit - b'0'))
}

impl Text {
    fn write(&self, field: &mut [u8]) {
        let number = |more: &i64| octal(field).saturating_add_signed(*more);
        let (text, rest) = match self {
            Self::Bytes(text, rest) => (text.0.clone(), *rest),
            Self::Octal { more, before, after } => {
                let digits = field.len().saturating_sub(before.0.len() + after.0.len());
                let digits = format!("{:0digits$o}", number(more));
                ([&before.0[..], digits.as_bytes(), &after.0].concat(), Rest::Null)
            }
            Self::Binary { more, first } => {
                let value = number(more).to_be_bytes();
                let mut text = vec![0; field.len().saturating_sub(value.len())];
                text.extend(value);
                text[0] |= *first;
                (text, Rest::Null)
            }
        };
        match rest {
            Rest::Kept => {}
            Rest::Null => field.fill(0),
            Rest::Blank => field.fill(b' '),
        }
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text[..length]);
    }
}

impl Sum {
    fn write(self, block: &mut [u8]) {
        let old = block[148..156].to_vec();
        block[148..156].fill(b' ');
        let unsigned: i64 = block.iter().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = block.iter().map(|byte| i64::from(byte.cast_signed())).sum();
        let text = match self {
            Self::Right => format!("{unsigned:06o}\0 "),
            Self::Signed => format!("{:06o}\0 ", signed.max(0)),
            Self::Blanks => format!("{unsigned:6o}\0 "),
            Self::Short => format!("{unsigned:o}\0\0\0\0\0\0\0\0"),
            Self::Full => format!("{unsigned:08o}"),
            Self::Stale => return block[148..156].copy_from_slice(&old),
        };
        block[148..156].copy_from_slice(&text.as_bytes()[..8]);
    }
}

/// What the changed archive holds, a header a line, for a person.
pub fn listing(bytes: &[u8]) -> String {
    let mut text = String::new();
    for at in headers(bytes) {
        let header = &bytes[at..at + BLOCK];
        let _ = write!(text, "{at:>6}");
        for (name, start, length) in FIELDS {
            let field = &header[start..start + length];
            let end = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if end > 0 && !name.starts_with("GNU") {
                let _ = write!(text, " {name} \"{}\"", field[..end].escape_ascii());
            }
        }
        if b"xgLK".contains(&header[156]) {
            let body = &bytes[at + BLOCK..bytes.len().min(at + BLOCK + size(header))];
            let _ = write!(text, "\n       holds \"{}\"", body.escape_ascii());
        }
        text.push('\n');
    }
    let _ = write!(text, "{:>6} is its end", bytes.len());
    text
}

/// How an archive becomes a layer.
#[derive(Debug, Clone)]
pub struct Packing {
    pub media_type: &'static str,
    pub packer: Packer,
    pub edits: Vec<Edit>,
}

#[derive(Debug, Clone, Copy)]
pub enum Packer {
    Usual(Compression),
    /// A frame of one block that is not compressed.
    Frame(Frame),
}

/// The header of a Zstandard frame (RFC 8878, 3.1.1.1).
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Bytes of the dictionary's number: 0, 1, 2 or 4.
    pub dictionary: usize,
    /// Which number that is.
    pub number: u8,
    /// The window's byte.
    pub window: u8,
    /// The content's size, so much too large.
    pub size: Option<u8>,
    /// Says that a checksum follows, which is then a wrong one.
    pub checksum: bool,
    pub reserved: bool,
}

impl Packing {
    pub fn pack(&self, archive: &[u8]) -> Vec<u8> {
        let mut packed = match self.packer {
            Packer::Usual(compression) => compression.of(archive),
            Packer::Frame(frame) => frame.of(archive),
        };
        for edit in &self.edits {
            edit.apply(&mut packed);
        }
        packed
    }
}

impl Frame {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let dictionary =
            [0, 1, 2, 4].iter().position(|length| *length == self.dictionary).unwrap_or_default();
        let mut descriptor = u8::try_from(dictionary).unwrap();
        descriptor |= (u8::from(self.checksum) << 2) | (u8::from(self.reserved) << 3);
        descriptor |= u8::from(self.size.is_some()) << 7;
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor, self.window];
        frame.extend([self.number, 0, 0, 0].iter().take(self.dictionary));
        let length = u32::try_from(bytes.len()).unwrap();
        if let Some(more) = self.size {
            frame.extend((length + u32::from(more)).to_le_bytes());
        }
        frame.extend(&(1 | (length << 3)).to_le_bytes()[..3]);
        frame.extend(bytes);
        frame.extend([0; 4].iter().take(if self.checksum { 4 } else { 0 }));
        frame
    }
}
