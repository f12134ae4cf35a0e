//! Compares the gate with a node: both get the same image, byte for byte, and must see the same program in it, or the
//! gate must say that it cannot judge it. The node is containerd's own code with a real overlay mount
//! (`tools/nodeoracle`); how the kubelet reads variables is its own code too (`tools/kubeletoracle`).
mod archive;
mod compare;
mod coverage;
mod document;
mod expansion;
mod forms;
mod gate;
mod generate;
mod handed;
mod image;
mod mutate;
mod mutated;
mod node;
mod oracle_itself;
mod property;
mod required;
mod resolver;
mod starts;
mod tokens;
mod writers;
