//! Runs the fuzz targets on a stable compiler, for a bounded time: over every input of the committed corpus
//! (`fuzz/corpus`), over prefixes of it, and over mutations of it that are the same in every run.

use std::fs;

use wasmgate::workload::Kind;

use crate::support::process::root;
use crate::support::targets;

/// Mutations per target, spread over the inputs of its corpus.
const MUTATIONS: usize = 8_000;
/// Most edits of one mutation.
const MOST_EDITS: u64 = 6;
/// Values at which parsers of lengths and counts tend to fail.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'{', b'"'];

/// xorshift64*, so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next() % end as u64).unwrap() }
    }
}

/// One edit: flips a bit, writes an edge value, doubles or removes a piece, or inserts a piece of another input.
fn edit(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let length = random.below(32.min(bytes.len() - at.min(bytes.len())) + 1);
    match random.below(6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = EDGES[random.below(EDGES.len())],
        2 => drop(bytes.drain(at..at + length)),
        3 => {
            let piece = bytes[at..at + length].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let from = random.below(other.len());
            let piece = other[from..other.len().min(from + 64)].to_vec();
            bytes.splice(at..at + length, piece);
        }
        _ => bytes.truncate(at),
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = root().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn no_bytes_make_a_parser_panic_or_break_its_contract() {
    for (name, target) in targets::ALL {
        let inputs = corpus(name);
        assert!(inputs.len() >= 3, "the corpus of `{name}` is too small");
        for (number, input) in inputs.iter().enumerate() {
            target(input);
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ ((number as u64 + 1) << 32));
            for _ in 0..MUTATIONS / inputs.len() {
                let mut bytes = input.clone();
                for _ in 0..=random.next() % MOST_EDITS {
                    let other = &inputs[random.below(inputs.len())];
                    edit(&mut bytes, other, &mut random);
                }
                target(&bytes);
            }
        }
    }
}

#[test]
fn every_corpus_has_inputs_that_its_target_reads() {
    let read = |name: &str, reads: fn(&[u8]) -> bool| {
        let inputs = corpus(name);
        let good = inputs.iter().filter(|bytes| reads(bytes)).count();
        assert!(good >= 2, "only {good} of {} inputs of `{name}` are read at all", inputs.len());
    };
    read("manifest", |bytes| wasmgate::image::manifest::parse(bytes).is_ok());
    read("config", |bytes| wasmgate::image::config::parse(bytes).is_ok());
    read("locked_app", |bytes| {
        wasmgate::image::spin::parse(bytes).is_ok() || wasmgate::image::spin::manifest::parse(bytes).is_ok()
    });
    read("module", |bytes| wasmgate::image::module::read(bytes, "corpus").is_ok());
    read("tar", |bytes| {
        let limits = wasmgate::image::layer::UnpackLimits { layer: 1 << 20, file: 1 << 20 };
        let mut tree = wasmgate::image::layer::Tree::new(limits, [], std::sync::Arc::default());
        tree.apply(bytes, wasmgate::image::archive::Compression::Any).is_ok()
    });
    read("reference", |bytes| {
        std::str::from_utf8(bytes)
            .is_ok_and(|text| wasmgate::image::reference::Reference::parse(text).is_ok())
    });
    read("tree", |bytes| targets::applied(bytes).is_some_and(|files| !files.entries.is_empty()));
    read("credentials", |bytes| {
        wasmgate::registry::Login::from_docker_config(bytes).is_ok_and(|logins| !logins.is_empty())
            || wasmgate::registry::Login::from_dockercfg(bytes).is_ok_and(|logins| !logins.is_empty())
    });
    read("registry", |bytes| wasmgate::registry::foreign::challenge(bytes).is_some());
    read("review", |bytes| wasmgate::review::parse(bytes).is_ok());
    read("workload", |bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        let read = |kind| {
            wasmgate::workload::read(text, kind, "default").is_ok_and(|read| !read.images().is_empty())
        };
        [Kind::Pod, Kind::Deployment, Kind::CronJob].into_iter().any(read)
    });
    read("bundle", |bytes| wasmgate::policy::Bundle::from_tar_gz("corpus", &targets::packed(bytes)).is_ok());
    read("quantity", |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| wasmgate::quantity::Quantity::parse(text).is_ok())
    });
    read("host", |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<wasmgate::capability::HostPattern>().is_ok())
    });
    read("functions", |bytes| targets::said(bytes).is_some_and(|said| said.is_ok()));
    read("grants", |bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        wasmgate::grant::load::parse(text, "corpus").is_ok_and(|read| !read.grants.is_empty())
    });
}
