//! The stream that holds the messages: made if it is missing, else checked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Info, RetentionPolicy, Stream};

use crate::node::Node;

/// What a lost connection still delivers is not doubled for this long: nats-server's default.
const DUPLICATES: Duration = Duration::from_secs(120);

/// What the stream is to be like.
#[derive(Debug, Clone, clap::Args)]
pub struct Wanted {
    /// The stream's name
    #[arg(long, value_name = "NAME", default_value = "CLN")]
    pub stream: String,
    /// Fail if the stream is missing, rather than make it
    #[arg(long)]
    pub no_create: bool,
    /// Make it as this file says: JSON, as `nats stream info --json` shows `config`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["max_age", "replicas"])]
    pub stream_config: Option<PathBuf>,
    /// Make it keep messages for this long, such as 30days; for ever by default
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub max_age: Option<Duration>,
    /// Make it with this many replicas
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: usize,
}

impl Wanted {
    /// The stream, with what it is like.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn find(&self, context: &Context) -> Result<Stream<Info>> {
        let name = &self.stream;
        let stream = match context.get_stream(name).await {
            Ok(stream) => stream,
            Err(error) if !self.no_create && is_missing(&error) => {
                tracing::info!("stream {name}: it is missing, and made");
                let made = context.create_stream(self.config()?).await;
                made.with_context(|| format!("stream {name}: it cannot be made"))?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("stream {name}"));
            }
        };
        Ok(stream)
    }

    /// Whether a stream takes this node's messages.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, stream: &Stream<Info>, node: &Node) -> Result<()> {
        let name = &self.stream;
        let config = &stream.cached_info().config;
        let subject = node.subject("connect");
        if !config
            .subjects
            .iter()
            .any(|pattern| covers(pattern, &subject))
        {
            bail!(
                "stream {name}: it takes {:?}, and so nothing of this node: add the subject cln.>",
                config.subjects
            );
        }
        if config.retention != RetentionPolicy::Limits {
            bail!(
                "stream {name}: its retention is {:?}: what is consumed is removed, and with it how \
                 far it is published: make it with limits, and a workqueue that has it as source",
                config.retention
            );
        }
        if config.max_messages_per_subject > 0 {
            bail!(
                "stream {name}: it keeps {} messages of a subject (max_msgs_per_subject): what it \
                 removes cannot be told from what it lost: limit max_age, max_msgs or max_bytes",
                config.max_messages_per_subject
            );
        }
        if config.duplicate_window < DUPLICATES {
            bail!(
                "stream {name}: its duplicate_window is {}, and is to be {} or more, as max_age",
                humantime::format_duration(config.duplicate_window),
                humantime::format_duration(DUPLICATES)
            );
        }
        if config.no_ack {
            bail!("stream {name}: it does not acknowledge messages (no_ack)");
        }
        Ok(())
    }

    fn config(&self) -> Result<Config> {
        if let Some(file) = &self.stream_config {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let config: Config =
                serde_json::from_str(&text).with_context(|| file.display().to_string())?;
            if config.name != self.stream {
                bail!(
                    "{}: its name is {}, and --stream is {}",
                    file.display(),
                    config.name,
                    self.stream
                );
            }
            return Ok(config);
        }
        Ok(Config {
            name: self.stream.clone(),
            description: Some("Core Lightning's events, by eventlog-publish".to_owned()),
            subjects: vec!["cln.>".to_owned()],
            max_age: self.max_age.unwrap_or_default(),
            num_replicas: self.replicas,
            ..Config::default()
        })
    }
}

fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    // JetStream's code for a stream that is not there.
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// Does a pattern with `*` and `>` take this subject?
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(p), Some(s)) if p == "*" || p == s => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn patterns() {
        let subject = "cln.regtest.02ab.connect";
        for pattern in ["cln.>", ">", "cln.*.*.*", "cln.regtest.02ab.connect"] {
            assert!(covers(pattern, subject), "{pattern}");
        }
        for pattern in [
            "cln",
            "cln.*",
            "cln.*.*.*.*",
            "cln.bitcoin.>",
            "cln.regtest.02ab.connect.>",
        ] {
            assert!(!covers(pattern, subject), "{pattern}");
        }
    }
}
