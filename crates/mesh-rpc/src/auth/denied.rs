//! The refusals of a caller, as its client sees them.

use std::time::Duration;

use mesh_token::Refused;
use tonic::{Code, Status};

use crate::call::error::{DOMAIN, status, status_with, unavailable};
use crate::call::peer::{SCOPE_MISSING, TOKEN_EXPIRED};

/// The delay before a call is made again for which an issuer or Consul has to answer first.
const UNKNOWN_DELAY: Duration = Duration::from_secs(1);

/// Why a call is refused. The texts are for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The method is for callers with an identity, and this one has none.
    TokenMissing,
    TokenInvalid(String),
    /// The header has no bearer token.
    NotBearer,
    TokenExpired,
    /// The keys of the token's issuer are not known.
    IssuerUnavailable(String),
    /// The first scope that the user lacks.
    ScopeMissing(&'static str),
    /// The method is for the services of the mesh.
    CallerNotAllowed,
    /// Consul has not said yet which services may call.
    IntentionsUnavailable(String),
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(why) => Self::TokenInvalid(why),
            Refused::Expired => Self::TokenExpired,
            Refused::Unavailable(why) => Self::IssuerUnavailable(why),
        }
    }
}

impl Denied {
    /// The rule, as the log, the metric and the client name it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenInvalid(_) | Self::NotBearer => "TOKEN_INVALID",
            Self::TokenExpired => TOKEN_EXPIRED,
            Self::IssuerUnavailable(_) => "ISSUER_UNAVAILABLE",
            Self::ScopeMissing(_) => SCOPE_MISSING,
            Self::CallerNotAllowed => "CALLER_NOT_ALLOWED",
            Self::IntentionsUnavailable(_) => "INTENTIONS_UNAVAILABLE",
        }
    }

    /// The cause, for the log alone: it would tell a client how to forge a better token.
    pub(super) fn cause(&self) -> &str {
        match self {
            Self::TokenInvalid(cause) | Self::IssuerUnavailable(cause) | Self::IntentionsUnavailable(cause) => cause,
            Self::ScopeMissing(scope) => scope,
            Self::NotBearer => "the header authorization is not `Bearer TOKEN`",
            Self::TokenMissing | Self::TokenExpired | Self::CallerNotAllowed => "",
        }
    }

    /// The status. Only those that are UNAVAILABLE may be retried with the same token.
    pub(super) fn status(&self) -> Status {
        let status = |code, message: &str| status(code, DOMAIN, self.reason(), message);
        match self {
            Self::TokenMissing => {
                status(Code::Unauthenticated, "this method needs a token: send it as `authorization: Bearer TOKEN`")
            }
            Self::TokenInvalid(_) => {
                status(Code::Unauthenticated, "the token is not valid here; ask its issuer for another")
            }
            Self::NotBearer => {
                let message =
                    "the header authorization is not one of a token: send it as `authorization: Bearer TOKEN`";
                status(Code::Unauthenticated, message)
            }
            Self::TokenExpired => status(Code::Unauthenticated, "the token has expired; ask its issuer for another"),
            Self::IssuerUnavailable(_) => {
                let message = "the keys of the token's issuer cannot be read now; retry later";
                unavailable(self.reason(), message, UNKNOWN_DELAY)
            }
            Self::ScopeMissing(scope) => {
                let message = format!("this method needs a token with the scope `{scope}`");
                let scope = [("scope", (*scope).to_owned())];
                status_with(Code::PermissionDenied, DOMAIN, self.reason(), message, scope)
            }
            Self::IntentionsUnavailable(_) => {
                let message = "which services may call this one is not known yet; retry later";
                unavailable(self.reason(), message, UNKNOWN_DELAY)
            }
            Self::CallerNotAllowed => status(Code::PermissionDenied, "this method is for other services of the mesh"),
        }
    }
}
