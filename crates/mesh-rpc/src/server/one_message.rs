//! The number of messages in a request that is no stream: one, as its contract says.
//!
//! Guarantees: a request with none or with more is refused with the code that
//! [gRPC's list of codes](https://grpc.github.io/grpc/core/md_doc_statuscodes.html) has for it, UNIMPLEMENTED.

use tonic::{Code, Status};

use crate::call::error::{DOMAIN, status};

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Counts the messages of a request by their prefixes. It reads no message.
#[derive(Default)]
pub(super) struct OneMessage {
    /// The prefix that arrives, and how many bytes of it have arrived.
    prefix: [u8; PREFIX],
    begun: usize,
    /// The bytes that are missing of the message behind the prefix.
    missing: usize,
}

impl OneMessage {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    ///
    /// They are behind the end of the message.
    pub(super) fn take(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.begun < PREFIX {
                let (of_prefix, rest) = data.split_at(data.len().min(PREFIX - self.begun));
                self.prefix[self.begun..][..of_prefix.len()].copy_from_slice(of_prefix);
                self.begun += of_prefix.len();
                data = rest;
                if self.begun == PREFIX {
                    let [_, length @ ..] = self.prefix;
                    self.missing = u32::from_be_bytes(length) as usize;
                }
            } else if self.missing == 0 {
                return Err(wrong("more than one message"));
            } else {
                let taken = data.len().min(self.missing);
                self.missing -= taken;
                data = &data[taken..];
            }
        }
        Ok(())
    }

    /// Checks a request that has ended. One that breaks off within its message is refused where the message is read.
    ///
    /// # Errors
    ///
    /// It has no message.
    pub(super) fn end(&self) -> Result<(), Status> {
        if self.has_begun() { Ok(()) } else { Err(wrong("no message")) }
    }

    /// Whether bytes of the message have arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.begun > 0
    }
}

fn wrong(found: &str) -> Status {
    let message = format!("the request has {found}, and the method takes one");
    status(Code::Unimplemented, DOMAIN, "WRONG_MESSAGE_COUNT", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code for a request that arrives in pieces of so many bytes.
    fn code(request: &[u8], piece: usize) -> Code {
        let mut one = OneMessage::default();
        let taken = request.chunks(piece).try_for_each(|data| one.take(data));
        taken.and_then(|()| one.end()).err().map_or(Code::Ok, |status| status.code())
    }

    #[test]
    fn request_has_one_message_however_it_arrives() {
        let (empty, short) = ([0; 5], [0, 0, 0, 0, 3, 1, 2, 3]);
        let long = [&[1, 0, 0, 1, 0][..], &[7; 256]].concat();
        for piece in [1, 2, 3, 5, 7, 1000] {
            assert_eq!(code(&[], piece), Code::Unimplemented, "none");
            for one in [&empty[..], &short, &long] {
                assert_eq!(code(one, piece), Code::Ok, "{one:?} in pieces of {piece}");
                for next in [&[0][..], &empty, &short, &long] {
                    let two = [one, next].concat();
                    assert_eq!(code(&two, piece), Code::Unimplemented, "{two:?} in pieces of {piece}");
                }
            }
            // The message is incomplete, which its reader says.
            assert_eq!(code(&short[..7], piece), Code::Ok);
        }
    }
}
