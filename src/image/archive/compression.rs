//! The compression of a layer: its media type and its first bytes must agree.
//!
//! For containerd, the media type decides whether the first bytes matter at all
//! (`containerd:core/images/mediatypes.go`, `DiffCompression`); Docker and CRI-O always look at them
//! (`containers/storage:pkg/archive/archive.go`). If both agree, all of these read the same.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Fault, refused};

/// The largest window of a Zstandard frame, all of which is held. The encoder of buildkit and buildah takes 32 MiB at its best
/// level (`klauspost/compress:zstd/encoder_options.go`, `WithEncoderLevel`), that of the reference 8 MiB up to level 19, and
/// more than 32 from level 21 on (`facebook/zstd:lib/compress/clevels.h`).
pub const MAX_WINDOW: u64 = 32 << 20;

/// What a layer's media type says about its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Undefined: Docker's type of an uncompressed layer is used for both, and every node looks at the bytes.
    Any,
}

impl Compression {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, _, _, _, _, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain | Self::Any => "no compression",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The archive's bytes.
pub(super) fn unpack<'a>(
    mut input: Box<dyn BufRead + 'a>,
    said: Compression,
) -> Result<Box<dyn Read + 'a>, Fault> {
    let head = input.fill_buf().map_err(|error| refused(format!("it cannot be read: {error}")))?;
    let found = Compression::of(head);
    if said != found && said != Compression::Any {
        return Err(refused(format!(
            "its media type says {}, and its bytes say {}; push the image again with the media type that they have",
            said.name(),
            found.name()
        )));
    }
    Ok(match found {
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(Zstd::new(input)),
        Compression::Plain | Compression::Any => Box::new(input),
    })
}

/// Consecutive Zstandard frames; skips skippable ones (RFC 8878, 3.1).
struct Zstd<'a> {
    input: Box<dyn BufRead + 'a>,
    decoder: FrameDecoder,
    open: bool,
}

impl<'a> Zstd<'a> {
    fn new(input: Box<dyn BufRead + 'a>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { input, decoder, open: false }
    }

    /// Starts the next frame; `false` at the end of the input.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => {
                    self.open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::Error::other("a skippable frame is cut off"));
                    }
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                    return Err(io::Error::other(format!(
                        "to unpack it takes a window of {requested} bytes, and at most {} MiB are held; compress it without \
                         `--long` and at level 20 at most",
                        MAX_WINDOW >> 20
                    )));
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
