//! One header block of a tar archive. Accepts only formats that every node reads alike: POSIX ustar, GNU, and version
//! 7, which has no prefix.
//!
//! Go's `archive/tar` (with which, or a copy of it, containerd, CRI-O and Docker read layers) accepts more, which is
//! refused here: it repairs broken headers by guessing, and a guess can name another file than the one that was judged.

use super::{Fault, refused};

/// Bytes of a block (POSIX `pax`, "ustar Interchange Format").
pub(super) const BLOCK: usize = 512;

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file in the same layer.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
    /// A device or a pipe.
    Special,
}

/// What a header block announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// An entry of the file system.
    Entry(Kind),
    /// Extended records of the next entry (POSIX `pax`, "pax Extended Header").
    Records,
    /// The name of the next entry (`tar:src/create.c`, `write_gnu_long_link`).
    LongName,
    /// The link target of the next entry.
    LongTarget,
}

/// The fields of a header block that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) announced: Announced,
    pub(super) name: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// A file according to the flag of version 7, in which only the slash at the end of its name marks a folder.
    pub(super) old_file: bool,
    /// See [`super::TarEntry::missed`].
    pub(super) missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Version7,
    Ustar,
    Gnu,
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(super) fn read(block: &[u8; BLOCK]) -> Result<Self, Fault> {
        check_sum(block)?;
        let format = format(block)?;
        let announced = announced(block, format)?;
        for (at, length, what) in [(108, 8, "owner"), (116, 8, "group"), (136, 12, "time")] {
            number(field(block, at, length), what)?;
        }
        if format == Format::Gnu {
            check_gnu(block)?;
        }
        let mode = number(field(block, 100, 8), "mode")?;
        let size = number(field(block, 124, 12), "size")?;
        Ok(Self {
            announced,
            name: name(block, format),
            target: text(field(block, 157, 100)).to_vec(),
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            size: u64::try_from(size)
                .map_err(|_| refused("it has a tar header with a negative size; pack it again"))?,
            old_file: block.get(156) == Some(&0),
            missed: is_missed(block, format),
        })
    }
}

fn field(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    block.get(at..at + length).unwrap_or_default()
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), Fault> {
    let sum: i64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i64::from(*byte) })
        .sum();
    if octal(field(block, 148, 8)) == Some(sum) {
        return Ok(());
    }
    Err(refused(
        "it is not a tar archive, or not a whole one: the checksum of a header is wrong; push the image again",
    ))
}

fn format(block: &[u8; BLOCK]) -> Result<Format, Fault> {
    match field(block, 257, 8) {
        // In the last bytes, `star` marks a format of its own.
        b"ustar\x0000" if is_zero(field(block, 500, 12)) => Ok(Format::Ustar),
        b"ustar  \0" => Ok(Format::Gnu),
        // GNU tar writes device numbers where version 7 has nothing; readers ignore them there.
        [0, 0, 0, 0, 0, 0, 0, 0] if is_zero(field(block, 345, 167)) => Ok(Format::Version7),
        _ => Err(refused(
            "it has a tar header of a format that is neither POSIX nor GNU; pack it with `tar --format=pax`",
        )),
    }
}

fn name(block: &[u8; BLOCK], format: Format) -> Vec<u8> {
    let name = text(field(block, 0, 100));
    let prefix = if format == Format::Ustar { text(field(block, 345, 155)) } else { &[] };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn announced(block: &[u8; BLOCK], format: Format) -> Result<Announced, Fault> {
    let flag = block.get(156).copied().unwrap_or_default();
    let announced = match flag {
        b'0' | 0 => Announced::Entry(Kind::File),
        b'1' => Announced::Entry(Kind::HardLink),
        b'2' => Announced::Entry(Kind::Symlink),
        b'3' | b'4' | b'6' => Announced::Entry(device(block, flag, format)?),
        b'5' => Announced::Entry(Kind::Folder),
        b'x' if format == Format::Ustar => Announced::Records,
        b'L' if format == Format::Gnu => Announced::LongName,
        b'K' if format == Format::Gnu => Announced::LongTarget,
        b'g' => {
            return Err(refused(
                "it holds a global extended header, which nodes take for a file to remove; pack it without one \
                 (`git archive` writes one, `tar` does not)",
            ));
        }
        b'S' => return Err(sparse()),
        other => {
            let shown = char::from(other).escape_default();
            return Err(refused(format!(
                "it holds a tar entry of the type `{shown}`, which nodes do not unpack; pack it again without that"
            )));
        }
    };
    Ok(announced)
}

/// Overlay file systems take the character device 0:0 for a whiteout (`linux:Documentation/filesystems/overlayfs.rst`).
fn device(block: &[u8; BLOCK], flag: u8, format: Format) -> Result<Kind, Fault> {
    let numbers = if format == Format::Version7 {
        (0, 0)
    } else {
        (number(field(block, 329, 8), "device")?, number(field(block, 337, 8), "device")?)
    };
    // Larger numbers do not fit into the kernel's (`linux:include/linux/kdev_t.h`), which would truncate some of them
    // to 0:0.
    if !(0..1 << 12).contains(&numbers.0) || !(0..1 << 20).contains(&numbers.1) {
        return Err(refused("it holds a device with numbers that Linux does not have; pack it without"));
    }
    if flag == b'3' && numbers == (0, 0) {
        return Err(refused(
            "it holds the character device 0:0, which removes a file of a lower layer; write a `.wh.` file instead",
        ));
    }
    Ok(Kind::Special)
}

/// Access and change times may be set; fields of sparse files and of multi-volume archives may not. If the times do not
/// parse, Go reads their bytes as the beginning of a name.
fn check_gnu(block: &[u8; BLOCK]) -> Result<(), Fault> {
    for at in [345, 357] {
        number(field(block, at, 12), "time")?;
    }
    if is_zero(field(block, 369, 143)) {
        return Ok(());
    }
    Err(refused(
        "it has a GNU tar header with fields of a sparse file or of several volumes; pack it with `tar --format=pax`",
    ))
}

/// Whether `mkfs.erofs`, with which containerd may unpack layers, does not find the entry at its name
/// (`erofs-utils:lib/tar.c`, `tarerofs_parse_tar`): it passes over what has no type, and takes times of access for the beginning of
/// the name.
fn is_missed(block: &[u8; BLOCK], format: Format) -> bool {
    match format {
        Format::Version7 => false,
        Format::Ustar => block.get(156) == Some(&0),
        Format::Gnu => block.get(156) == Some(&0) || block.get(345).is_some_and(|first| *first != 0),
    }
}

fn number(field: &[u8], what: &str) -> Result<i64, Fault> {
    let read =
        if field.first().is_some_and(|first| first & 0x80 != 0) { binary(field) } else { octal(field) };
    read.ok_or_else(|| {
        refused(format!("it has a tar header whose {what} is not a number; pack it with `tar --format=pax`"))
    })
}

/// Octal digits after spaces, padded with spaces and NULs; an empty field is 0. Where a NUL comes before the digits, readers in C see
/// no number: `mkfs.erofs` then takes a file for empty and its content for headers, or passes over the header
/// (`erofs-utils:lib/tar.c`, `tarerofs_otoi`, `tarerofs_parse_tar`).
fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(first) = field.iter().position(|byte| !blank(byte)) else { return Some(0) };
    if field.iter().take(first).any(|byte| *byte == 0) {
        return None;
    }
    let last = field.iter().rposition(|byte| !blank(byte))?;
    field.get(first..=last)?.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// GNU's base-256 numbers: 0x80 or 0xff, then two's complement (`tar:src/list.c`, `from_header`).
fn binary(field: &[u8]) -> Option<i64> {
    let (sign, digits) = field.split_first()?;
    let fill = match sign {
        0x80 => 0,
        0xff => 0xff,
        _ => return None,
    };
    let (high, low) = digits.split_at(digits.len().saturating_sub(8));
    let mut bytes = [fill; 8];
    for (to, from) in bytes.iter_mut().rev().zip(low.iter().rev()) {
        *to = *from;
    }
    let value = i64::from_be_bytes(bytes);
    (high.iter().all(|byte| *byte == fill) && (value < 0) == (fill == 0xff)).then_some(value)
}

pub(super) fn sparse() -> Fault {
    refused("it holds a sparse file, which is not read; pack the layer without `--sparse`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"644\0junk", None),
            (b"0x0000a\0", None),
            (b"-000001\0", None),
            (b"+000001\0", None),
            (b"1_00001\0", None),
            (b"\x000000644", None),
            (b" \x00000644", None),
        ] {
            assert_eq!(octal(field), expected, "{field:?}");
        }
        assert_eq!(binary(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(binary(&[0xff; 12]), Some(-1));
        assert_eq!(binary(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(binary(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(binary(&[0x81, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
