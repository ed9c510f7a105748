//! How the broker is reached.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::Notify;

use crate::secret::{self, Tls};
use crate::sink::End;

/// What names the broker and proves who we are.
#[derive(Debug, Clone, clap::Args)]
pub struct Broker {
    /// The broker: nats://HOST:PORT or tls://HOST:PORT; several with commas between
    #[arg(
        long,
        value_name = "URL",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats: String,
    /// A credentials file, as nsc writes it
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    pub creds: Option<PathBuf>,
    /// A file with an nkey's seed
    #[arg(long, value_name = "FILE", env = "NATS_NKEY")]
    pub nkey: Option<PathBuf>,
    /// A file with a token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The user; the password is in --password-file or in NATS_PASSWORD
    #[arg(long, value_name = "NAME", env = "NATS_USER")]
    pub user: Option<String>,
    /// A file with the user's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)] // it would be a heading of --help
    pub tls: Tls,
}

/// A connection that ends when it is lost. To connect again by itself, as async-nats does,
/// would send what comes later though something before it was lost.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// It was lost.
    pub lost: Arc<Notify>,
}

impl Connection {
    /// Does this, for as long as the connection is there: what is asked over one that is
    /// lost would wait for its answer.
    pub(crate) async fn while_there<T>(
        &self,
        work: impl Future<Output = Result<T, End>>,
    ) -> Result<T, End> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.lost.notified() => {
                Err(End::Lost(anyhow::anyhow!("the connection was lost")))
            }
        }
    }
}

/// Longer than any session: by then the client is gone.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Broker {
    /// Whether the address is one without a user or a password in it.
    ///
    /// # Errors
    /// It has one.
    pub fn fits(&self) -> Result<()> {
        if self.nats.contains('@') {
            bail!(
                "--nats, or NATS_URL: what stands before @ is not used: name --user and \
                 --password-file (or NATS_PASSWORD), or --token-file (or NATS_TOKEN)"
            );
        }
        Ok(())
    }

    /// Connects, once.
    ///
    /// # Errors
    /// No broker answers, it refuses us, or a file cannot be read.
    pub async fn connect(&self) -> Result<Connection> {
        let (lost, connected) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let options = self.options()?.name("eventlog-publish");
        let tell = lost.clone();
        let again = connected.clone();
        let options = options
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    tell.notify_one();
                }
                async {}
            })
            .reconnect_delay_callback(move |_| {
                if again.load(SeqCst) {
                    NEVER
                } else {
                    Duration::ZERO
                }
            });
        let servers: Vec<&str> = self.nats.split(',').map(str::trim).collect();
        let client = options
            .connect(servers)
            .await
            .with_context(|| format!("no connection to {}", self.public()))?;
        connected.store(true, SeqCst);
        Ok(Connection { client, lost })
    }

    fn options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new().connection_timeout(Duration::from_secs(5));
        if let Some(file) = &self.creds {
            options = options.credentials(&secret::read(file)?)?;
        }
        if let Some(file) = &self.nkey {
            options = options.nkey(secret::read(file)?);
        }
        if let Some(token) = secret::find(self.token_file.as_ref(), "NATS_TOKEN")? {
            options = options.token(token);
        }
        if let Some(user) = &self.user {
            let password = secret::find(self.password_file.as_ref(), "NATS_PASSWORD")?;
            let Some(password) = password else {
                bail!("the user's password: name --password-file, or set NATS_PASSWORD");
            };
            options = options.user_and_password(user.clone(), password);
        }
        if let Some(file) = &self.tls.tls_ca {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(cert), Some(key)) = (&self.tls.tls_cert, &self.tls.tls_key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(options)
    }

    /// The address without what may be a password in it.
    pub fn public(&self) -> String {
        let urls: Vec<String> = self.nats.split(',').map(secret::public).collect();
        urls.join(",")
    }
}
