//! A webhook, signed as <https://www.standardwebhooks.com> has it: each record at least once
//! and in order, one POST after the other.
//!
//! The signature, in the header `webhook-signature`, is `v1,` and the HMAC-SHA256 over
//! `ID.TIME.BODY` in base64: the headers `webhook-id` (of the last record in the body) and
//! `webhook-timestamp` (seconds since 1970) and the body, with points between.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use eventlog::cursor::Cursor;
use eventlog::tail::Record;
use ring::hmac;
use tokio::task::JoinHandle;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::node::{Node, SCHEMA};
use crate::outbox::Outbox;
use crate::place::Place;
use crate::secret::{self, Tls};
use crate::sink::{Arrived, End, Session, Sink};

/// A body has at most this many bytes, or one record: servers refuse what is larger than
/// a megabyte.
const BODY: usize = 512 << 10;

/// Of an answer's body so much is read, for the next request to go over the same
/// connection, and so much of it is shown.
const ANSWER: u64 = 64 << 10;
const SHOWN: usize = 200;

/// A secret has at least this many bytes.
const SECRET: usize = 24;

/// Where to post, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Post to this address instead: https://HOST/PATH, signed (see --help)
    #[arg(long, value_name = "URL", env = "WEBHOOK_URL", hide_env_values = true)]
    pub webhook: Option<String>,
    /// A file with the secret that signs, also in WEBHOOK_SECRET: whsec_BASE64, or any text
    #[arg(long, value_name = "FILE", requires = "webhook")]
    pub webhook_secret_file: Option<PathBuf>,
    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub webhook_timeout: Duration,
}

/// An address that takes records.
#[derive(Debug)]
pub struct Webhook {
    post: Post,
    place: Place,
    window: usize,
}

impl Webhook {
    /// The webhook for the records of a node.
    ///
    /// # Errors
    /// The address or the secret is none, or a file cannot be read.
    pub fn new(
        url: &str,
        target: &Target,
        tls: &Tls,
        place: Place,
        node: &Node,
        outbox: &Outbox,
    ) -> Result<Self> {
        let parsed = url.parse().ok().filter(|url: &ureq::http::Uri| {
            matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
        });
        let Some(parsed) = parsed else {
            bail!(
                "--webhook {}: it is no https://HOST/PATH",
                secret::public(url)
            );
        };
        let secret = secret::find(target.webhook_secret_file.as_ref(), "WEBHOOK_SECRET")?;
        let secret = secret.context("the webhook's secret: name --webhook-secret-file")?;
        let agent = Agent::config_builder()
            .timeout_global(Some(target.webhook_timeout))
            .http_status_as_error(false)
            // What is signed goes where it was said, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(1)
            .user_agent(concat!("eventlog-publish/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls_config(tls)?)
            .build();
        Ok(Self {
            post: Post {
                agent: agent.into(),
                uri: parsed,
                key: key(&secret)?,
                node: node.clone(),
                content: if outbox.window == 1 {
                    "application/json"
                } else {
                    "application/x-ndjson"
                },
            },
            place,
            window: outbox.window,
        })
    }
}

/// The key of a secret.
fn key(secret: &str) -> Result<hmac::Key> {
    let bytes = match secret.strip_prefix("whsec_") {
        Some(text) => BASE64_STANDARD
            .decode(text)
            .context("the webhook's secret: no base64 behind whsec_")?,
        None => secret.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET {
        bail!(
            "the webhook's secret: {} bytes are too few, {SECRET} are needed: try `openssl rand -hex 32`",
            bytes.len()
        );
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn tls_config(tls: &Tls) -> Result<TlsConfig> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let roots: Vec<Certificate> = match &tls.tls_ca {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect(),
    };
    let ours = match (&tls.tls_cert, &tls.tls_key) {
        (Some(cert), Some(key)) => {
            let pem = secret::read(key)?;
            let key = PrivateKey::from_pem(pem.as_bytes()).with_context(|| shown(key))?;
            Some(ClientCert::new_with_certs(&certificates(cert)?, key))
        }
        _ => None,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .client_cert(ours)
        .unversioned_rustls_crypto_provider(ring)
        .build())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = secret::read(file)?;
    let items = ureq::tls::parse_pem(pem.as_bytes()).filter_map(|item| match item {
        Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let found: Vec<_> = items
        .collect::<Result<_, _>>()
        .with_context(|| shown(file))?;
    if found.is_empty() {
        bail!("{}: no certificate in there", file.display());
    }
    Ok(found)
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

impl Sink for Webhook {
    type Session = Posts;

    const KIND: &str = "webhook";
    const CONNECTS: bool = false;

    fn name(&self) -> String {
        self.post.name()
    }

    fn lock(&self) -> PathBuf {
        self.place.lock()
    }

    async fn open(&self) -> Result<Posts, End> {
        Ok(Posts {
            post: self.post.clone(),
            place: self.place.clone(),
            window: self.window,
            waiting: VecDeque::new(),
            posting: None,
            noting: None,
        })
    }

    async fn check(&self, _: &mut Posts) -> Result<String> {
        let (agent, uri) = (self.post.agent.clone(), self.post.uri.clone());
        let answer = tokio::task::spawn_blocking(move || agent.head(uri).call());
        let answer = answer.await?.with_context(|| self.name())?;
        Ok(format!("it answers HEAD with {}", answer.status()))
    }
}

/// Posts one after the other.
#[derive(Debug)]
pub struct Posts {
    post: Post,
    place: Place,
    window: usize,
    waiting: VecDeque<Record>,
    posting: Option<(Arrived, JoinHandle<Result<(), End>>)>,
    /// What arrived, and has to be noted first.
    noting: Option<Arrived>,
}

impl Session for Posts {
    async fn last(&mut self) -> Result<Option<Cursor>, End> {
        self.place.read().map_err(End::Fatal)
    }

    async fn send(&mut self, record: Record) -> Result<(), End> {
        self.waiting.push_back(record);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        let count = |arrived: &Arrived| usize::try_from(arrived.count).unwrap_or(self.window);
        let posting = self.posting.as_ref().map(|(arrived, _)| arrived);
        self.waiting.len() + posting.or(self.noting.as_ref()).map_or(0, count)
    }

    async fn arrived(&mut self) -> Result<Arrived, End> {
        if self.posting.is_none() && self.noting.is_none() {
            self.posting = self.next();
        }
        if let Some((arrived, posting)) = &mut self.posting {
            let answer = posting.await;
            self.noting = Some(*arrived);
            self.posting = None;
            answer.map_err(|error| End::Fatal(error.into()))??;
        }
        let Some(arrived) = self.noting else {
            return std::future::pending().await;
        };
        self.place.note(arrived.last).await;
        self.noting = None;
        Ok(arrived)
    }
}

impl Posts {
    /// Begins to post what waits.
    fn next(&mut self) -> Option<(Arrived, JoinHandle<Result<(), End>>)> {
        let mut body = String::new();
        let (mut count, mut last) = (0, None);
        while let Some(record) = self.waiting.front() {
            if count > 0 && body.len() + record.line.len() > BODY {
                break;
            }
            body.push_str(&record.line);
            body.push('\n');
            (count, last) = (count + 1, Some(record.cursor));
            self.waiting.pop_front();
        }
        let arrived = Arrived { count, last: last? };
        let post = self.post.clone();
        let id = post.node.message_id(arrived.last);
        let posting = tokio::task::spawn_blocking(move || post.post(&id, &body));
        Some((arrived, posting))
    }
}

/// A POST.
#[derive(Debug, Clone)]
struct Post {
    agent: Agent,
    uri: ureq::http::Uri,
    key: hmac::Key,
    node: Node,
    content: &'static str,
}

impl Post {
    /// The address without its path and parameters: they may be a secret.
    fn name(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let host = self.uri.host().unwrap_or_default();
        let port = self.uri.port_u16().map(|port| format!(":{port}"));
        format!("{scheme}://{host}{}", port.unwrap_or_default())
    }

    fn post(&self, id: &str, body: &str) -> Result<(), End> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = since.unwrap_or_default().as_secs().to_string();
        let sent = self
            .agent
            .post(&self.uri)
            .header("Content-Type", self.content)
            .header("Eventlog-Schema", SCHEMA)
            .header("webhook-id", id)
            .header("webhook-timestamp", &time)
            .header("webhook-signature", signature(&self.key, id, &time, body))
            .send(body);
        let mut answer = sent.map_err(|error| End::Lost(error.into()))?;
        let status = answer.status();
        let said = answer.body_mut().with_config().limit(ANSWER).read_to_vec();
        if status.is_success() {
            return Ok(());
        }
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said[..said.len().min(SHOWN)]).into_owned();
        Err(End::Refused(anyhow::anyhow!("answered {status}: {said:?}")))
    }
}

fn signature(key: &hmac::Key, id: &str, time: &str, body: &str) -> String {
    let signed = hmac::sign(key, format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(signed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of the standard's own libraries.
    #[test]
    fn signed_as_the_standard_has_it() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_bad_secret_is_refused() {
        for secret in ["short", "whsec_%%%", "whsec_c2hvcnQ="] {
            assert!(key(secret).is_err(), "{secret}");
        }
    }
}
