//! What starts where a node mounts an empty folder at each volume of the image (`VOLUME`), as CRI-O does with `image_volumes = "bind"`
//! (`cri-o:server/container_create.go`, `addImageVolumes`, `setupContainerMounts`), and not a copy of what the image has there, as
//! containerd. No object of the cluster tells which node does so, and runtimes that CRI-O drives (crun, youki) meet both. Shims are
//! containerd's.

use super::choice::Choice;
use crate::image::Program;
use crate::image::entry::View;
use crate::image::mounts::Lost;
use crate::text;

/// The choice of a runtime, unless it would start something else where the volumes of the image are empty, or a Wasm program would be
/// handed other files there. Where it starts nothing there, the container fails.
pub(super) fn or_emptied(view: &View<'_>, choose: fn(&View<'_>) -> Choice) -> Choice {
    let copied = choose(view);
    let Some(emptied) = view.emptied() else { return copied };
    if matches!(&copied, Choice::Starts(Program::Unknown { .. })) {
        return copied;
    }
    let reason = differs(view, &copied, &choose(&emptied));
    reason.map_or(copied, Choice::unknown)
}

/// Why it is not known what starts, or what it is handed.
fn differs(view: &View<'_>, copied: &Choice, emptied: &Choice) -> Option<String> {
    let lost = view.lost_where_emptied();
    if let Some(volume) = lost.filter(|lost| lost.is_of_image()) {
        return Some(volume.reason());
    }
    if matches!(emptied, Choice::Nothing(_)) {
        return None;
    }
    // A native program is asked for no files.
    let is_wasm = matches!(copied, Choice::Starts(Program::Wasm { .. }));
    let handed = || lost.map(Lost::reason).or_else(|| working_directory(view));
    let otherwise = is_wasm.then(handed).flatten();
    otherwise.or_else(|| (copied != emptied).then(|| another_program(view)))
}

/// Why another folder may be the working directory.
fn working_directory(view: &View<'_>) -> Option<String> {
    let folder = view.working_dir();
    view.needs_link_of_volume(folder).then(|| {
        format!(
            "the working directory `{}` goes through a link of the image below one of the image's own volumes (`VOLUME`), where some \
             nodes mount an empty folder (CRI-O with `image_volumes = \"bind\"`); write it without the link, or build the image without \
             that `VOLUME`",
            text::quoted(folder, 200)
        )
    })
}

fn another_program(view: &View<'_>) -> String {
    format!(
        "`{}` is below one of the image's own volumes (`VOLUME`), and something else of the name starts where a node mounts an empty \
         folder there (CRI-O with `image_volumes = \"bind\"`); build the image without a `VOLUME` over its programs, or write the whole \
         path of the program",
        text::quoted(view.first_argument().unwrap_or_default(), 200)
    )
}
