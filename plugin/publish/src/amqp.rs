//! AMQP 0-9-1, as RabbitMQ speaks it: each record at least once and in order, persistent, and
//! confirmed by the broker before its place is noted.
//!
//! A topic exchange gives a message to each queue that is bound to its routing key, which is
//! the subject: `cln.*.*.invoice_payment`. What no queue wants is dropped there, and logged.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use eventlog::cursor::Cursor;
use eventlog::tail::Record;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};

use crate::nats::connect::Broker;
use crate::node::{Node, SCHEMA};
use crate::place::Place;
use crate::secret;
use crate::sink::{Arrived, End, Session, Sink};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Seconds between two signs of life; without one for twice this long the connection is lost.
const HEARTBEAT: u16 = 10;

/// `delivery_mode`: kept over a restart of the broker.
const PERSISTENT: u8 = 2;

/// Where to publish, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Exchange {
    /// Publish to this broker instead: amqp://HOST:PORT/VHOST or amqps://; with --user, whose
    /// password is in --password-file or in AMQP_PASSWORD
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    pub amqp: Option<String>,
    /// The exchange; one of the kind topic is made if it is missing
    #[arg(long, value_name = "NAME", default_value = "cln.events")]
    pub amqp_exchange: String,
    /// This routing key for all, in place of the subject; empty where one queue takes
    /// everything, as that of Blockstream's event-plugin
    #[arg(long, value_name = "KEY")]
    pub amqp_routing_key: Option<String>,
}

/// An exchange of a broker.
#[derive(Debug)]
pub struct Amqp {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    make: bool,
    publishing: Publishing,
}

/// What a session needs of it.
#[derive(Debug, Clone)]
struct Publishing {
    exchange: String,
    key: Option<String>,
    node: Node,
    place: Place,
}

impl Amqp {
    /// The exchange for the records of a node. `make`: if it is missing.
    ///
    /// # Errors
    /// The address is none, or a file cannot be read.
    pub fn new(
        url: &str,
        target: &Exchange,
        broker: &Broker,
        make: bool,
        (node, place): (&Node, Place),
    ) -> Result<Self> {
        let parsed = url.parse::<AMQPUri>().map_err(anyhow::Error::msg);
        let mut uri = parsed.with_context(|| format!("--amqp {}", secret::public(url)))?;
        if let Some(user) = &broker.user {
            let password = secret::find(broker.password_file.as_ref(), "AMQP_PASSWORD")?;
            let Some(password) = password else {
                bail!("the user's password: name --password-file, or set AMQP_PASSWORD");
            };
            (
                uri.authority.userinfo.username,
                uri.authority.userinfo.password,
            ) = (user.clone(), password);
        }
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
        let tls = &broker.tls;
        let identity = match (&tls.tls_cert, &tls.tls_key) {
            (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
                pem: secret::read(cert)?.into(),
                key: secret::read(key)?.into(),
            }),
            _ => None,
        };
        for name in [
            Some(&target.amqp_exchange),
            target.amqp_routing_key.as_ref(),
        ] {
            if name.is_some_and(|name| name.len() > 255) {
                bail!("--amqp: a name is longer than 255 bytes");
            }
        }
        Ok(Self {
            uri,
            tls: OwnedTLSConfig {
                identity,
                cert_chain: tls.tls_ca.as_deref().map(secret::read).transpose()?,
            },
            make,
            publishing: Publishing {
                exchange: target.amqp_exchange.clone(),
                key: target.amqp_routing_key.clone(),
                node: node.clone(),
                place,
            },
        })
    }

    async fn connect(&self) -> Result<(Connection, Channel)> {
        let properties =
            ConnectionProperties::default().with_connection_name("eventlog-publish".into());
        let runtime = lapin::runtime::default_runtime()?;
        let (uri, tls) = (self.uri.clone(), self.tls.clone());
        let connection = Connection::connect_uri_with_config(uri, properties, tls, runtime).await?;
        let mut channel = connection.create_channel().await?;
        let exchange = &self.publishing.exchange;
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let declare = |channel: Channel, options| async move {
            let none = FieldTable::default();
            let kind = ExchangeKind::Topic;
            let declared = channel.exchange_declare(exchange.as_str().into(), kind, options, none);
            declared
                .await
                .with_context(|| format!("exchange {exchange}"))
        };
        // One that is there may be of any kind.
        if let Err(missing) = declare(channel.clone(), passive).await {
            if !self.make {
                return Err(missing);
            }
            tracing::info!("exchange {exchange}: it is missing, and made");
            let durable = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            channel = connection.create_channel().await?; // the error closed the other
            declare(channel.clone(), durable).await?;
        }
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok((connection, channel))
    }
}

impl Sink for Amqp {
    type Session = Published;

    const KIND: &str = "amqp";
    const CONNECTS: bool = true;

    fn name(&self) -> String {
        let AMQPUri {
            scheme,
            authority,
            vhost,
            ..
        } = &self.uri;
        format!("{scheme}://{}:{}/{vhost}", authority.host, authority.port)
    }

    fn lock(&self) -> PathBuf {
        self.publishing.place.lock()
    }

    async fn open(&self) -> Result<Published, End> {
        let connecting = tokio::time::timeout(PATIENCE, self.connect()).await;
        let connected = connecting
            .context("it takes too long")
            .and_then(|connected| connected);
        let (connection, channel) = connected.map_err(End::Lost)?;
        Ok(Published {
            _connection: connection,
            channel,
            publishing: self.publishing.clone(),
            in_flight: FuturesOrdered::new(),
            noting: None,
            failed: None,
            unwanted: HashSet::new(),
        })
    }

    async fn check(&self, _: &mut Published) -> Result<String> {
        Ok(format!("exchange {}", self.publishing.exchange))
    }
}

/// A record's cursor, its routing key, and what the broker said.
type InFlight = (Cursor, String, lapin::Result<Confirmation>);

/// One connection.
pub struct Published {
    /// It ends with this.
    _connection: Connection,
    channel: Channel,
    publishing: Publishing,
    in_flight: FuturesOrdered<BoxFuture<'static, InFlight>>,
    /// What arrived, and has to be noted first.
    noting: Option<Arrived>,
    /// What came after that did not.
    failed: Option<End>,
    /// Keys that no queue is bound to.
    unwanted: HashSet<String>,
}

impl Session for Published {
    async fn last(&mut self) -> Result<Option<Cursor>, End> {
        self.publishing.place.read().map_err(End::Fatal)
    }

    async fn send(&mut self, record: Record) -> Result<(), End> {
        let Publishing {
            exchange,
            key,
            node,
            ..
        } = &self.publishing;
        let key = key.clone().unwrap_or_else(|| node.subject(&record.topic));
        let mut headers = FieldTable::default();
        let schema = AMQPValue::LongString(SCHEMA.into());
        headers.insert("Eventlog-Schema".into(), schema);
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(node.message_id(record.cursor).into())
            .with_content_type("application/json".into())
            .with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true, // so that it comes back if no queue wants it
            ..BasicPublishOptions::default()
        };
        let (exchange, name) = (exchange.as_str().into(), key.as_str().into());
        let body = record.line.as_bytes();
        let sent = self
            .channel
            .basic_publish(exchange, name, options, body, properties);
        let sent = sent.await.map_err(|error| End::Lost(error.into()))?;
        let cursor = record.cursor;
        self.in_flight
            .push_back(Box::pin(async move { (cursor, key, sent.await) }));
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len() + usize::from(self.noting.is_some())
    }

    async fn arrived(&mut self) -> Result<Arrived, End> {
        if self.noting.is_none() {
            if let Some(end) = self.failed.take() {
                return Err(end);
            }
            let Some(first) = self.in_flight.next().await else {
                return std::future::pending().await;
            };
            self.confirmed(first);
            // Those that are there already are noted with it.
            while self.failed.is_none()
                && let Some(Some(next)) = self.in_flight.next().now_or_never()
            {
                self.confirmed(next);
            }
        }
        match self.noting {
            Some(arrived) => {
                self.publishing.place.note(arrived.last).await;
                self.noting = None;
                Ok(arrived)
            }
            None => Err(self.failed.take().unwrap_or(End::Stopped)),
        }
    }
}

impl Published {
    /// Takes what the broker said of a record.
    fn confirmed(&mut self, (last, key, said): InFlight) {
        match said {
            Ok(Confirmation::Ack(returned)) => {
                if returned.is_some() && self.unwanted.insert(key.clone()) {
                    tracing::warn!(
                        "{last}: no queue is bound to {key:?}: such records are dropped"
                    );
                }
                let count = self.noting.map_or(0, |arrived| arrived.count) + 1;
                self.noting = Some(Arrived { count, last });
            }
            Ok(_) => {
                let refused = anyhow::anyhow!("{last}: the broker refused it");
                self.failed = Some(End::Refused(refused));
            }
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("{last}: not confirmed"));
                self.failed = Some(End::Lost(error));
            }
        }
    }
}
