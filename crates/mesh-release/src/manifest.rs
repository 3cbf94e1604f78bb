//! A manifest: completed by a program for itself, and read as a build that is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mesh_proto::mesh::release::v1::Manifest;
use prost::Message as _;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use ring::digest::{Context, SHA256};

use super::descriptor::{self, FileSet};
use super::view::{Refused, View, undecodable};

/// The first field that the digest is of.
const FIRST: u32 = 5;
/// The digits of a digest that are shown to distinguish builds.
const SHOWN: usize = 8;

/// A build of a service.
#[derive(Clone, Debug)]
pub struct Build {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The contracts in the manifest.
    pub view: View,
}

impl Build {
    /// Reads an encoded manifest.
    ///
    /// # Errors
    ///
    /// The bytes are no manifest, or not all of one.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let manifest = Manifest::decode(bytes).map_err(undecodable)?;
        if manifest.service.is_empty() {
            return Err(Refused::NoManifest);
        }
        let found = digest(bytes).map_err(undecodable)?;
        if found != manifest.digest {
            return Err(Refused::Changed(manifest.digest, found));
        }
        Self::of(manifest)
    }

    fn of(manifest: Manifest) -> Result<Self, Refused> {
        let view = View::read(&manifest.contracts)?;
        Ok(Self { manifest, view })
    }

    /// A build of another framework: what it serves is known from its contracts, an encoded
    /// `google.protobuf.FileDescriptorSet`, and what it calls is not.
    ///
    /// # Errors
    ///
    /// The set is refused.
    pub fn foreign(service: &str, serves: Vec<String>, contracts: &[u8]) -> Result<Self, Refused> {
        let manifest = Manifest { service: service.to_owned(), serves, ..Manifest::default() };
        Self::of(complete(manifest, &[contracts])?)
    }

    /// The service.
    pub fn service(&self) -> &str {
        &self.manifest.service
    }

    /// Whether both are the same to others.
    pub fn is_same(&self, other: &Self) -> bool {
        self.service() == other.service() && self.manifest.digest == other.manifest.digest
    }

    /// The newest migration that it knows of each list, and the version below which programs fail behind them.
    pub fn schema(&self) -> BTreeMap<&str, (i64, i64)> {
        let lists = self.manifest.schema.iter().flat_map(|schema| &schema.lists).map(|list| {
            let most = |of: fn(&_) -> i64| list.migrations.iter().map(of).max().unwrap_or_default();
            (&*list.name, (most(|migration| migration.version), most(|migration| migration.breaks_before)))
        });
        lists.collect()
    }

    /// Its version. `beside` another build with the same version it has the begin of the digest, too.
    pub fn version(&self, beside: impl IntoIterator<Item = impl AsRef<Self>>) -> String {
        let Manifest { version, digest, .. } = &self.manifest;
        let is_other = |other: &Self| other.manifest.version == *version && other.manifest.digest != *digest;
        let version = if version.is_empty() { "?" } else { version };
        if beside.into_iter().any(|other| is_other(other.as_ref())) {
            return format!("{version}+{}", digest.get(..SHOWN).unwrap_or(digest));
        }
        version.to_owned()
    }
}

impl AsRef<Self> for Build {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.manifest.service, self.version([] as [&Self; 0]))
    }
}

/// Completes a manifest: sorts its lists, and adds the contracts that they reach and the digest. `sets` are the encoded
/// descriptor sets of the system.
///
/// # Errors
///
/// A set is refused.
pub fn complete(mut manifest: Manifest, sets: &[&[u8]]) -> Result<Manifest, Refused> {
    let mut files = BTreeMap::new();
    for set in sets {
        for file in descriptor::decode(set).map_err(undecodable)?.files {
            files.entry(file.name.clone()).or_insert(file);
        }
    }
    let view = View::read(&FileSet { files: files.into_values().collect() }.encode_to_vec())?;
    sort(&mut manifest);
    let served = view.methods_of(&manifest.serves).into_iter().map(str::to_owned);
    let methods: BTreeSet<_> = served.chain(manifest.calls.iter().map(|call| call.method.clone())).collect();
    let followed = manifest.follows.iter().flat_map(|followed| &followed.types);
    let stored = manifest.stores.iter().filter(|stored| stored.contains('.'));
    let messages: BTreeSet<_> = manifest.publishes.iter().chain(followed).chain(stored).cloned().collect();
    manifest.contracts = view.part(&methods, &messages);
    manifest.digest = digest(&manifest.encode_to_vec()).map_err(undecodable)?;
    Ok(manifest)
}

/// Sorts what has no order, so that equal builds have equal digests.
fn sort(manifest: &mut Manifest) {
    manifest.serves.sort();
    manifest.publishes.sort();
    manifest.stores.sort();
    manifest.calls.sort_by(|a, b| (&a.peer, &a.method).cmp(&(&b.peer, &b.method)));
    manifest.follows.sort_by(|a, b| a.source.cmp(&b.source));
    manifest.follows.iter_mut().for_each(|followed| followed.types.sort());
}

/// The digest of an encoded manifest. Fields that a later version adds belong to it.
fn digest(manifest: &[u8]) -> Result<String, prost::DecodeError> {
    let (mut context, mut rest) = (Context::new(&SHA256), manifest);
    while rest.has_remaining() {
        let begin = rest;
        let (number, kind) = decode_key(&mut rest)?;
        skip_field(kind, number, &mut rest, DecodeContext::default())?;
        if number >= FIRST {
            context.update(&begin[..begin.len() - rest.len()]);
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Declared;

    #[test]
    fn fields_of_a_later_version_belong_to_the_digest() {
        let mut manifest = Declared::new("things", "1.0").build().manifest;
        let later = [0xc2, 0x3e, 1, b'x'];
        let encode = |manifest: &Manifest| [&manifest.encode_to_vec()[..], &later].concat();
        manifest.digest = digest(&encode(&manifest)).unwrap();
        assert_eq!(Build::read(&encode(&manifest)).unwrap().manifest, manifest);
        // So a manifest is passed on as it is encoded.
        let lost = Build::read(&manifest.encode_to_vec()).unwrap_err();
        assert!(matches!(lost, Refused::Changed(..)), "{lost}");
    }
}
