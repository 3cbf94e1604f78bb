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

#[cfg(test)]
mod tests {
    use super::*;

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
