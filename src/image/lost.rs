//! A mount, or a volume of an image, of which it is not known where a node mounts it, and why.

use crate::text;

/// A mount that may be anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its path in the pod, or in the config of the image.
    pub mount: String,
    /// It is one of the image's own volumes.
    pub(super) of_image: bool,
    /// Why it is not known where it is.
    pub why: Why,
}

/// Why it is not known where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It goes through a volume, which may hold a link.
    Volume,
    /// It goes through something that is not the same on every platform of the image.
    Platform,
    /// It goes through links of the kernel.
    Kernel,
    /// It goes through a link of the image that another mount hides, if that is mounted first.
    Order,
    /// It goes through a link of the image below one of the image's own volumes, which may be an empty folder.
    Emptied,
    /// It goes up by `..` from where a link of the image leads. runc takes that out of the path as text before it follows links
    /// (`runc:libcontainer/utils/utils.go`, `CleanPath`), and the kernel follows them first, as for crun
    /// (`crun:src/libcrun/utils.c`, `safe_openat`).
    Up,
    /// It is longer, or goes through more links, than is followed.
    Long,
}

impl Lost {
    /// Whether it is one of the image's own volumes.
    pub const fn is_of_image(&self) -> bool {
        self.of_image
    }

    /// Why nothing is known of the files that it may hide, and what to do.
    pub fn reason(&self) -> String {
        let what = if self.of_image { "the image's own volume at" } else { "the mount at" };
        let mend = match (self.of_image, self.why) {
            // A mount at its path is not known either.
            (true, Why::Emptied) => "build the image without it (`VOLUME`)",
            (true, _) => "build the image without it (`VOLUME`), or mount a volume at that very path",
            (false, Why::Emptied) => "mount it elsewhere, or build the image without that `VOLUME`",
            (false, _) => "mount it elsewhere",
        };
        format!(
            "{what} `{}` {} may lead it over any file of the image; {mend}",
            text::quoted(&self.mount, 200),
            self.why.said()
        )
    }
}

impl Why {
    /// What the path does, for messages.
    const fn said(self) -> &'static str {
        match self {
            Self::Volume => "is inside of another volume, and a link there",
            Self::Platform => {
                "goes through a file of the image that is not the same on every platform, and a link there"
            }
            Self::Kernel => {
                "goes through links that the kernel has in `/proc`, `/sys` or `/dev`, and one of them"
            }
            Self::Order => {
                "goes through a link of the image that another mount may hide, and the order of the two"
            }
            Self::Emptied => {
                "goes through a link of the image below one of the image's own volumes (`VOLUME`), where some nodes mount an empty \
                 folder (CRI-O with `image_volumes = \"bind\"`), and the missing link"
            }
            Self::Up => {
                "goes up by `..` from where a link of the image leads, which not all runtimes follow alike, and it"
            }
            Self::Long => {
                "is longer, or leads through more links or longer ones, than is followed here, and it"
            }
        }
    }
}
