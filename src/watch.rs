//! The live picture of a Kubernetes cluster: what a directory of manifests says to a gate outside of one, kept up to
//! date by watches, and the pull secrets of pods, read on demand.
