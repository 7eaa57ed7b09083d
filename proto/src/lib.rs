//! The gRPC service framepipe.v1: messages, client and server, generated from `framepipe/v1/framepipe.proto`.
//! The `.proto` file documents every message and error.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated code; the .proto file holds the documentation"
)]

/// The package `framepipe.v1`.
pub mod v1 {
    tonic::include_proto!("framepipe.v1");
}

/// The encoded descriptors of the service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
