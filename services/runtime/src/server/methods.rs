//! The methods that there are, by their names: what a call may be called in traces and metrics.

use std::{collections::HashSet, sync::Arc};

use prost::Message;
use prost_types::FileDescriptorSet;

/// The name of every method that is not known to exist: the caller's words would be told, and make endless labels.
pub(super) const OTHER: &str = "_OTHER";

/// Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Methods(Arc<HashSet<Arc<str>>>);

impl Methods {
    /// Those of encoded file descriptor sets, of health and of reflection.
    pub(super) fn of(descriptors: &[&[u8]]) -> Result<Self, tonic_reflection::server::Error> {
        let standard = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut names = HashSet::new();
        for set in descriptors.iter().copied().chain(standard) {
            for file in FileDescriptorSet::decode(set)?.file {
                for service in &file.service {
                    let (package, service, methods) = (file.package(), service.name(), &service.method);
                    names.extend(methods.iter().map(|m| format!("{package}.{service}/{}", m.name()).into()));
                }
            }
        }
        Ok(Self(Arc::new(names)))
    }

    /// The method of a path, as `package.Service/Method`, or [`OTHER`].
    pub(super) fn name(&self, path: &str) -> Arc<str> {
        let known = path.strip_prefix('/').and_then(|name| self.0.get(name));
        known.cloned().unwrap_or_else(|| Arc::from(OTHER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_method_that_there_is_has_a_name() {
        let methods = Methods::of(&[]).unwrap();
        assert_eq!(&*methods.name("/grpc.health.v1.Health/Check"), "grpc.health.v1.Health/Check");
        for path in ["/grpc.health.v1.Health/Maria", "/maria@example.org", "/", "grpc.health.v1.Health/Check"] {
            assert_eq!(&*methods.name(path), OTHER, "{path}");
        }
        assert!(Methods::of(&[b"no descriptors"]).is_err());
    }
}
