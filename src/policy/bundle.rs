//! To be filled.

/// An OPA bundle: the compiled module, its data and its manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Name for records and messages.
    pub name: String,
    /// `revision` of the manifest; empty when there is none.
    pub revision: String,
}
