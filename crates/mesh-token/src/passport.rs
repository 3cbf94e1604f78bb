//! The passport: the name of a user, which travels inside the mesh in the place of the user's token.
//!
//! The process that has checked a token signs the name of the user, with the key of its own certificate. The next
//! process checks the signature and the certificate. Each process on the way of a token could use the token elsewhere,
//! and each could write a name that is not signed.
//!
//! Guarantees:
//! - A passport names its signer, and the signer is that of the certificate. Which services may sign is the caller's
//!   rule.
//! - A passport begins at most 60 s before it ends. It counts for the difference of two clocks, 30 s, longer.
//! - A passport never counts as a token, nor a token as a passport: the types differ.
//!
//! Does not: prevent that a passport is used twice within its time. The rules for services that may call limit that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::json;
use webpki::EndEntityCert;

use crate::claims::{SKEW, is_subject, time};
use crate::json;
use crate::jws::{self, Jws};
use crate::signature;
use crate::user::{Refused, User};

/// How long a passport is valid.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// The largest chain of certificates in a passport, in bytes of Base64. One of 8 KiB is the largest passport.
const MAX_CHAIN: usize = 3 * 1024;
const TYPE: &str = "mesh-passport+jwt";

/// A passport that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passport {
    /// The user. `until` is the end of the user's token, in whole seconds.
    pub user: Arc<User>,
    /// The SPIFFE ID of the service that has signed it.
    pub signer: String,
    /// The end of the passport. A call that has begun before goes on.
    pub expires: SystemTime,
}

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    uiss: String,
    sub: String,
    scopes: BTreeSet<String>,
    aud: String,
    tok_exp: u64,
    iat: u64,
    exp: u64,
    jti: String,
}

/// A way to sign, by the kind of the key.
struct Algorithm {
    name: &'static str,
    scheme: SignatureScheme,
    verify: &'static dyn SignatureVerificationAlgorithm,
    /// The bytes of each of the two numbers of a signature.
    ecdsa: Option<usize>,
}

static ALGORITHMS: [Algorithm; 4] = [
    Algorithm {
        name: "ES256",
        scheme: SignatureScheme::ECDSA_NISTP256_SHA256,
        verify: webpki::ring::ECDSA_P256_SHA256,
        ecdsa: Some(32),
    },
    Algorithm {
        name: "ES384",
        scheme: SignatureScheme::ECDSA_NISTP384_SHA384,
        verify: webpki::ring::ECDSA_P384_SHA384,
        ecdsa: Some(48),
    },
    Algorithm {
        name: "PS256",
        scheme: SignatureScheme::RSA_PSS_SHA256,
        verify: webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        ecdsa: None,
    },
    Algorithm { name: "EdDSA", scheme: SignatureScheme::ED25519, verify: webpki::ring::ED25519, ecdsa: None },
];

/// Signs a passport of a user for the processes of `trust_domain`. `signer_id` is the SPIFFE ID in the first
/// certificate of `chain`, and `key` the key of this certificate.
///
/// # Errors
///
/// The key is of a kind that is not supported, or the passport would be too long for a header: the chain has more than
/// 3 KiB, or the user too many scopes.
pub fn sign(
    user: &User,
    trust_domain: &str,
    signer_id: &str,
    chain: &[CertificateDer<'_>],
    key: &dyn SigningKey,
) -> Result<String, String> {
    sign_at(SystemTime::now(), user, trust_domain, signer_id, chain, key)
}

fn sign_at(
    now: SystemTime,
    user: &User,
    trust_domain: &str,
    signer_id: &str,
    chain: &[CertificateDer<'_>],
    key: &dyn SigningKey,
) -> Result<String, String> {
    let signer = key.choose_scheme(&ALGORITHMS.each_ref().map(|algorithm| algorithm.scheme));
    let signer = signer
        .ok_or("the key of the certificate cannot sign passports: it must be one of P-256, P-384, RSA or Ed25519")?;
    let algorithm = ALGORITHMS.iter().find(|algorithm| algorithm.scheme == signer.scheme());
    let algorithm = algorithm.ok_or("the key of the certificate has chosen a signature that was not offered")?;

    let chain: Vec<_> = chain.iter().map(|certificate| BASE64_STANDARD.encode(certificate)).collect();
    if chain.iter().map(String::len).sum::<usize>() > MAX_CHAIN {
        return Err(format!("the chain of certificates has more than {MAX_CHAIN} bytes in Base64"));
    }
    let header = json!({ "alg": algorithm.name, "typ": TYPE, "x5c": chain });
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| "no random numbers")?;
    let claims = Claims {
        iss: signer_id.to_owned(),
        uiss: user.issuer.clone(),
        sub: user.subject.clone(),
        scopes: user.scopes.clone(),
        aud: trust_domain.to_owned(),
        tok_exp: seconds(user.until),
        iat: seconds(now),
        exp: seconds(now + LIFETIME),
        jti: BASE64_URL.encode(id),
    };
    let payload = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
    let passport = jws::compact(&header.to_string(), &payload, |message| {
        let signature = signer.sign(message).map_err(|error| error.to_string())?;
        match algorithm.ecdsa {
            Some(size) => signature::of_token(&signature, size).ok_or_else(|| "the signature is not DER".to_owned()),
            None => Ok(signature),
        }
    })?;
    if passport.len() > jws::MAX_LENGTH {
        return Err(format!("the passport has {} bytes, more than {}", passport.len(), jws::MAX_LENGTH));
    }
    Ok(passport)
}

/// Reads a passport for the processes of `trust_domain`.
///
/// `verify` checks the chain of certificates, the signer's first, and returns the SPIFFE ID of the signer. It is called
/// before the signature is checked.
///
/// # Errors
///
/// The passport is not valid; or it, or the user's token, has expired.
pub fn read(
    passport: &str,
    trust_domain: &str,
    verify: impl FnOnce(&[CertificateDer<'_>]) -> Result<String, String>,
) -> Result<Passport, Refused> {
    read_at(SystemTime::now(), passport, trust_domain, verify)
}

fn read_at(
    now: SystemTime,
    passport: &str,
    trust_domain: &str,
    verify: impl FnOnce(&[CertificateDer<'_>]) -> Result<String, String>,
) -> Result<Passport, Refused> {
    let jws = Jws::parse(passport).map_err(Refused::Invalid)?;
    let signer = signed_by(&jws, verify).map_err(Refused::Invalid)?;
    let claims: Claims = json::object(&jws.payload).map_err(|why| Refused::Invalid(format!("the payload is {why}")))?;
    let [begin, end, until] = [claims.iat, claims.exp, claims.tok_exp].map(|seconds| time(seconds as f64));
    let (begin, expires, until) = (begin?, end?, until?);

    let refusal = if claims.iss != signer {
        "is not of the service whose certificate it has"
    } else if claims.aud != trust_domain {
        "is for another trust domain"
    } else if !is_subject(&claims.sub) || claims.uiss.is_empty() {
        "does not name a user"
    } else if begin > now + SKEW {
        "is from the future"
    } else if expires > begin + LIFETIME {
        "is valid for longer than 60 s"
    } else if expires + SKEW <= now {
        "has ended"
    } else if until + SKEW <= now {
        return Err(Refused::Expired);
    } else {
        let user = User { issuer: claims.uiss, subject: claims.sub, scopes: claims.scopes, until };
        return Ok(Passport { user: Arc::new(user), signer, expires });
    };
    Err(Refused::Invalid(format!("the passport {refusal}")))
}

/// The SPIFFE ID of the signer, by its certificate.
fn signed_by(
    jws: &Jws<'_>,
    verify: impl FnOnce(&[CertificateDer<'_>]) -> Result<String, String>,
) -> Result<String, String> {
    if jws.header.typ.as_deref() != Some(TYPE) {
        return Err("it is not a passport, by its type".to_owned());
    }
    let algorithm = ALGORITHMS.iter().find(|algorithm| algorithm.name == jws.header.alg);
    let algorithm = algorithm.ok_or("the algorithm of the passport is not supported")?;
    let chain: Vec<String> = serde_json::from_value(jws.header.x5c.clone())
        .map_err(|_| "the passport has no chain of certificates".to_owned())?;
    if chain.iter().map(String::len).sum::<usize>() > MAX_CHAIN {
        return Err(format!("the chain of certificates has more than {MAX_CHAIN} bytes in Base64"));
    }
    let decoded: Result<Vec<_>, _> = chain.iter().map(|text| BASE64_STANDARD.decode(text)).collect();
    let decoded = decoded.map_err(|error| format!("a certificate of the passport is not Base64 ({error})"))?;
    let chain: Vec<CertificateDer<'_>> = decoded.into_iter().map(CertificateDer::from).collect();
    let first = chain.first().ok_or("the passport has no certificate")?;

    let signer = verify(&chain)?;
    let certificate =
        EndEntityCert::try_from(first).map_err(|error| format!("the certificate is unusable: {error}"))?;
    let signature = match algorithm.ecdsa {
        Some(size) if jws.signature.len() == 2 * size => signature::of_x509(&jws.signature),
        Some(_) => return Err("the signature of the passport does not have the length of its algorithm".to_owned()),
        None => jws.signature.clone(),
    };
    let checked = certificate.verify_signature(algorithm.verify, jws.signed.as_bytes(), &signature);
    checked.map_err(|_| "the signature of the passport is not that of its certificate".to_owned())?;
    Ok(signer)
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
