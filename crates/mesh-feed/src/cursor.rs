//! Cursors: opaque places at which a stream is resumed.

use uuid::Uuid;

/// The bytes are no cursor of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A place in the history of one subject: the database's epoch, the subject, a revision of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectCursor {
    /// The epoch of the database that gave it out.
    pub epoch: Uuid,
    /// The subject.
    pub subject: Uuid,
    /// The last revision that was read.
    pub revision: i64,
}

impl SubjectCursor {
    /// As a request carries it.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.epoch.as_bytes(), self.subject.as_bytes(), &self.revision.to_be_bytes()[..]].concat()
    }

    /// Reads the cursor of a request for `subject`; empty bytes are no cursor.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it was never given out for this subject.
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

/// A place in a feed: the database's epoch and a position; in a snapshot of that position also the last subject that was
/// sent, nil if none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    /// The epoch of the database that gave it out.
    pub epoch: Uuid,
    /// The last position that was read.
    pub position: i64,
    /// How far a snapshot has come.
    pub snapshot: Option<Uuid>,
}

impl FeedCursor {
    /// As a request carries it.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [self.epoch.as_bytes(), &self.position.to_be_bytes()[..]].concat();
        bytes.extend(self.snapshot.iter().flat_map(Uuid::as_bytes));
        bytes
    }

    /// Reads the cursor of a request; empty bytes are no cursor.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it was never given out.
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
    fn subject_cursor_is_read_as_it_is_written_and_only_for_its_subject() {
        let cursor = SubjectCursor { epoch: Uuid::new_v4(), subject: Uuid::now_v7(), revision: 7 };
        let read = SubjectCursor::parse;
        assert_eq!(read(&cursor.to_bytes(), cursor.subject), Ok(Some(cursor)));
        assert_eq!(read(b"", cursor.subject), Ok(None));
        assert_eq!(read(&cursor.to_bytes(), Uuid::now_v7()), Err(Malformed));
        assert_eq!(read(&cursor.to_bytes()[1..], cursor.subject), Err(Malformed));
        assert_eq!(read(b"nonsense", cursor.subject), Err(Malformed));
    }

    #[test]
    fn feed_cursor_is_read_as_it_is_written() {
        for snapshot in [None, Some(Uuid::nil()), Some(Uuid::now_v7())] {
            let cursor = FeedCursor { epoch: Uuid::new_v4(), position: 7, snapshot };
            assert_eq!(FeedCursor::parse(&cursor.to_bytes()), Ok(Some(cursor)));
            assert_eq!(FeedCursor::parse(&cursor.to_bytes()[1..]), Err(Malformed));
        }
        assert_eq!(FeedCursor::parse(b""), Ok(None));
        assert_eq!(FeedCursor::parse(b"nonsense"), Err(Malformed));
    }
}
