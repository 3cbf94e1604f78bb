//! Reads, writes and locks keys.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration` and `NotFound`. [`Error::is_transient`] says whether to
//! retry. A write that failed with `Unreachable` or `Timeout` may have happened: if the retry returns `false`, read the
//! entry.
//!
//! # Does not
//!
//! - Enforce locks: they are advisory, and a paused holder may continue after it lost the lock. The guarded resource
//!   must reject an [`Entry::lock_index`], the fencing token, that is smaller than the largest it has seen.
//!
//! # See
//!
//! - [KV store](https://developer.hashicorp.com/consul/api-docs/kv)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::blocking::{Blocking, Indexed};
use crate::error::Error;
use crate::transport::{Request, Response, Transport, is_success};
use crate::wire::encode_path;

/// The endpoints under `/v1/kv`.
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    transport: &'a Transport,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// The value, at most 512 KiB.
    #[serde(default, deserialize_with = "decode")]
    pub value: Vec<u8>,
    /// An opaque number that a writer may set; 0 by default.
    #[serde(default)]
    pub flags: u64,
    /// The index of the creation.
    pub create_index: u64,
    /// The index of the last change, for [`Kv::compare_and_set`].
    pub modify_index: u64,
    /// The number of times that the key was locked: the fencing token.
    pub lock_index: u64,
    /// The id of the session that holds the lock.
    #[serde(default)]
    pub session: Option<String>,
}

fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

impl<'a> Kv<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Returns one entry; `None` if the key does not exist. A blocking query works in both cases.
    pub async fn get(self, key: &str, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<Option<Entry>>, Error> {
        let entries: Indexed<Vec<Entry>> = self.read(get(key).blocking(blocking.into())).await?;
        Ok(entries.map(|entries| entries.into_iter().next()))
    }

    /// Returns all entries whose keys start with `prefix`, sorted by key.
    pub async fn list(self, prefix: &str, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<Vec<Entry>>, Error> {
        self.read(get(prefix).parameter("recurse", "true").blocking(blocking.into())).await
    }

    /// Returns all keys that start with `prefix`, sorted. A `separator` cuts them after its first occurrence behind the
    /// prefix: `/` lists one level of folders.
    pub async fn keys(self, prefix: &str, separator: Option<&str>) -> Result<Vec<String>, Error> {
        let request = get(prefix).parameter("keys", "true").optional_parameter("separator", separator);
        Ok(self.read(request).await?.value)
    }

    /// Maps a 404 with an index to the default: Consul answers so for missing keys only.
    async fn read<T: serde::de::DeserializeOwned + Default>(self, request: Request) -> Result<Indexed<T>, Error> {
        let request = request.optional_parameter("dc", self.transport.datacenter());
        match self.transport.exchange(request).await? {
            (status, response) if is_success(status) => response.indexed(),
            (404, response) if response.index() > 0 => Ok(Indexed { index: response.index(), value: T::default() }),
            (status, response) => Err(response.into_error(status)),
        }
    }

    /// Writes an entry unconditionally. Idempotent.
    pub async fn put(self, key: &str, value: impl Into<Bytes>) -> Result<(), Error> {
        self.transport.send_dc(put(key).body(value)).await.map(drop)
    }

    /// Writes an entry if it still has this `modify_index`; otherwise returns `false`. 0 stands for a missing key.
    pub async fn compare_and_set(self, key: &str, value: impl Into<Bytes>, modify_index: u64) -> Result<bool, Error> {
        self.send_for_bool(put(key).parameter("cas", &modify_index.to_string()).body(value)).await
    }

    /// Locks a key for a session and writes its value. Returns `false` if another session holds the lock or a lock
    /// delay is running. The current holder may call it again to write.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] 500 "invalid session": the session has ended. Create a new one; a retry fails again, although
    /// `is_transient` returns `true`.
    pub async fn acquire(self, key: &str, value: impl Into<Bytes>, session: &str) -> Result<bool, Error> {
        self.send_for_bool(put(key).parameter("acquire", session).body(value)).await
    }

    /// Unlocks a key and writes its value. Returns `false` if this session does not hold the lock.
    pub async fn release(self, key: &str, value: impl Into<Bytes>, session: &str) -> Result<bool, Error> {
        self.send_for_bool(put(key).parameter("release", session).body(value)).await
    }

    /// Deletes an entry. Idempotent: accepts an unknown key.
    pub async fn delete(self, key: &str) -> Result<(), Error> {
        self.transport.send_dc(delete(key)).await.map(drop)
    }

    /// Deletes all entries whose keys start with `prefix`. Idempotent. An empty prefix deletes the whole store.
    pub async fn delete_all(self, prefix: &str) -> Result<(), Error> {
        self.transport.send_dc(delete(prefix).parameter("recurse", "true")).await.map(drop)
    }

    /// Deletes an entry if it still has this `modify_index`; otherwise returns `false`.
    pub async fn compare_and_delete(self, key: &str, modify_index: u64) -> Result<bool, Error> {
        self.send_for_bool(delete(key).parameter("cas", &modify_index.to_string())).await
    }

    async fn send_for_bool(self, request: Request) -> Result<bool, Error> {
        self.transport.send_dc(request).await.and_then(Response::json)
    }
}

fn get(key: &str) -> Request {
    Request::get(format!("/v1/kv/{}", encode_path(key)))
}

fn put(key: &str) -> Request {
    Request::put(format!("/v1/kv/{}", encode_path(key)))
}

fn delete(key: &str) -> Request {
    Request::delete(format!("/v1/kv/{}", encode_path(key)))
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn entry_decodes_bytes_and_an_absent_value() {
        let entry = r#"{"LockIndex":1,"Key":"a","Flags":0,"Value":"AP8=","CreateIndex":5,"ModifyIndex":6}"#;
        let read: Entry = serde_json::from_str(entry).unwrap();
        assert_eq!((read.value, read.modify_index, read.session), (vec![0, 255], 6, None));
        let empty: Entry = serde_json::from_str(&entry.replace(r#""AP8=""#, "null")).unwrap();
        assert!(empty.value.is_empty());
        assert!(serde_json::from_str::<Entry>(&entry.replace("AP8=", "%")).is_err());
    }
}
