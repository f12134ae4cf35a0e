//! Checkpoints of containers that are packed as images. A node restores one in the place of what the image names: it creates the
//! container from the image that a file of the checkpoint names, and continues the process whose memory the checkpoint holds
//! (`containerd:internal/cri/server/container_checkpoint_linux.go` of 2.1 to 2.3, `CRImportCheckpoint`, where CRIU is installed, by
//! default before 2.2.7 and 2.3.4, and no more in 2.4; `cri-o:server/container_restore.go`). The shims of runwasi refuse that
//! (`runwasi:crates/containerd-shimkit/src/sandbox/shim/local.rs`), crun does it.

use super::archive::{Fault, refused};
use super::malformed::{Malformed, short};

/// How the annotations of a manifest or an index begin that make a node restore
/// (`checkpoint-restore/checkpointctl:lib/metadata.go`; `cri-o:server/container_restore.go`, `checkIfCheckpointOCIImage`).
const ANNOTATIONS: [&str; 2] = ["org.criu.checkpoint.", "io.kubernetes.cri-o.annotations.checkpoint."];
/// A file without which no node restores.
const FILE: &str = "/spec.dump";
/// What such an image leads to, and how that is mended.
const WRONG: &str = "of which a node restores a container with another program, of another image; push the image that the container \
                     was made from";

/// Refuses annotations that make a node restore a container.
pub(super) fn refuse_annotations<'a>(mut keys: impl Iterator<Item = &'a str>) -> Result<(), Malformed> {
    match keys.find(|key| ANNOTATIONS.iter().any(|start| key.starts_with(start))) {
        Some(key) => {
            Err(Malformed::new(format!("the annotation `{}` marks a checkpoint, {WRONG}", short(key))))
        }
        None => Ok(()),
    }
}

/// Refuses the file that every checkpoint has: a second manifest with the same config may have the annotation, and a node takes
/// either.
pub(super) fn refuse_file(path: &str) -> Result<(), Fault> {
    if path == FILE { Err(refused(format!("`{path}` is of a checkpoint, {WRONG}"))) } else { Ok(()) }
}
