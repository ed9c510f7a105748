//! Secrets come from files or from the environment: a command line is seen by every user of
//! the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a file holds, without the line's end.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// What the file holds, if one is named, else the environment variable.
///
/// # Errors
/// The file cannot be read.
pub fn find(file: Option<&PathBuf>, variable: &str) -> Result<Option<String>> {
    match file {
        Some(file) => read(file).map(Some),
        None => Ok(std::env::var(variable).ok()),
    }
}

/// An address without what may be a password in it.
pub fn public(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &url[..scheme], &url[at..])
        }
        (None, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    }
}

/// Certificates, for every kind of broker.
#[derive(Debug, Clone, clap::Args)]
pub struct Tls {
    /// Certificates to trust, as PEM, in place of the system's
    #[arg(long, value_name = "FILE", env = "NATS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate, as PEM
    #[arg(long, value_name = "FILE", env = "NATS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of our certificate, as PEM
    #[arg(long, value_name = "FILE", env = "NATS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}
