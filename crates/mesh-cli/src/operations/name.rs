//! The name of an operation, as the command line gives it.

use std::str::FromStr;

use anyhow::anyhow;

/// `services/SERVICE/operations/UUID`.
pub(crate) struct Name {
    pub(crate) text: String,
    /// The service that has the operation.
    pub(crate) service: String,
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split('/').collect::<Vec<_>>()[..] {
            ["services", service, "operations", id] if !service.is_empty() && !id.is_empty() => {
                Ok(Self { text: text.to_owned(), service: service.to_owned() })
            }
            _ => Err(anyhow!(
                "`{text}` is not an operation name: expected services/SERVICE/operations/UUID, see \
                 `mesh operations list`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_holds_the_service() {
        assert_eq!("services/artwork/operations/1".parse::<Name>().unwrap().service, "artwork");
        for text in ["", "1", "services/artwork", "services//operations/1", "services/artwork/operations/"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
