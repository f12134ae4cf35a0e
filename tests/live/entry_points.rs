//! No way around the gate, on a real Kubernetes: every way in which a program gets into a pod, the operator of Spin
//! applications, and the model of the API server in the fast tests, compared with the real one.

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
