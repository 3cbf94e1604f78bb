//! Cursors: the opaque positions behind which a stream resumes.

use uuid::Uuid;

/// The error for bytes that are no cursor of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A position in the history of one subject: the database's epoch, the subject, and a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectCursor {
    /// The epoch of the database that issued the cursor.
    pub epoch: Uuid,
    /// The subject.
    pub subject: Uuid,
    /// The last revision that was read.
    pub revision: i64,
}

impl SubjectCursor {
    /// The encoded cursor, as a request carries it.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.epoch.as_bytes(), self.subject.as_bytes(), &self.revision.to_be_bytes()[..]].concat()
    }

    /// Decodes the cursor of a request for `subject`. `None` for empty bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if no stream of this subject issued it. Do not retry with the same bytes.
    pub fn parse(bytes: &[u8], subject: Uuid) -> Result<Option<Self>, Malformed> {
        let parse = || {
            let (epoch, rest) = bytes.split_first_chunk::<16>()?;
            let (of, rest) = rest.split_first_chunk::<16>()?;
            let revision = i64::from_be_bytes(rest.try_into().ok()?);
            let cursor = Self { epoch: Uuid::from_bytes(*epoch), subject: Uuid::from_bytes(*of), revision };
            (cursor.subject == subject && revision > 0).then_some(cursor)
        };
        if bytes.is_empty() { Ok(None) } else { parse().map(Some).ok_or(Malformed) }
    }
}

/// A position in a feed: the database's epoch and a position. During a snapshot of that position it also holds the last
/// subject that was sent, or nil before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    /// The epoch of the database that issued the cursor.
    pub epoch: Uuid,
    /// The last position that was read.
    pub position: i64,
    /// The last subject of a snapshot that was sent; `None` outside a snapshot.
    pub snapshot: Option<Uuid>,
}

impl FeedCursor {
    /// The encoded cursor, as a request carries it.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [self.epoch.as_bytes(), &self.position.to_be_bytes()[..]].concat();
        bytes.extend(self.snapshot.iter().flat_map(Uuid::as_bytes));
        bytes
    }

    /// Decodes the cursor of a request. `None` for empty bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if no feed issued it. Do not retry with the same bytes.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let parse = || {
            let (epoch, rest) = bytes.split_first_chunk::<16>()?;
            let (position, rest) = rest.split_first_chunk::<8>()?;
            let position = i64::from_be_bytes(*position);
            let snapshot = if rest.is_empty() { None } else { Some(Uuid::from_slice(rest).ok()?) };
            (position >= 0).then_some(Self { epoch: Uuid::from_bytes(*epoch), position, snapshot })
        };
        if bytes.is_empty() { Ok(None) } else { parse().map(Some).ok_or(Malformed) }
    }
}

/// A position in the log of a service: the database's epoch, a position, and the time of the row there, by which a
/// cursor of another history is recognised. During a snapshot behind that position it also holds the last key that was
/// sent, or nothing before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCursor {
    /// The epoch of the database that issued the cursor.
    pub epoch: Uuid,
    /// The last position that was read.
    pub position: i64,
    /// The time of the row at the position, in microseconds since 1970; 0 before the first row.
    pub told: i64,
    /// The last key of a snapshot that was sent; `None` outside a snapshot.
    pub snapshot: Option<String>,
}

impl LogCursor {
    /// The first bytes, which the cursors of feeds do not have.
    const MARK: &[u8] = b"log\x01";

    /// The encoded cursor, as a request carries it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (position, told) = (self.position.to_be_bytes(), self.told.to_be_bytes());
        let key = self.snapshot.as_ref().map(String::as_bytes);
        // The length of the key and one; 0 without a key. A cursor that was cut off has no other length.
        let length = key.map_or(0, |key| key.len() as u64 + 1).to_be_bytes();
        [Self::MARK, self.epoch.as_bytes(), &position, &told, &length, key.unwrap_or_default()].concat()
    }

    /// Decodes the cursor of a request. `None` for empty bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if no log issued it. Do not retry with the same bytes.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let parse = || {
            let (epoch, rest) = bytes.strip_prefix(Self::MARK)?.split_first_chunk::<16>()?;
            let (position, rest) = rest.split_first_chunk::<8>()?;
            let (told, rest) = rest.split_first_chunk::<8>()?;
            let (length, key) = rest.split_first_chunk::<8>()?;
            let snapshot = match u64::from_be_bytes(*length) {
                0 if key.is_empty() => None,
                length if length == key.len() as u64 + 1 => Some(String::from_utf8(key.to_vec()).ok()?),
                _ => return None,
            };
            let (position, told) = (i64::from_be_bytes(*position), i64::from_be_bytes(*told));
            (position >= 0).then_some(Self { epoch: Uuid::from_bytes(*epoch), position, told, snapshot })
        };
        if bytes.is_empty() { Ok(None) } else { parse().map(Some).ok_or(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_cursor_round_trips_and_is_no_cursor_of_a_feed() {
        for snapshot in [None, Some(String::new()), Some("ключ".to_owned())] {
            let cursor = LogCursor { epoch: Uuid::new_v4(), position: 7, told: -3, snapshot };
            let bytes = cursor.to_bytes();
            assert_eq!(LogCursor::parse(&bytes), Ok(Some(cursor)));
            for cut in 1..bytes.len() {
                assert_eq!(LogCursor::parse(&bytes[..cut]), Err(Malformed), "{cut}");
            }
        }
        let feed = FeedCursor { epoch: Uuid::new_v4(), position: 7, snapshot: Some(Uuid::now_v7()) };
        assert_eq!(LogCursor::parse(&feed.to_bytes()), Err(Malformed));
        assert_eq!(LogCursor::parse(b""), Ok(None));
    }

    #[test]
    fn subject_cursor_round_trips_for_its_subject_only() {
        let cursor = SubjectCursor { epoch: Uuid::new_v4(), subject: Uuid::now_v7(), revision: 7 };
        let read = SubjectCursor::parse;
        assert_eq!(read(&cursor.to_bytes(), cursor.subject), Ok(Some(cursor)));
        assert_eq!(read(b"", cursor.subject), Ok(None));
        assert_eq!(read(&cursor.to_bytes(), Uuid::now_v7()), Err(Malformed));
        assert_eq!(read(&cursor.to_bytes()[1..], cursor.subject), Err(Malformed));
        assert_eq!(read(b"nonsense", cursor.subject), Err(Malformed));
    }

    #[test]
    fn feed_cursor_round_trips() {
        for snapshot in [None, Some(Uuid::nil()), Some(Uuid::now_v7())] {
            let cursor = FeedCursor { epoch: Uuid::new_v4(), position: 7, snapshot };
            assert_eq!(FeedCursor::parse(&cursor.to_bytes()), Ok(Some(cursor)));
            assert_eq!(FeedCursor::parse(&cursor.to_bytes()[1..]), Err(Malformed));
        }
        assert_eq!(FeedCursor::parse(b""), Ok(None));
        assert_eq!(FeedCursor::parse(b"nonsense"), Err(Malformed));
    }
}
