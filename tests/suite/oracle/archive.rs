//! Tar archives byte by byte, with every field of a header in every form that some writer or some attacker gives it.

use std::fmt;

const BLOCK: usize = 512;

/// A layer's archive.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    pub items: Vec<Item>,
    pub end: End,
}

/// What an archive holds.
#[derive(Debug, Clone)]
pub enum Item {
    Entry(Entry),
    /// A global extended header, with the name that the header itself has.
    Global(Bytes, Vec<Record>),
    /// So many links, each to the one before, the first to this target; `l0` leads through all of them.
    Chain(u8, Bytes),
}

/// How an archive ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    TwoBlocks,
    /// Padded to twenty blocks, as `tar` itself does.
    Record,
    OneBlock,
    Nothing,
    /// One block of nulls, and the next one is not.
    Broken,
    /// Bytes after the end.
    Trailing,
    /// The last block is cut.
    Cut,
}

/// One file, folder or link.
#[derive(Clone)]
pub struct Entry {
    /// Type flag.
    pub kind: u8,
    pub name: Bytes,
    pub link: Bytes,
    pub content: Vec<u8>,
    /// Extended headers before it.
    pub before: Vec<Extension>,
    /// What its header has otherwise than usual.
    pub odd: Vec<Odd>,
    /// How a name that does not fit is written.
    pub long: Long,
}

impl fmt::Debug for Entry {
    /// Only what is not usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", char::from(self.kind), self.name)?;
        if !self.link.0.is_empty() {
            write!(f, " -> {:?}", self.link)?;
        }
        if !self.content.is_empty() {
            write!(f, " = \"{}\"", self.content[self.content.len().saturating_sub(24)..].escape_ascii())?;
        }
        for extension in &self.before {
            write!(f, ", after {extension:?}")?;
        }
        for odd in &self.odd {
            write!(f, ", odd {odd:?}")?;
        }
        if self.name.0.len() > 100 { write!(f, ", long by {:?}", self.long) } else { Ok(()) }
    }
}

/// Bytes that are mostly text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// How a name of more than 100 bytes is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Long {
    #[default]
    Pax,
    Gnu,
    Prefix,
}

/// An extended header that belongs to the next entry.
#[derive(Debug, Clone)]
pub enum Extension {
    Pax(Vec<Record>),
    /// With what follows the name.
    GnuName(Bytes, Tail),
    GnuLink(Bytes, Tail),
}

/// What follows a GNU long name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    Nul,
    Nothing,
    NulAndMore,
}

/// One record of a pax header.
#[derive(Debug, Clone)]
pub struct Record {
    pub key: &'static str,
    pub value: Bytes,
    pub form: RecordForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordForm {
    Good,
    /// Says one byte more than it has.
    TooLong,
    /// Says one byte less.
    TooShort,
    /// Ends without a line feed.
    NoLineFeed,
    /// Leading zeros in its length.
    Zeros,
    /// No `=`.
    NoValue,
}

/// A field of a header in another form than the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Odd {
    Mode(Number),
    Uid(Number),
    Gid(Number),
    Size(Number),
    Mtime(Number),
    Device(Number),
    /// Major and minor number.
    Numbers(u8, u8),
    /// The content has so many bytes more than the header says.
    Longer(u8),
    /// The content has so many bytes less.
    Shorter(u8),
    Magic(Magic),
    Checksum(Checksum),
    Prefix(Bytes),
    /// GNU's fields in the place of the prefix.
    GnuTimes(Number),
    /// The name fills its field, without a null.
    FullName,
    /// Bytes after the null that ends the name.
    AfterName,
    Names(Bytes),
    Permissions(u32),
    /// The padding after the content is not null.
    Padding,
    /// The unused end of the header is not null.
    Rest,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Digits to the end of the field.
    Full,
    /// Ends with a blank.
    Blank,
    /// Blanks in front.
    Blanks,
    /// As few digits as it takes, then nulls.
    Short,
    Binary,
    BinaryNegative,
    BinaryHuge,
    Empty,
    Garbage,
    Negative,
    Plus,
    /// Digits, a null, more digits.
    Split,
    /// Digits, a blank, a null, as libarchive and commons-compress write.
    BlankNull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Magic {
    Gnu,
    None,
    Star,
    /// `ustar` with another version.
    Version,
    /// GNU's magic with POSIX's version.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Of signed bytes, as old Sun tars counted.
    Signed,
    Wrong,
    /// In seven digits and without an end.
    Digits,
    Empty,
}

impl Archive {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for item in &self.items {
            item.write(&mut out);
        }
        match self.end {
            End::TwoBlocks => out.extend([0; 2 * BLOCK]),
            End::Record => {
                out.extend([0; 2 * BLOCK]);
                out.resize(out.len().next_multiple_of(20 * BLOCK), 0);
            }
            End::OneBlock => out.extend([0; BLOCK]),
            End::Nothing => {}
            End::Broken => {
                out.extend([0; BLOCK]);
                out.extend([1; BLOCK]);
            }
            End::Trailing => {
                out.extend([0; 2 * BLOCK]);
                Entry::file("app.wasm", b"trailing").write(&mut out);
            }
            End::Cut => out.truncate(out.len().saturating_sub(100)),
        }
        out
    }
}

impl Item {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(entry) => entry.write(out),
            Self::Global(name, records) => extended(out, b'g', &name.0, &pax(records)),
            Self::Chain(count, target) => {
                for number in (0..*count).rev() {
                    let next = format!("l{}", number + 1);
                    let target = if number + 1 == *count { target.clone() } else { next.as_str().into() };
                    Entry::link(&format!("l{number}"), target).write(out);
                }
            }
        }
    }
}

impl Entry {
    fn new(kind: u8, name: &str) -> Self {
        Self {
            kind,
            name: name.into(),
            link: Bytes::default(),
            content: Vec::new(),
            before: Vec::new(),
            odd: Vec::new(),
            long: Long::default(),
        }
    }

    pub fn file(name: &str, content: &[u8]) -> Self {
        Self { content: content.to_vec(), ..Self::new(b'0', name) }
    }

    pub fn link(name: &str, target: impl Into<Bytes>) -> Self {
        Self { link: target.into(), ..Self::new(b'2', name) }
    }

    pub fn hard_link(name: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(b'1', name) }
    }

    pub fn folder(name: &str) -> Self {
        Self::new(b'5', name)
    }

    /// The same, in a folder, or with these letters in front.
    #[must_use]
    pub fn below(mut self, front: &str) -> Self {
        self.name.0.splice(0..0, front.bytes());
        self
    }

    /// Whether nothing is odd about its header.
    pub fn is_usual(&self) -> bool {
        self.odd.is_empty() && self.before.is_empty()
    }

    #[must_use]
    pub fn with(mut self, odd: Odd) -> Self {
        self.odd.push(odd);
        self
    }

    #[must_use]
    pub fn after(mut self, extension: Extension) -> Self {
        self.before.push(extension);
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        for extension in &self.before {
            extension.write(out);
        }
        let (name, prefix) = self.split_name(out);
        if self.link.0.len() > 100 {
            extended(out, b'x', b"PaxHeader", &pax(&[Record::good("linkpath", self.link.clone())]));
        }
        out.extend(self.header(&name, &prefix));
        out.extend(&self.content);
        let padding = self.content.len().next_multiple_of(BLOCK) - self.content.len();
        let fill = u8::from(self.odd.contains(&Odd::Padding));
        out.extend(std::iter::repeat_n(fill, padding));
    }

    /// Name and prefix as they go into the header; what does not fit is written before it.
    fn split_name(&self, out: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let name = &self.name.0;
        if name.len() <= 100 {
            return (name.clone(), Vec::new());
        }
        let at = (name.len() - 101..name.len().min(156)).find(|at| name[*at] == b'/');
        match (self.long, at) {
            (Long::Prefix, Some(at)) => return (name[at + 1..].to_vec(), name[..at].to_vec()),
            (Long::Gnu, _) => Extension::GnuName(self.name.clone(), Tail::Nul).write(out),
            _ => extended(out, b'x', b"PaxHeader", &pax(&[Record::good("path", self.name.clone())])),
        }
        (name[..100].to_vec(), Vec::new())
    }

    fn header(&self, name: &[u8], prefix: &[u8]) -> [u8; BLOCK] {
        let mut block = [0_u8; BLOCK];
        put(&mut block, 0, 100, name);
        put(&mut block, 157, 100, &self.link.0);
        let size = self.odd.iter().fold(self.content.len() as u64, |size, odd| match odd {
            Odd::Longer(by) => size.saturating_sub(u64::from(*by)),
            Odd::Shorter(by) => size + u64::from(*by),
            _ => size,
        });
        let mode =
            self.odd.iter().find_map(|odd| if let Odd::Permissions(mode) = odd { Some(*mode) } else { None });
        number(&mut block[100..108], u64::from(mode.unwrap_or(0o755)), None);
        number(&mut block[108..116], 0, None);
        number(&mut block[116..124], 0, None);
        number(&mut block[124..136], size, None);
        number(&mut block[136..148], 1_700_000_000, None);
        number(&mut block[329..337], 0, None);
        number(&mut block[337..345], 0, None);
        block[156] = self.kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        put(&mut block, 345, 155, prefix);
        for odd in &self.odd {
            odd.apply(&mut block, size);
        }
        self.sum(&mut block);
        block
    }

    fn sum(&self, block: &mut [u8; BLOCK]) {
        let form =
            self.odd.iter().find_map(|odd| if let Odd::Checksum(form) = odd { Some(*form) } else { None });
        block[148..156].fill(b' ');
        let unsigned: i64 = block.iter().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = block.iter().map(|byte| i64::from(byte.cast_signed())).sum();
        let text = match form {
            None => format!("{unsigned:06o}\0 "),
            Some(Checksum::Signed) => format!("{:06o}\0 ", signed.max(0)),
            Some(Checksum::Wrong) => format!("{:06o}\0 ", unsigned + 1),
            Some(Checksum::Digits) => format!("{unsigned:08o}"),
            Some(Checksum::Empty) => "\0\0\0\0\0\0\0\0".into(),
        };
        block[148..156].copy_from_slice(text.as_bytes());
    }
}

impl Odd {
    fn apply(&self, block: &mut [u8; BLOCK], size: u64) {
        match self {
            Self::Mode(form) => number(&mut block[100..108], 0o755, Some(*form)),
            Self::Uid(form) => number(&mut block[108..116], 0, Some(*form)),
            Self::Gid(form) => number(&mut block[116..124], 0, Some(*form)),
            Self::Size(form) => number(&mut block[124..136], size, Some(*form)),
            Self::Mtime(form) => number(&mut block[136..148], 1_700_000_000, Some(*form)),
            Self::Device(form) => {
                number(&mut block[329..337], 0, Some(*form));
                number(&mut block[337..345], 0, Some(*form));
            }
            Self::Numbers(major, minor) => {
                number(&mut block[329..337], u64::from(*major), None);
                number(&mut block[337..345], u64::from(*minor), None);
            }
            Self::Magic(magic) => magic.apply(block),
            Self::Prefix(prefix) => put(block, 345, 155, &prefix.0),
            Self::GnuTimes(form) => {
                number(&mut block[345..357], 1_700_000_000, Some(*form));
                number(&mut block[357..369], 1_700_000_000, None);
            }
            Self::FullName => {
                let end = block[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
                block[end..100].fill(b'n');
            }
            Self::AfterName => {
                let end = block[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
                if let Some(rest) = block.get_mut(end + 1..100) {
                    rest.fill(b'n');
                }
            }
            Self::Names(name) => {
                put(block, 265, 32, &name.0);
                put(block, 297, 32, &name.0);
            }
            Self::Rest => block[500..].fill(b'r'),
            Self::Longer(_) | Self::Shorter(_) | Self::Checksum(_) | Self::Permissions(_) | Self::Padding => {
            }
        }
    }
}

impl Magic {
    fn apply(self, block: &mut [u8; BLOCK]) {
        block[257..265].copy_from_slice(match self {
            Self::Gnu => b"ustar  \0",
            Self::None => &[0; 8],
            Self::Star | Self::Mixed => b"ustar\x0000",
            Self::Version => b"ustar\x0001",
        });
        match self {
            Self::Star => block[508..].copy_from_slice(b"tar\0"),
            Self::Mixed => block[263..265].copy_from_slice(b" \0"),
            _ => {}
        }
    }
}

impl Extension {
    fn write(&self, out: &mut Vec<u8>) {
        let long = |out: &mut Vec<u8>, flag, name: &Bytes, tail: &Tail| {
            let mut body = name.0.clone();
            match tail {
                Tail::Nul => body.push(0),
                Tail::Nothing => {}
                Tail::NulAndMore => body.extend(b"\0more"),
            }
            extended(out, flag, b"././@LongLink", &body);
        };
        match self {
            Self::Pax(records) => extended(out, b'x', b"PaxHeader", &pax(records)),
            Self::GnuName(name, tail) => long(out, b'L', name, tail),
            Self::GnuLink(name, tail) => long(out, b'K', name, tail),
        }
    }
}

impl Record {
    pub fn good(key: &'static str, value: Bytes) -> Self {
        Self { key, value, form: RecordForm::Good }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = self.key.as_bytes().to_vec();
        if self.form != RecordForm::NoValue {
            text.push(b'=');
        }
        text.extend(&self.value.0);
        if self.form != RecordForm::NoLineFeed {
            text.push(b'\n');
        }
        // A blank, and the digits of the whole.
        let mut length = text.len() + 2;
        while length != text.len() + 1 + length.to_string().len() {
            length += 1;
        }
        let says = match self.form {
            RecordForm::TooLong => format!("{}", length + 1),
            RecordForm::TooShort => format!("{}", length - 1),
            RecordForm::Zeros => format!("0{}", length + 1),
            _ => length.to_string(),
        };
        [says.as_bytes(), b" ", &text].concat()
    }
}

fn pax(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(Record::bytes).collect()
}

fn extended(out: &mut Vec<u8>, flag: u8, name: &[u8], body: &[u8]) {
    let header = Entry {
        kind: flag,
        content: body.to_vec(),
        odd: if matches!(flag, b'L' | b'K') { vec![Odd::Magic(Magic::Gnu)] } else { Vec::new() },
        ..Entry::new(flag, "")
    };
    let name = &name[..name.len().min(100)];
    out.extend(header.header(name, &[]));
    out.extend(body);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn put(block: &mut [u8; BLOCK], at: usize, length: usize, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(length)];
    block[at..at + length].fill(0);
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

fn number(field: &mut [u8], value: u64, form: Option<Number>) {
    let width = field.len();
    let text = match form {
        None => format!("{value:0digits$o}\0", digits = width - 1),
        Some(Number::Full) => format!("{value:0width$o}"),
        Some(Number::Blank) => format!("{value:0digits$o} ", digits = width - 1),
        Some(Number::Blanks) => format!("{value:digits$o}\0", digits = width - 1),
        Some(Number::Short) => format!("{value:o}"),
        Some(Number::Garbage) => "9z".into(),
        Some(Number::Negative) => format!("-{value:o}"),
        Some(Number::Plus) => format!("+{value:o}"),
        Some(Number::BlankNull) => format!("{value:0digits$o} \0", digits = width - 2),
        Some(Number::Split) => format!("{value:o}\0007"),
        Some(Number::Empty | Number::Binary | Number::BinaryNegative | Number::BinaryHuge) => String::new(),
    };
    field.fill(0);
    let text = &text.as_bytes()[..text.len().min(width)];
    field[..text.len()].copy_from_slice(text);
    match form {
        Some(Number::Binary) => {
            field[width - 8..].copy_from_slice(&value.to_be_bytes());
            field[0] |= 0x80;
        }
        Some(Number::BinaryNegative) => field.fill(0xff),
        Some(Number::BinaryHuge) => {
            field.fill(0x7f);
            field[0] = 0x80;
        }
        _ => {}
    }
}
