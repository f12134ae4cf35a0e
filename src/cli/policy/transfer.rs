//! `wasmgate policy push` and `wasmgate policy pull`: bundles in a registry, in the layout that opa and the gate read.

use serde_json::json;

use super::{archive, trial};
use crate::cli::args::{PolicyPullOptions, PolicyPushOptions};
use crate::cli::{Error, Exit, build, inspect};
use crate::files;
use crate::image::reference::Reference;
use crate::lookup::{self, Artifact};
use crate::policy::bundle::name_of;
use crate::policy::contents::MAX_PACKED_BYTES;
use crate::policy::{Contents, Engine, Limits};
use crate::{sources, text};

/// Pushes an archive that the gate loads.
pub async fn push(options: &PolicyPushOptions) -> Result<Exit, Error> {
    let PolicyPushOptions { bundle, to, output, images } = options;
    let settings = build::settings(&images.gate())?;
    if bundle.is_dir() {
        return Err(Error::PushFolder { path: bundle.clone() });
    }
    let reference = reference(to)?;
    if build::registries(&settings)?.is_on_disk(&reference) {
        let message = "a folder with image layouts stands in for its registry, and bundles are pushed to registries alone; leave \
                       --image-layouts out";
        return Err(Error::ReadPlace { written: to.clone(), message: message.into() });
    }
    trial::loaded(bundle, (&Engine::for_command()?, Limits::default())).await?;
    let layer = files::read(bundle, MAX_PACKED_BYTES)
        .map_err(|source| crate::policy::Error::ReadBundle { path: bundle.clone(), source })?;
    let title = format!("{}.tar.gz", name_of(bundle));
    let artifact = Artifact { layer, media_type: sources::LAYER, title };
    let digest = lookup::push(&settings.file.images, &reference, artifact).await?;
    let pushed = format!("oci://{reference}");
    let report = json!({ "reference": pushed, "digest": digest.to_string() });
    let said = |_: &_| format!("{}: pushed, {digest}\n", text::line(&pushed));
    inspect::show(&report, *output, said).map(|()| Exit::Success)
}

/// Fetches the archive of a bundle as it was pushed, and writes it if it is one.
pub async fn pull(options: &PolicyPullOptions) -> Result<Exit, Error> {
    let PolicyPullOptions { from, archive, output, images } = options;
    let settings = build::settings(&images.gate())?;
    let reference = reference(from)?;
    let pulled = format!("oci://{reference}");
    let (bytes, digest) = sources::pull(reference, build::registries(&settings)?).await?;
    Contents::from_tar_gz(&pulled, &bytes)?;
    archive::write(archive, &bytes)?;
    let path = archive.display().to_string();
    let report = json!({ "archive": path, "bytes": bytes.len(), "reference": pulled, "digest": digest });
    let said = |_: &_| format!("{}: {} bytes, {digest}\n", text::line(&path), bytes.len());
    inspect::show(&report, *output, said).map(|()| Exit::Success)
}

/// A place in a registry, with or without the `oci://` that the configuration needs.
fn reference(written: &str) -> Result<Reference, Error> {
    let image = written.strip_prefix("oci://").unwrap_or(written);
    sources::place(image).map_err(|message| Error::ReadPlace { written: written.into(), message })
}
