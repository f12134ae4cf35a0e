//! The gate against a node: both get the same image, byte for byte, and must see the same program in it, or the gate
//! must say that it could not look. The node is containerd's own code behind a real overlay mount (`tools/nodeoracle`).
mod archive;
mod compare;
mod gate;
mod generate;
mod image;
mod node;
mod oracle_itself;
mod writers;
