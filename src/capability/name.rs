//! The names of capabilities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A name that is not in the taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown capability `{name}`, expected one of {known}")]
pub struct UnknownCapability {
    /// What was written.
    pub name: String,
    /// The known names, comma-separated.
    pub known: String,
}

macro_rules! capabilities {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A capability of the taxonomy, which a grant can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Capability { $($(#[$doc])* $variant,)* }

        impl Capability {
            /// Every capability, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in grants, policies and records.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

capabilities! {
    /// Standard input, output and error.
    Stdio = "stdio",
    /// Wall and monotonic clocks.
    Clock = "clock",
    /// Random bytes.
    Random = "random",
    /// Command-line arguments.
    Args = "args",
    /// Environment variables, by name.
    Env = "env",
    /// Files, by path and access.
    Fs = "fs",
    /// Outgoing TCP connections, by host.
    NetTcpConnect = "net.tcp.connect",
    /// UDP, by host.
    NetUdp = "net.udp",
    /// Name look-ups.
    NetDns = "net.dns",
    /// Listening sockets, by port.
    NetListen = "net.listen",
    /// Outgoing HTTP requests, by host.
    HttpOutbound = "http.outbound",
    /// Incoming HTTP requests.
    HttpInbound = "http.inbound",
    /// Redis, by host.
    DbRedis = "db.redis",
    /// `MySQL`, by host.
    DbMysql = "db.mysql",
    /// `PostgreSQL`, by host.
    DbPostgres = "db.postgres",
    /// MQTT, by host.
    Mqtt = "mqtt",
    /// Key-value stores, by name.
    Keyvalue = "keyvalue",
    /// `SQLite` databases, by name.
    Sqlite = "sqlite",
    /// Blob stores, by name.
    Blobstore = "blobstore",
    /// Message brokers, by name.
    Messaging = "messaging",
    /// Application variables and configuration, by name.
    Config = "config",
    /// Language models, by name.
    Ai = "ai",
    /// Neural-network inference.
    Nn = "nn",
    /// Events that start the program, by type.
    Trigger = "trigger",
    /// Calls to other components of the same application, by component id.
    ServiceChaining = "service-chaining",
    /// Threads.
    Threads = "threads",
    /// TLS done by the host.
    Tls = "tls",
    /// Logging and traces sent through the host.
    Telemetry = "telemetry",
    /// Native machine code.
    NativeExec = "native.exec",
    /// Native plug-ins loaded into the runtime.
    NativePlugin = "native.plugin",
    /// What a node adds to a container for a device, by the resource or the claim.
    Device = "device",
    /// An import that the taxonomy does not know, by name.
    UnknownImport = "unknown-import",
}

/// A parameter by which a grant can narrow a capability; the names are those of the grant's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parameter {
    /// Host patterns.
    Hosts,
    /// Trees of files.
    Paths,
    /// Read-only or read-write.
    Access,
    /// Name patterns.
    Names,
    /// Port numbers.
    Ports,
    /// Whether secrets are included.
    Secrets,
}

impl Parameter {
    /// The field of a grant.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Paths => "paths",
            Self::Access => "access",
            Self::Names => "names",
            Self::Ports => "ports",
            Self::Secrets => "secrets",
        }
    }
}

impl Capability {
    /// The parameters that narrow it. A grant with any other would say nothing, and is refused.
    pub const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Args => &[Parameter::Secrets],
            Self::Env | Self::Config => &[Parameter::Names, Parameter::Secrets],
            Self::Fs => &[Parameter::Paths, Parameter::Access, Parameter::Secrets],
            Self::NetTcpConnect
            | Self::NetUdp
            | Self::NetDns
            | Self::HttpOutbound
            | Self::DbRedis
            | Self::DbMysql
            | Self::DbPostgres
            | Self::Mqtt => &[Parameter::Hosts],
            Self::NetListen | Self::HttpInbound => &[Parameter::Ports],
            Self::Keyvalue
            | Self::Sqlite
            | Self::Blobstore
            | Self::Messaging
            | Self::Ai
            | Self::Nn
            | Self::Trigger
            | Self::ServiceChaining
            | Self::NativePlugin
            | Self::Device
            | Self::UnknownImport => &[Parameter::Names],
            Self::Stdio
            | Self::Clock
            | Self::Random
            | Self::Threads
            | Self::Tls
            | Self::Telemetry
            | Self::NativeExec => &[],
        }
    }

    /// Whether every container has it without a grant: printing, reading the clock, random bytes and a program's own
    /// arguments are harmless. Files, variables and the network are not among them. What the image brings itself is
    /// granted through [`super::Entry::own`].
    pub const fn is_default(self) -> bool {
        matches!(self, Self::Stdio | Self::Clock | Self::Random | Self::Args)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|c| c.as_str() == text).ok_or_else(|| UnknownCapability {
            name: text.to_string(),
            known: Self::ALL.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
