//! Keys and values, and locks on them.
//!
//! A lock is advisory: it keeps those out who ask for it, and a holder that was paused may go on after it has lost it.
//! Whatever is guarded has to refuse a smaller [`Entry::lock_index`] than it has seen: that is the fencing token.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration` and `NotFound`. A write that ended with `Unreachable`
//! or `Timeout` may have been done: read before you conclude anything from a `false` at the second attempt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::blocking::{Blocking, Indexed};
use crate::error::Error;
use crate::transport::{Answer, Call, Transport, is_success};
use crate::wire::encode_path;

/// The endpoints under `/v1/kv`.
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    transport: &'a Transport,
}

/// A key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// At most 512 KiB.
    #[serde(default, deserialize_with = "decode")]
    pub value: Vec<u8>,
    /// What a writer may leave there.
    #[serde(default)]
    pub flags: u64,
    /// When it appeared.
    pub create_index: u64,
    /// When it changed last: what [`Kv::compare_and_set`] compares.
    pub modify_index: u64,
    /// How often it has been locked: a fencing token.
    pub lock_index: u64,
    /// Who holds its lock.
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

    /// One entry; `None` if there is none. Both can be waited behind.
    pub async fn get(self, key: &str, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<Option<Entry>>, Error> {
        let entries: Indexed<Vec<Entry>> = self.read(path(key).blocking(blocking.into())).await?;
        Ok(entries.map(|entries| entries.into_iter().next()))
    }

    /// All entries whose keys begin with `prefix`, in the order of keys.
    pub async fn list(self, prefix: &str, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<Vec<Entry>>, Error> {
        self.read(path(prefix).with("recurse", "true").blocking(blocking.into())).await
    }

    /// Their keys alone, up to and with the first `separator` behind the prefix if one is given: with `/`, one level
    /// of folders.
    pub async fn keys(self, prefix: &str, separator: Option<&str>) -> Result<Vec<String>, Error> {
        let call = path(prefix).with("keys", "true").with_some("separator", separator);
        Ok(self.read(call).await?.value)
    }

    /// Where nothing is, Consul answers 404, and nothing else does: so it is an answer here, with an index.
    async fn read<T: serde::de::DeserializeOwned + Default>(self, call: Call) -> Result<Indexed<T>, Error> {
        let call = call.with_some("dc", self.transport.datacenter());
        match self.transport.exchange(call).await? {
            (status, answer) if is_success(status) => answer.indexed(),
            (404, answer) if answer.index() > 0 => Ok(Indexed { index: answer.index(), value: T::default() }),
            (status, answer) => Err(answer.into_error(status)),
        }
    }

    /// Writes, whatever was there.
    pub async fn put(self, key: &str, value: impl Into<Bytes>) -> Result<(), Error> {
        self.transport.send_dc(put(key).body(value)).await.map(drop)
    }

    /// Writes if the entry has not changed since its `modify_index`, with 0 if there is none; `false` if it has.
    pub async fn compare_and_set(self, key: &str, value: impl Into<Bytes>, modify_index: u64) -> Result<bool, Error> {
        self.done(put(key).with("cas", &modify_index.to_string()).body(value)).await
    }

    /// Locks a key and writes who has it; `false` if another session holds it, or a lock delay is not over. For the
    /// session that holds it already, this writes and is `true`.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] 500 "invalid session": it has ended. Make a new one; `is_transient` cannot know.
    pub async fn acquire(self, key: &str, value: impl Into<Bytes>, session: &str) -> Result<bool, Error> {
        self.done(put(key).with("acquire", session).body(value)).await
    }

    /// Unlocks a key and writes; `false` if this session does not hold it.
    pub async fn release(self, key: &str, value: impl Into<Bytes>, session: &str) -> Result<bool, Error> {
        self.done(put(key).with("release", session).body(value)).await
    }

    /// Deletes an entry; no difference is made whether there was one.
    pub async fn delete(self, key: &str) -> Result<(), Error> {
        self.transport.send_dc(Call::delete(format!("/v1/kv/{}", encode_path(key)))).await.map(drop)
    }

    /// Deletes all entries whose keys begin with `prefix`. An empty prefix is everything.
    pub async fn delete_all(self, prefix: &str) -> Result<(), Error> {
        let call = Call::delete(format!("/v1/kv/{}", encode_path(prefix))).with("recurse", "true");
        self.transport.send_dc(call).await.map(drop)
    }

    /// Deletes an entry if it has not changed since its `modify_index`; `false` if it has.
    pub async fn compare_and_delete(self, key: &str, modify_index: u64) -> Result<bool, Error> {
        let call = Call::delete(format!("/v1/kv/{}", encode_path(key)));
        self.done(call.with("cas", &modify_index.to_string())).await
    }

    async fn done(self, call: Call) -> Result<bool, Error> {
        self.transport.send_dc(call).await.and_then(Answer::json)
    }
}

fn path(key: &str) -> Call {
    Call::get(format!("/v1/kv/{}", encode_path(key)))
}

fn put(key: &str) -> Call {
    Call::put(format!("/v1/kv/{}", encode_path(key)))
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn values_are_bytes_and_may_be_absent() {
        let entry = r#"{"LockIndex":1,"Key":"a","Flags":0,"Value":"AP8=","CreateIndex":5,"ModifyIndex":6}"#;
        let read: Entry = serde_json::from_str(entry).unwrap();
        assert_eq!((read.value, read.modify_index, read.session), (vec![0, 255], 6, None));
        let empty: Entry = serde_json::from_str(&entry.replace(r#""AP8=""#, "null")).unwrap();
        assert!(empty.value.is_empty());
        assert!(serde_json::from_str::<Entry>(&entry.replace("AP8=", "%")).is_err());
    }
}
