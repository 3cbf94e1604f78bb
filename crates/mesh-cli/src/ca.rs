//! A certificate authority for development: certificates for the services of this project, in a folder that git
//! ignores.
//!
//! - `ca.pem` is the bundle that services trust, `ca.key` signs.
//! - `SERVICE.pem` and `SERVICE.key` are the certificate and the key of a service, with the SPIFFE ID
//!   `spiffe://dev.mesh/service/SERVICE`. Its names of hosts are for tools such as grpcurl.
//!
//! Guarantees:
//! - A key is readable by its owner alone. A file is replaced as a whole.
//! - An authority that exists is kept, so certificates can be written again while services run.
//!
//! Does not: fit production. There, cert-manager, SPIRE or Vault write the same files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_token::development::{FOLDER, TRUST_DOMAIN};
use mesh_token::pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

use crate::sidecars;

/// The service of the certificate of `mesh` itself.
pub(crate) const OWN: &str = "mesh";
/// How long a certificate of a service is valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long the authority is valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(300);

/// Writes the files, and says where.
pub(crate) fn ca(named: Vec<String>, rotates: bool) -> anyhow::Result<ExitCode> {
    let folder = Path::new(FOLDER);
    if rotates {
        rotate(folder)?;
        println!("{FOLDER}/ca.pem has a new authority beside the old one: run `mesh ca` after 10 s");
        return Ok(ExitCode::SUCCESS);
    }
    let services = if named.is_empty() { services(Path::new("services"), Path::new("examples"))? } else { named };
    write(folder, &services, LIFETIME)?;
    println!("{FOLDER} has certificates of {}", services.join(", "));
    println!("export MESH__TLS__MODE=mutual MESH__IDENTITY__BUNDLE={FOLDER}/ca.pem");
    println!(
        "export MESH__IDENTITY__CERTIFICATE={FOLDER}/{{service}}.pem MESH__IDENTITY__KEY={FOLDER}/{{service}}.key"
    );
    println!("export MESH__ADMIN__LISTEN=127.0.0.1:0   # Consul checks health there");
    Ok(ExitCode::SUCCESS)
}

/// Writes certificates for `services`, and creates the authority first if there is none.
pub(crate) fn write(folder: &Path, services: &[String], lifetime: Duration) -> anyhow::Result<()> {
    let authority = Authority::open(folder)?;
    // `mesh` itself asks services, too.
    let all = services.iter().map(String::as_str).chain([OWN]);
    all.into_iter().try_for_each(|service| authority.issue(folder, service, lifetime))
}

/// Creates another authority, which services trust beside the one before; certificates stay those of the one before
/// until they are written again.
pub(crate) fn rotate(folder: &Path) -> anyhow::Result<()> {
    let before =
        fs::read_to_string(folder.join("ca.pem")).context("there is no authority to replace: run `mesh ca`")?;
    let (certificate, key) = Authority::generate()?;
    // The last one that is still in use is the first of the file.
    let still = before.find(END).map_or(before.as_str(), |end| &before[..end + END.len()]);
    replace(&folder.join("ca.pem"), &format!("{certificate}{still}\n"), false)?;
    replace(&folder.join("ca.key"), &key, true)
}

const END: &str = "-----END CERTIFICATE-----";

/// The services of this project: the folders under `services`, and those under `examples` that have a sidecar.
pub(crate) fn services(folder: &Path, examples: &Path) -> anyhow::Result<Vec<String>> {
    let folders = fs::read_dir(folder)
        .context("the current folder has no folder `services`: run it in a project, or name services")?;
    let mut names = Vec::new();
    for entry in folders {
        let entry = entry.context("cannot read the folder `services`")?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    ensure!(!names.is_empty(), "the folder `services` holds no services: add one with scripts/new-service");
    names.extend(sidecars::find(examples)?.into_iter().map(|sidecar| sidecar.service));
    names.sort();
    Ok(names)
}

struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Reads the authority of a folder, or creates it.
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let [certificate, key] = ["ca.pem", "ca.key"].map(|name| folder.join(name));
        if !key.exists() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let (pem, secret) = Self::generate()?;
            replace(&certificate, &pem, false)?;
            replace(&key, &secret, true)?;
        }
        let secret = fs::read_to_string(&key).with_context(|| format!("cannot read {}", key.display()))?;
        let pair = pem::decode(&secret).and_then(|der| KeyPair::try_from(der).ok()).with_context(|| {
            format!("{} is not a private key: delete {} to begin again", key.display(), folder.display())
        })?;
        Ok(Self(Issuer::new(Self::parameters()?, pair)))
    }

    /// A certificate and its key.
    fn generate() -> anyhow::Result<(String, String)> {
        let pair = KeyPair::generate()?;
        let certificate = Self::parameters()?.self_signed(&pair)?;
        Ok((pem::encode("CERTIFICATE", certificate.der()), pem::encode("PRIVATE KEY", &pair.serialize_der())))
    }

    fn parameters() -> anyhow::Result<CertificateParams> {
        let mut parameters = of_now(AUTHORITY_LIFETIME, "mesh development CA")?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(parameters)
    }

    fn issue(&self, folder: &Path, service: &str, lifetime: Duration) -> anyhow::Result<()> {
        let id = format!("spiffe://{TRUST_DOMAIN}/service/{service}");
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ensure!(!service.is_empty() && service.bytes().all(is_name), "`{service}` is not the name of a service");
        let mut parameters = of_now(lifetime, service)?;
        parameters.subject_alt_names = vec![
            SanType::URI(id.try_into()?),
            SanType::DnsName(service.try_into()?),
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let pair = KeyPair::generate()?;
        let certificate = parameters.signed_by(&pair, &self.0)?;
        replace(&folder.join(format!("{service}.key")), &pem::encode("PRIVATE KEY", &pair.serialize_der()), true)?;
        replace(&folder.join(format!("{service}.pem")), &pem::encode("CERTIFICATE", certificate.der()), false)
    }
}

/// What all certificates have. The defaults of rcgen are valid from 1975 to 4096.
fn of_now(lifetime: Duration, name: &str) -> anyhow::Result<CertificateParams> {
    let now = SystemTime::now();
    let mut parameters = CertificateParams::default();
    parameters.not_before = (now - SKEW).into();
    parameters.not_after = (now + lifetime).into();
    parameters.serial_number = Some(SerialNumber::from(fastrand::u64(1..).to_be_bytes().to_vec()));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

/// Replaces a file as a whole.
fn replace(path: &Path, text: &str, secret: bool) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    let written = options.open(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&new, path)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_keeps_its_authority_and_replaces_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let services = ["catalog".to_owned()];
        write(folder.path(), &services, LIFETIME).unwrap();
        let (authority, first) = (read("ca.pem"), read("catalog.pem"));
        write(folder.path(), &services, LIFETIME).unwrap();
        assert_eq!(read("ca.pem"), authority);
        assert_ne!(read("catalog.pem"), first);

        rotate(folder.path()).unwrap();
        assert_eq!(read("ca.pem").matches(END).count(), 2);
        rotate(folder.path()).unwrap();
        assert_eq!(read("ca.pem").matches(END).count(), 2, "the oldest is no longer trusted");
        assert!(write(folder.path(), &["../x".to_owned()], LIFETIME).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn ca_keeps_keys_to_their_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["catalog".to_owned()], LIFETIME).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(["ca.key", "catalog.key", "ca.pem"].map(mode), [0o600, 0o600, 0o644]);
    }
}
