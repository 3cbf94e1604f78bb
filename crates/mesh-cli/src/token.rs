//! Signs tokens of users, by an issuer for development.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use mesh_token::development::{Development, FOLDER};

/// Prints a token, and nothing else: `authorization: Bearer $(mesh token --sub alice)`.
pub(crate) fn token(subject: &str, scopes: &[String], lifetime: Duration) -> anyhow::Result<ExitCode> {
    // An issuer in another folder would sign tokens that no service knows.
    ensure!(
        Path::new("mesh.toml").exists(),
        "the current folder has no mesh.toml: run `mesh token` in the folder of the project"
    );
    let issuer = Development::open(Path::new(FOLDER)).map_err(|error| anyhow!(error))?;
    let token = issuer.sign(subject, scopes, lifetime).map_err(|error| anyhow!(error))?;
    writeln!(io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}
