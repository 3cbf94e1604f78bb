//! Reflection: lists the services of the process, in versions v1 and v1alpha. Older tools use v1alpha.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::call::{GrpcServices, OWN_DESCRIPTORS, add};

/// The full names of the services that [`serve`] adds.
pub const NAMES: [&str; 2] = [V1, V1ALPHA];

const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Adds both versions to the services of a process. `system` holds encoded descriptor sets of the system's contracts.
///
/// # Errors
///
/// A set does not decode, or no set has a service of the process.
pub fn serve(grpc: &mut GrpcServices, system: &[&[u8]]) -> anyhow::Result<()> {
    let names: BTreeSet<_> = grpc.keys().copied().collect();
    let builder = || {
        // Several sets may contain the same file.
        let sets = OWN_DESCRIPTORS.iter().chain(system);
        let sets = sets.fold(tonic_reflection::server::Builder::configure(), |sets, set| {
            sets.register_encoded_file_descriptor_set(set)
        });
        let sets = sets.include_reflection_service(false);
        names.iter().chain(&NAMES).fold(sets, |sets, name| sets.with_service_name(*name))
    };
    add(grpc, builder().build_v1().context("reflection")?);
    add(grpc, builder().build_v1alpha().context("reflection")?);
    Ok(())
}
