//! What a runtime hands to a program, whatever the image says, as data: `capability` turns it into entries with their
//! evidence.

/// What one kind of program is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// This and nothing else.
    Only(HandedOver),
    /// What Spin's manifest names for each component.
    SpinManifest,
    /// What Spin gives a single Wasm layer: an `http` trigger, and nothing else.
    SpinLayer,
    /// Unknown, so everything.
    Everything,
}

/// What a runtime can hand over. All runtimes hand over clocks and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// Standard input, output and error, and the arguments.
    pub command_line: bool,
    /// Which of the container's variables.
    pub variables: Variables,
    /// Which files.
    pub files: Files,
    /// Sockets to and from anywhere, and name look-ups.
    pub network: bool,
    /// The HTTP server that the shim runs in front of the program; outgoing requests come with it.
    pub http: Option<HttpServer>,
    /// What only some runtimes hand over.
    pub extras: &'static [Extra],
}

/// A thing that only some runtimes hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Functions that plug-ins of the node may provide.
    PlugInFunctions {
        /// The engine that loads them, for messages.
        engine: &'static str,
    },
    /// Threads.
    Threads,
}

impl HandedOver {
    /// What every command gets on every runtime.
    pub const COMMAND: Self = Self {
        command_line: true,
        variables: Variables::All,
        files: Files::None,
        network: false,
        http: None,
        extras: &[],
    };
}

/// Which variables of the container a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// All of them.
    All,
    /// All but those of the HTTP server, plus the id of the request.
    OfRequest,
    /// None.
    None,
}

/// Which files a program can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// `/`, with every mount in it.
    Root,
    /// The container's working directory, with every mount in it.
    WorkingDirectory,
    /// None.
    None,
}

/// The HTTP server of a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpServer {
    /// The variable that sets its address.
    pub address: &'static str,
    /// The other variables that configure it; the program does not see them.
    pub own: &'static [&'static str],
    /// Its default port.
    pub port: u16,
}
