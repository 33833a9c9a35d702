//! Building images: a Dockerfile becomes a graph, the graph is solved with a cache, the result is an image.
//!
//! Knows no container, no HTTP and no gRPC: what it needs of the outside comes through small traits.

pub mod dockerfile;
pub mod graph;
pub mod ignore;
pub mod plan;
pub mod solve;
pub mod words;
