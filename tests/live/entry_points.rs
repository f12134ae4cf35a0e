//! No way around the gate, on a real Kubernetes: every way in which a program gets into a pod, the operator of Spin
//! applications, and the model of the API server that the fast tests use, held to the real thing.

mod api;
mod cluster;
mod corpus;
mod creation;
mod meddler;
mod model;
mod plug_ins;
mod rights;
mod running;
mod spin;
mod webhooks;
