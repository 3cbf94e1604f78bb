//! The token of a user, sent with each call and each stream that is opened again.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

/// The variable with the token of a user.
pub const TOKEN: &str = "MESH_TOKEN";

/// A channel that sends a token, if there is one.
pub type WithToken<C> = InterceptedService<C, Bearer>;

/// Sends the token of a user with each call, or nothing without one. Its text is never shown.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Sends a token. A text that begins with `Bearer ` is taken, too.
    ///
    /// # Errors
    ///
    /// It has characters that a header cannot have, in one line.
    pub fn new(token: &str) -> Result<Self, String> {
        let token = token.trim();
        let value = format!("Bearer {}", token.strip_prefix("Bearer ").unwrap_or(token));
        let value = value.parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| "the token has characters that a header cannot have".to_owned())?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// Sends the token of the variable [`TOKEN`], or nothing if it is not set or is empty.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_env() -> Result<Self, String> {
        match std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty()) {
            Some(token) => Self::new(&token).map_err(|why| format!("{TOKEN} is no token: {why}")),
            None => Ok(Self::default()),
        }
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> bool {
        self.0.is_some()
    }

    /// A channel that sends it.
    pub fn over<C>(&self, channel: C) -> WithToken<C> {
        InterceptedService::new(channel, self.clone())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_sends_its_token_and_does_not_show_it() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c"] {
            let mut bearer = Bearer::new(text).unwrap();
            assert!(bearer.has_token() && !format!("{bearer:?}").contains("a.b.c"), "{bearer:?}");
            let sent = bearer.call(Request::new(())).unwrap();
            assert_eq!(sent.metadata().get("authorization").unwrap(), "Bearer a.b.c", "{text:?}");
        }
        assert!(Bearer::new("a\nb").is_err());
        let mut without = Bearer::default();
        assert!(!without.has_token() && without.call(Request::new(())).unwrap().metadata().is_empty());
    }
}
