//! The ids of operations.

use std::collections::{BTreeMap, BTreeSet};

use crate::binding::Binding;

/// An id for each binding: `Service_Method`; with a number for further bindings, and with the package if two services
/// have one name.
pub(super) fn of(bindings: &[Binding]) -> Vec<String> {
    // The full name of the first service of each name.
    let mut services: BTreeMap<String, String> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut id = |binding: &Binding| {
        let service = binding.method.parent_service();
        let owner = services.entry(service.name().to_owned()).or_insert_with(|| service.full_name().to_owned());
        let prefix = if owner == service.full_name() { service.name() } else { service.full_name() };
        let base = format!("{}_{}", prefix.replace('.', "_"), binding.method.name());
        let numbered = (2..).map(|number| format!("{base}_{number}"));
        // A set of ids is finite: one is free.
        let id = std::iter::once(base.clone()).chain(numbered).find(|id| !taken.contains(id)).unwrap_or(base);
        taken.insert(id.clone());
        id
    };
    bindings.iter().map(&mut id).collect()
}
