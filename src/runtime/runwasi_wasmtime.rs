//! runwasi's wasmtime shim (`runwasi:crates/containerd-shim-wasmtime/src/{instance,http_proxy}.rs`).

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::{Files, Handover, HttpServer, Things, Variables};
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWasmtime;

impl Runtime for RunwasiWasmtime {
    fn choose(&self, view: &View<'_>) -> Choice {
        runwasi::choose(view)
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::unpacks(shape, packaging)
            && matches!(kind, ImageKind::Module | ImageKind::Component | ImageKind::HttpComponent)
    }

    fn provides(&self, _feature: Feature) -> bool {
        false
    }

    /// A command gets all variables and arguments, `/` with every mount, and (as a component) the whole network;
    /// wasmtime's preview-1 `sock_*` answer "not a socket", so core modules have no network. A component that answers
    /// HTTP gets only the variables and outgoing requests.
    fn hands_over(&self, kind: ImageKind) -> Handover {
        let command = Things { files: Files::Root, ..Things::COMMAND };
        match kind {
            ImageKind::Module => Handover::Things(command),
            ImageKind::Component => Handover::Things(Things { network: true, ..command }),
            ImageKind::HttpComponent => Handover::Things(Things {
                command_line: false,
                variables: Variables::OfRequest,
                http: Some(HttpServer {
                    address: "WASMTIME_HTTP_PROXY_SOCKET_ADDR",
                    own: &["WASMTIME_HTTP_BACKLOG"],
                    port: 8080,
                }),
                ..Things::COMMAND
            }),
            ImageKind::SpinApp | ImageKind::Linux | ImageKind::Unknown => Handover::Everything,
        }
    }

    fn compiler(&self, packaging: Packaging) -> Compiler {
        match packaging {
            Packaging::Layers => Compiler::Shim,
            Packaging::RootFilesystem => Compiler::Container,
        }
    }

    /// The shim adds only `wasmtime_wasi::p2` to a command's linker.
    fn lacks_http(&self, kind: ImageKind) -> bool {
        kind == ImageKind::Component
    }
}
