//! Where an image runs.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::pod::Pod;
use crate::image::{DotEnv, ImageFacts, Program, RuntimeConfig};
use crate::inspection::Container;
use crate::runtime::Profile;
use crate::workload::{Role, Workload};

/// The facts, pod and runtime that decide what an image is handed.
pub(in crate::capability) struct RuntimeHost<'a> {
    pub facts: &'a ImageFacts,
    pub program: &'a Program,
    pub pod: Pod<'a>,
    pub profile: Option<&'a Profile>,
    /// Whether the program of another container of the pod may write into `/etc/hosts` or `/etc/resolv.conf` if its user may; `None`
    /// where it is not known what the others start.
    pub may_write_names: Option<&'a dyn Fn((Role, usize)) -> bool>,
    /// The image's own variables. The image chooses how many there are, and how many of them its application asks for.
    of_image: HashSet<&'a str>,
    /// What [`super::spin`] finds out once, and not for each component and variable.
    pub dotenv: OnceCell<DotEnvFiles<'a>>,
    pub configuration: OnceCell<Configuration<'a>>,
    /// The imports of clients that the lists of hosts do not hold, by the component that owns the module, if one does.
    pub clients: OnceCell<HashMap<Option<&'a str>, Vec<&'a str>>>,
    /// The components that the pod keeps; all of them if there is none.
    pub retained: OnceCell<Option<HashSet<&'a str>>>,
    /// How names of hosts resolve, found out for the first of them.
    pub resolution: OnceCell<Resolution>,
}

/// What resolves otherwise than in a pod that says nothing about it ([`super::resolution`]).
#[derive(Debug)]
pub(in crate::capability) struct Resolution {
    /// Why every name may.
    pub every: Option<Redirection>,
    /// Why every connection may, be it to a name or an address.
    pub connections: Option<Redirection>,
    /// Whether every name may that does not end with a dot.
    pub searched: bool,
    /// The names to which the pod gives an address, each from its end, and the field that does.
    pub given: BTreeMap<String, &'static str>,
    /// What the pod's own name in the zone of the cluster begins with, up to its namespace.
    pub in_zone: Option<String>,
}

/// The configuration that the shim reads.
#[derive(Debug)]
pub(in crate::capability) enum Configuration<'a> {
    /// None.
    Absent,
    /// One of the image, which was read.
    Known(&'a RuntimeConfig),
    /// One of which it is not known what it says, and where it is from, as evidence.
    Unknown(String),
}

/// The files of variables that the shim reads, found out once for all variables.
#[derive(Debug)]
pub(in crate::capability) struct DotEnvFiles<'a> {
    /// The files `.env`.
    pub usual: VariableFiles<'a>,
    /// Those of the providers of a configuration, in their order.
    pub of_providers: Vec<VariableFiles<'a>>,
}

/// Some of these files.
#[derive(Debug)]
pub(in crate::capability) struct VariableFiles<'a> {
    /// Those that were read: of the image alone, as nothing is mounted over them.
    pub known: Vec<&'a DotEnv>,
    /// Those of which it is not known what they say, as evidence.
    pub unknown: Vec<String>,
}

/// Why a name may lead elsewhere.
#[derive(Debug, Clone)]
pub(in crate::capability) struct Redirection {
    /// What leads it there, as a sentence without its end.
    pub seen: String,
    /// What ends that.
    pub cure: String,
}

impl<'a> RuntimeHost<'a> {
    pub fn new(
        workload: &'a Workload,
        container: &Container,
        known: (&'a ImageFacts, &'a Program),
        profile: Option<&'a Profile>,
    ) -> Self {
        Self {
            facts: known.0,
            program: known.1,
            pod: Pod::new(workload, container).in_image(known.0),
            profile,
            may_write_names: None,
            of_image: known.0.env.iter().map(String::as_str).collect(),
            dotenv: OnceCell::new(),
            configuration: OnceCell::new(),
            clients: OnceCell::new(),
            retained: OnceCell::new(),
            resolution: OnceCell::new(),
        }
    }

    /// Whether the image itself sets a variable.
    pub fn is_set_by_image(&self, name: &str) -> bool {
        self.of_image.contains(name)
    }
}
