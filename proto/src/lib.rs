//! The contract: messages and services of holdfast.v1, generated from `proto/holdfast/v1` at build time.
//!
//! The law is in the comments of the .proto files; `proto/README.md` says how a field is added or retired.

/// holdfast.v1.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated: documented and sized where the .proto files say so"
)]
pub mod v1 {
    tonic::include_proto!("holdfast.v1");

    /// The descriptor of every file above and of those they import, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("holdfast.v1");
}
