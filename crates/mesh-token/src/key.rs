//! A public key of an issuer, and the one algorithm that it is for.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::jws::Jws;
use crate::roca;

/// A key for the signatures of one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    /// By its name in a token.
    pub(crate) algorithm: &'static str,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point(Vec<u8>),
}

/// Why a key of a set is not used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is secret, so the set should not have been published.
    Secret,
    /// It is for something else, or not supported.
    Other(String),
}

/// A key as a set has it (RFC 7517). A member that is null is one that is not there: some issuers write all.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

const RSA: &[(&str, &RsaParameters)] = &[
    ("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &signature::RSA_PSS_2048_8192_SHA256),
    ("PS384", &signature::RSA_PSS_2048_8192_SHA384),
    ("PS512", &signature::RSA_PSS_2048_8192_SHA512),
];
const CURVES: &[(&str, &dyn VerificationAlgorithm)] = &[
    ("ES256", &signature::ECDSA_P256_SHA256_FIXED),
    ("ES384", &signature::ECDSA_P384_SHA384_FIXED),
    ("EdDSA", &signature::ED25519),
];

impl Jwk {
    /// # Errors
    ///
    /// The key is not one for signatures that are supported.
    pub(crate) fn key(self) -> Result<Key, Unusable> {
        if self.kty == "oct" || self.k.is_some() || self.d.is_some() {
            return Err(Unusable::Secret);
        }
        let other = |why: &str| Err(Unusable::Other(why.to_owned()));
        if self.usage.as_deref().is_some_and(|usage| usage != "sig")
            || self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|name| name == "verify"))
        {
            return other("it is not for signatures");
        }
        let (algorithm, material) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (self.rsa_algorithm()?, self.rsa()?),
            ("EC", Some("P-256")) => ("ES256", self.point(32)?),
            ("EC", Some("P-384")) => ("ES384", self.point(48)?),
            ("OKP", Some("Ed25519")) => ("EdDSA", Material::Point(coordinate(self.x.as_deref(), 32)?)),
            _ => return other("its type or its curve is not supported"),
        };
        match self.alg.as_deref() {
            // The name of RFC 9864.
            Some("Ed25519") if algorithm == "EdDSA" => {}
            Some(named) if named != algorithm => return other("its `alg` is not that of its type"),
            _ => {}
        }
        Ok(Key { kid: self.kid, algorithm, material })
    }

    /// Without `alg`, the one that OpenID Connect asks of all issuers: the token must not choose.
    fn rsa_algorithm(&self) -> Result<&'static str, Unusable> {
        let named = self.alg.as_deref().unwrap_or("RS256");
        let known = RSA.iter().find(|(name, _)| *name == named);
        known.map(|(name, _)| *name).ok_or_else(|| Unusable::Other("its `alg` is not supported".to_owned()))
    }

    fn rsa(&self) -> Result<Material, Unusable> {
        let other = |why: &str| Err(Unusable::Other(why.to_owned()));
        let (n, e) = (decode(self.n.as_deref())?, decode(self.e.as_deref())?);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        let exponent = e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if n.first() == Some(&0) || !(2048..=8192).contains(&bits) {
            return other("it is not an RSA key of 2048 to 8192 bits");
        }
        if e.len() > 4 || exponent < 3 || exponent.is_multiple_of(2) {
            return other("its exponent is not an odd number from 3 to 2³²");
        }
        if roca::is_weak(&n) {
            return other("its private key can be computed from it (ROCA, CVE-2017-15361)");
        }
        Ok(Material::Rsa { n, e })
    }

    /// Whether the point is on the curve is checked with each signature.
    fn point(&self, size: usize) -> Result<Material, Unusable> {
        let (x, y) = (coordinate(self.x.as_deref(), size)?, coordinate(self.y.as_deref(), size)?);
        Ok(Material::Point([&[4], &x[..], &y[..]].concat()))
    }
}

fn decode(text: Option<&str>) -> Result<Vec<u8>, Unusable> {
    let decoded = text.and_then(|text| BASE64_URL.decode(text).ok());
    decoded.ok_or_else(|| Unusable::Other("a number of it is missing, or not base64url".to_owned()))
}

fn coordinate(text: Option<&str>, size: usize) -> Result<Vec<u8>, Unusable> {
    let decoded = decode(text)?;
    let wrong = || Unusable::Other("a coordinate of it does not have the size of its curve".to_owned());
    if decoded.len() == size { Ok(decoded) } else { Err(wrong()) }
}

impl Key {
    /// Checks the signature, by the algorithm of this key alone.
    pub(crate) fn verify(&self, jws: &Jws<'_>) -> Result<(), String> {
        if jws.header.alg != self.algorithm {
            return Err(format!("the algorithm of the token is not {}, that of its key", self.algorithm));
        }
        let (signed, signature) = (jws.signed.as_bytes(), &jws.signature);
        let valid = match &self.material {
            Material::Rsa { n, e } => {
                let parameters = RSA.iter().find(|(name, _)| *name == self.algorithm);
                parameters
                    .is_some_and(|(_, with)| RsaPublicKeyComponents { n, e }.verify(with, signed, signature).is_ok())
            }
            Material::Point(point) => {
                let algorithm = CURVES.iter().find(|(name, _)| *name == self.algorithm);
                algorithm
                    .is_some_and(|(_, with)| UnparsedPublicKey::new(*with, point).verify(signed, signature).is_ok())
            }
        };
        if valid { Ok(()) } else { Err("the signature is not that of the key".to_owned()) }
    }
}
