//! Classifies a regular file by its first bytes, and reads it if it is Wasm.

use std::io::Read;
use std::sync::Arc;

use super::super::archive::{Fault, TarEntry, refused, unreadable};
use super::super::lazy;
use super::super::magic::{Magic, magic};
use super::super::malformed::Malformed;
use super::super::names::{VARIABLES_FILE, has_ending, is_application_file};
use super::super::path;
use super::super::size::{MAX_KEPT, too_many_names};
use super::super::spin::dotenv;
use super::super::{ModuleFacts, module};
use super::{Content, MAX_FILE_MODULES, Tree};

/// Most bytes of an application's manifest; one of 128 components has some 100 KiB. What it may become in memory is bounded where it is
/// parsed.
pub const MAX_APPLICATION_FILE: usize = 256 << 10;
/// Most manifests whose text is kept.
pub const MAX_APPLICATION_FILES: usize = 16;
/// Number of bytes that are enough to classify a file.
const HEAD: u64 = 8;
/// Number of bytes that a shim reads of a file before it takes it for a native program
/// (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`).
const SHORTEST_PROGRAM: u64 = 4;

/// Why a file that WAMR's compiler made is not judged.
const AHEAD_OF_TIME: &str =
    "it is machine code that WAMR's compiler made ahead of time (`\\0aot`); ship the module itself";

/// What a file is under another name that a hard link gives it. Under that of files of variables, what was not kept as the text of
/// one is a text that cannot be read.
pub(super) fn under(name: &str, content: Content) -> Content {
    match content {
        Content::Other | Content::Native(_) if path::split(name).1 == VARIABLES_FILE => unread_text(),
        content => content,
    }
}

/// A file of variables whose text is not known.
fn unread_text() -> Content {
    Content::Text(Arc::new(*b"\0"))
}

impl Tree {
    pub(super) fn regular(
        &mut self,
        name: &str,
        entry: &TarEntry,
        content: &mut dyn Read,
    ) -> Result<Content, Fault> {
        if name == lazy::TABLE {
            return Err(refused(format!("`{name}` is a table of contents, {}", lazy::WRONG)));
        }
        let mut head = Vec::new();
        content.take(HEAD).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
        // `#!` begins a comment in TOML too.
        if is_application_file(name) && magic(&head) != Magic::Wasm {
            return self.application_file(entry, head, content);
        }
        if path::split(name).1 == VARIABLES_FILE && magic(&head) != Magic::Wasm {
            return self.variables_file(entry, head, content);
        }
        match magic(&head) {
            Magic::Wasm => self.wasm(name, entry, head, content),
            Magic::Aot => Ok(Content::Unreadable(AHEAD_OF_TIME.into())),
            Magic::Native(magic) if entry.size >= SHORTEST_PROGRAM => Ok(Content::Native(magic)),
            Magic::Other if has_ending(name, ".wat") => self.text(name, entry, head, content),
            Magic::Native(_) | Magic::Other => Ok(Content::Other),
        }
    }

    fn wasm(
        &mut self,
        name: &str,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
    ) -> Result<Content, Fault> {
        if entry.size > self.bounds.file {
            let limit = self.bounds.file;
            return Ok(Content::Unreadable(format!(
                "it is larger than the limit of {limit} bytes for a module (`images.limits.layer`)"
            )));
        }
        if let Some(too_many) = self.too_many_modules(name) {
            return Ok(too_many);
        }
        let bytes = whole(entry, head, content)?;
        Ok(self.keep(module::read_until(&bytes, name, &self.stop)))
    }

    fn too_many_modules(&self, name: &str) -> Option<Content> {
        (self.modules.len() >= MAX_FILE_MODULES && !self.wanted.contains(name))
            .then(|| Content::Unreadable(format!("the image holds more than {MAX_FILE_MODULES} Wasm files; build an image of the one that starts")))
    }

    /// A manifest that is too long, or one too many, is kept as what cannot be read.
    fn application_file(
        &mut self,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
    ) -> Result<Content, Fault> {
        if entry.size > MAX_APPLICATION_FILE as u64 {
            return Ok(Content::Unreadable(format!(
                "it has {} bytes, and at most {} are read; leave out what Spin does not need, or push the application as layers \
                 (`spin registry push`)",
                entry.size, MAX_APPLICATION_FILE
            )));
        }
        if self.texts >= MAX_APPLICATION_FILES {
            return Ok(Content::Unreadable(format!(
                "the image has more than {MAX_APPLICATION_FILES} manifests of applications, in all folders; leave out those that do not \
                 start"
            )));
        }
        self.texts += 1;
        whole(entry, head, content).map(|text| Content::Text(text.into()))
    }

    /// That a file of variables is there matters too, so one that is too long, or one too many, is kept as what is no text.
    fn variables_file(
        &mut self,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
    ) -> Result<Content, Fault> {
        if entry.size > dotenv::MAX_BYTES as u64 || self.variables_files >= MAX_APPLICATION_FILES {
            return Ok(unread_text());
        }
        self.variables_files += 1;
        whole(entry, head, content).map(|text| Content::Text(text.into()))
    }

    /// `.wat` text. Any other file with this ending is a text file, not a program.
    fn text(
        &mut self,
        name: &str,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
    ) -> Result<Content, Fault> {
        if entry.size > module::MAX_TEXT as u64 {
            return Ok(Content::Unreadable(format!(
                "it is Wasm text of more than {} bytes; ship the binary",
                module::MAX_TEXT
            )));
        }
        if let Some(too_many) = self.too_many_modules(name) {
            return Ok(too_many);
        }
        let bytes = whole(entry, head, content)?;
        Ok(self.keep(module::read_text_until(&bytes, name, &self.stop)))
    }

    fn keep(&mut self, facts: Result<ModuleFacts, Malformed>) -> Content {
        match facts {
            Ok(facts) => {
                let names = self.names.saturating_add(facts.size_in_memory());
                if names > MAX_KEPT {
                    return Content::Unreadable(too_many_names());
                }
                self.names = names;
                self.modules.push(facts);
                Content::Module(self.modules.len() - 1)
            }
            Err(malformed) => Content::Unreadable(malformed.0),
        }
    }
}

/// The buffer has the size that the header says, because growing it step by step takes twice the memory at the end; pages
/// that are never filled cost no memory.
fn whole(entry: &TarEntry, mut bytes: Vec<u8>, content: &mut dyn Read) -> Result<Vec<u8>, Fault> {
    // One more, so that the end is found without growing.
    let size = usize::try_from(entry.size).unwrap_or_default().saturating_add(1);
    bytes.reserve_exact(size.saturating_sub(bytes.len()));
    content.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 == entry.size {
        Ok(bytes)
    } else {
        Err(refused("it ends in the middle of a file; push the image again"))
    }
}
