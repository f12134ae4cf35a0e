//! Layers with a table of contents beside their tar: eStargz, zstd:chunked, and what other snapshotters that pull lazily read. Such a
//! node mounts the files that the table names, whose digest is in an annotation, and does not unpack the tar
//! (`stargz-snapshotter:docs/estargz.md`, `…/docs/verification.md`; `containers/storage:pkg/chunked/compression_linux.go`).
//! Whether the two agree is not compared.

/// How annotations of layers and manifests begin by which a snapshotter finds its table.
const ANNOTATIONS: [&str; 5] = [
    // stargz, nydus, overlaybd.
    "containerd.io/snapshot/",
    "io.containers.estargz.",
    "io.containers.zstd-chunked.",
    "io.github.containers.zstd-chunked.",
    "com.amazon.soci.",
];
/// The table of eStargz, a file of the layer.
pub const TABLE: &str = "/stargz.index.json";
/// What the footers of layers with a table hold, which lead to it without an annotation: that of zstd:chunked, and that of eStargz
/// (`stargz-snapshotter:estargz/zstdchunked/zstdchunked.go`, `…/estargz/gzip.go`).
const FOOTERS: [&[u8]; 2] = [b"GNUlInUx", b"STARGZ"];
/// More bytes than a footer has.
const FOOTER: usize = 96;

/// What is wrong with such a layer, and how it is mended.
pub const WRONG: &str = "so that a node which pulls images lazily may mount other files than those of the tar; build it without \
                         (buildx: `compression=gzip`, nerdctl and podman: push it again without conversion)";

/// What an image is with a layer of this type, which is not one of tar. A layer that is a file system of EROFS is mounted by a node
/// without being unpacked. The types of such layers have a name of their own (`containerd:internal/erofsutils/mount.go`,
/// `IsErofsMediaType`), and in earlier versions of containerd an ending.
pub fn unread(media_type: &str) -> String {
    let ending = media_type.rsplit_once('.').map(|(_, ending)| ending);
    if media_type.starts_with("application/vnd.erofs.layer") || ending == Some("erofs") {
        return format!(
            "a container image with the layer `{media_type}`, an EROFS file system, which is not read; push it with layers of tar"
        );
    }
    format!("a container image with the unknown layer `{media_type}`")
}

/// Whether an annotation leads a snapshotter to a table.
pub fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.iter().any(|start| key.starts_with(start))
}

/// Whether a compressed layer ends with a footer that leads to a table.
pub fn has_footer(layer: &[u8]) -> bool {
    let end = layer.get(layer.len().saturating_sub(FOOTER)..).unwrap_or_default();
    FOOTERS.iter().any(|mark| end.windows(mark.len()).any(|window| window == *mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_contents_is_known_by_its_annotation_or_its_footer() {
        for (key, known) in [
            ("containerd.io/snapshot/stargz/toc.digest", true),
            ("containerd.io/snapshot/nydus-bootstrap", true),
            ("io.github.containers.zstd-chunked.manifest-checksum", true),
            ("io.containers.estargz.uncompressed-size", true),
            ("com.amazon.soci.index-digest", true),
            ("containerd.io/uncompressed", false),
            ("org.opencontainers.image.created", false),
        ] {
            assert_eq!(is_annotation(key), known, "{key}");
        }
        let footer = |mark: &[u8]| [&[0; 500][..], mark, &[0; 30][..]].concat();
        assert!(has_footer(&footer(b"STARGZ")) && has_footer(&footer(b"GNUlInUx")) && has_footer(b"STARGZ"));
        assert!(!has_footer(&[&b"STARGZ"[..], &[0; 500][..]].concat()) && !has_footer(b""));
    }
}
