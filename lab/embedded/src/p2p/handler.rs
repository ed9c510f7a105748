//! What LDK's `PeerManager` asks of a node that has peers and nothing else.
//!
//! LDK calls these while it holds its own locks: they note what happened and
//! return; [`super::Peers`] acts on it later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lightning::bitcoin::constants::ChainHash;
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::io;
use lightning::ln::msgs::{
    self, BaseMessageHandler, ChannelMessageHandler, DecodeError, Init, LightningError,
    MessageSendEvent,
};
use lightning::ln::peer_handler::{CustomMessageHandler, ErroringMessageHandler};
use lightning::ln::types::ChannelId;
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::logger::{self, Logger, Record};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use tokio::sync::{mpsc, oneshot};

use super::super::log::{Level, Log};

/// What happened to a link.
#[derive(Debug)]
pub enum Event {
    /// Noise and init are done.
    Up {
        /// Who is there.
        id: PublicKey,
        /// Its init message.
        init: Box<Init>,
    },
    /// It is gone, whoever ended it.
    Down {
        /// Who was there.
        id: PublicKey,
    },
    /// A pong of this many bytes came.
    Pong {
        /// From whom.
        id: PublicKey,
        /// The pong's `byteslen`.
        bytes: u16,
    },
}

/// How far an outgoing link has come, to say what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// BOLT 8 is under way.
    Handshake,
    /// BOLT 8 is done, `init` was sent.
    Init,
    /// Both have said `init`.
    Up,
}

struct Followed {
    phase: Phase,
    up: Option<oneshot::Sender<()>>,
}

/// The handler of the node's links.
pub struct LinkHandler {
    events: mpsc::UnboundedSender<Event>,
    /// What we say in `init`, BOLT 9 big-endian.
    features: Arc<Mutex<Vec<u8>>>,
    followed: Mutex<HashMap<PublicKey, Followed>>,
    to_send: Mutex<Vec<MessageSendEvent>>,
    /// Refuses channels in the words of the protocol.
    no_channels: ErroringMessageHandler,
}

impl LinkHandler {
    /// A handler that tells `events`.
    pub fn new(events: mpsc::UnboundedSender<Event>, features: Arc<Mutex<Vec<u8>>>) -> Self {
        Self {
            events,
            features,
            followed: Mutex::new(HashMap::new()),
            to_send: Mutex::new(Vec::new()),
            no_channels: ErroringMessageHandler::new(),
        }
    }

    /// Follows the outgoing link to this node from here on; says when it is up.
    pub fn follow(&self, id: PublicKey) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        lock(&self.followed).insert(
            id,
            Followed {
                phase: Phase::Handshake,
                up: Some(tx),
            },
        );
        rx
    }

    /// Ends the following; how far the link came.
    pub fn unfollow(&self, id: &PublicKey) -> Phase {
        lock(&self.followed)
            .remove(id)
            .map_or(Phase::Handshake, |f| f.phase)
    }

    /// Has a channel refused that the peer wants to open; `fundchannel` over
    /// there shows the words.
    fn refuse_channel(&self, node_id: PublicKey, channel_id: ChannelId) {
        let data = "this is an embedded node: it has no channels".into();
        lock(&self.to_send).push(MessageSendEvent::HandleError {
            node_id,
            action: msgs::ErrorAction::SendErrorMessage {
                msg: msgs::ErrorMessage { channel_id, data },
            },
        });
    }

    /// Has a warning sent to the peer and the link closed, at the next
    /// `process_events`.
    pub fn warn_and_disconnect(&self, node_id: PublicKey, text: &str) {
        lock(&self.to_send).push(MessageSendEvent::HandleError {
            node_id,
            action: msgs::ErrorAction::DisconnectPeerWithWarning {
                msg: msgs::WarningMessage {
                    channel_id: ChannelId::new_zero(),
                    data: text.into(),
                },
            },
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BaseMessageHandler for LinkHandler {
    fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
        let mut events = std::mem::take(&mut *lock(&self.to_send));
        events.extend(BaseMessageHandler::get_and_clear_pending_msg_events(
            &self.no_channels,
        ));
        events
    }

    fn peer_connected(&self, id: PublicKey, init: &Init, _inbound: bool) -> Result<(), ()> {
        if let Some(followed) = lock(&self.followed).get_mut(&id) {
            followed.phase = Phase::Up;
            if let Some(up) = followed.up.take() {
                let _ = up.send(());
            }
        }
        self.events
            .send(Event::Up {
                id,
                init: Box::new(init.clone()),
            })
            .map_err(|_| ())
    }

    fn peer_disconnected(&self, id: PublicKey) {
        // Nobody listens any more when the node ends.
        let _ = self.events.send(Event::Down { id });
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, id: PublicKey) -> InitFeatures {
        if let Some(followed) = lock(&self.followed).get_mut(&id) {
            followed.phase = Phase::Init;
        }
        InitFeatures::from_be_bytes(lock(&self.features).clone())
    }
}

/// Every other message about a channel goes to LDK's handler that refuses them.
macro_rules! refuse {
    ($($method:ident($msg:ty);)*) => {
        $(fn $method(&self, id: PublicKey, msg: $msg) {
            // Not a method call: LDK's handler dereferences to itself without end.
            ChannelMessageHandler::$method(&self.no_channels, id, msg);
        })*
    };
}

impl ChannelMessageHandler for LinkHandler {
    refuse! {
        handle_accept_channel(&msgs::AcceptChannel);
        handle_accept_channel_v2(&msgs::AcceptChannelV2);
        handle_funding_created(&msgs::FundingCreated);
        handle_funding_signed(&msgs::FundingSigned);
        handle_channel_ready(&msgs::ChannelReady);
        handle_peer_storage(msgs::PeerStorage);
        handle_peer_storage_retrieval(msgs::PeerStorageRetrieval);
        handle_shutdown(&msgs::Shutdown);
        handle_closing_signed(&msgs::ClosingSigned);
        handle_stfu(&msgs::Stfu);
        handle_splice_init(&msgs::SpliceInit);
        handle_splice_ack(&msgs::SpliceAck);
        handle_splice_locked(&msgs::SpliceLocked);
        handle_tx_add_input(&msgs::TxAddInput);
        handle_tx_add_output(&msgs::TxAddOutput);
        handle_tx_remove_input(&msgs::TxRemoveInput);
        handle_tx_remove_output(&msgs::TxRemoveOutput);
        handle_tx_complete(&msgs::TxComplete);
        handle_tx_signatures(&msgs::TxSignatures);
        handle_tx_init_rbf(&msgs::TxInitRbf);
        handle_tx_ack_rbf(&msgs::TxAckRbf);
        handle_tx_abort(&msgs::TxAbort);
        handle_update_add_htlc(&msgs::UpdateAddHTLC);
        handle_update_fulfill_htlc(msgs::UpdateFulfillHTLC);
        handle_update_fail_htlc(&msgs::UpdateFailHTLC);
        handle_update_fail_malformed_htlc(&msgs::UpdateFailMalformedHTLC);
        handle_commitment_signed(&msgs::CommitmentSigned);
        handle_revoke_and_ack(&msgs::RevokeAndACK);
        handle_update_fee(&msgs::UpdateFee);
        handle_announcement_signatures(&msgs::AnnouncementSignatures);
        handle_channel_reestablish(&msgs::ChannelReestablish);
        handle_channel_update(&msgs::ChannelUpdate);
        handle_error(&msgs::ErrorMessage);
    }

    fn handle_open_channel(&self, id: PublicKey, msg: &msgs::OpenChannel) {
        self.refuse_channel(id, msg.common_fields.temporary_channel_id);
    }

    fn handle_open_channel_v2(&self, id: PublicKey, msg: &msgs::OpenChannelV2) {
        self.refuse_channel(id, msg.common_fields.temporary_channel_id);
    }

    fn handle_commitment_signed_batch(
        &self,
        id: PublicKey,
        channel: ChannelId,
        batch: Vec<msgs::CommitmentSigned>,
    ) {
        ChannelMessageHandler::handle_commitment_signed_batch(
            &self.no_channels,
            id,
            channel,
            batch,
        );
    }

    /// Sent in `init` as `networks`; LDK refuses a peer of another chain.
    fn get_chain_hashes(&self) -> Option<Vec<ChainHash>> {
        Some(vec![ChainHash::REGTEST])
    }

    fn message_received(&self) {}
}

/// A BOLT 1 `ping`, sent as a message of our own: LDK sends pings only when it
/// wants to.
#[derive(Debug)]
pub struct Ping {
    /// How many bytes the pong is to have.
    pub pong_bytes: u16,
    /// How many bytes follow.
    pub bytes: u16,
}

impl Type for Ping {
    fn type_id(&self) -> u16 {
        18
    }
}

impl Writeable for Ping {
    fn write<W: Writer>(&self, w: &mut W) -> Result<(), io::Error> {
        self.pong_bytes.write(w)?;
        self.bytes.write(w)?;
        w.write_all(&vec![0; usize::from(self.bytes)])
    }
}

/// Sends the pings that were asked for.
#[derive(Default)]
pub struct PingSender {
    queue: Mutex<Vec<(PublicKey, Ping)>>,
}

impl PingSender {
    /// Has a ping sent at the next `process_events`.
    pub fn send(&self, id: PublicKey, ping: Ping) {
        lock(&self.queue).push((id, ping));
    }
}

impl CustomMessageReader for PingSender {
    type CustomMessage = Ping;

    fn read<R: LengthLimitedRead>(&self, _: u16, _: &mut R) -> Result<Option<Ping>, DecodeError> {
        Ok(None)
    }
}

impl CustomMessageHandler for PingSender {
    fn handle_custom_message(&self, _: Ping, _: PublicKey) -> Result<(), LightningError> {
        Ok(())
    }

    fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, Ping)> {
        std::mem::take(&mut *lock(&self.queue))
    }

    fn peer_disconnected(&self, _: PublicKey) {}

    fn peer_connected(&self, _: PublicKey, _: &Init, _: bool) -> Result<(), ()> {
        Ok(())
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, _: PublicKey) -> InitFeatures {
        InitFeatures::empty()
    }
}

/// Takes LDK's log lines: what matters goes to the node's log, under the names
/// of lightningd's daemon for peers. It is also where pongs are seen: LDK tells
/// nobody else of them.
pub struct LdkLog {
    /// The node's log.
    pub log: Arc<Log>,
    /// Who is told of pongs.
    pub events: mpsc::UnboundedSender<Event>,
}

impl Logger for LdkLog {
    fn log(&self, record: Record<'_>) {
        let level = match record.level {
            logger::Level::Gossip => return,
            logger::Level::Trace => {
                self.note_pong(&record);
                Level::Trace
            }
            logger::Level::Debug => Level::Debug,
            // LDK's Info to Error are about what a peer did: nothing in them
            // needs the attention of whoever runs the node.
            logger::Level::Info | logger::Level::Warn | logger::Level::Error => Level::Debug,
        };
        let source = match record.peer_id {
            Some(id) => format!("{id}-connectd"),
            None => "connectd".into(),
        };
        if self.log.wants(level, &source) {
            self.log.log(level, &source, record.args.to_string());
        }
    }
}

impl LdkLog {
    /// `Received message Pong(Pong { byteslen: 128 }) from 02…`
    fn note_pong(&self, record: &Record<'_>) {
        let Some(id) = record.peer_id else { return };
        if !record.module_path.ends_with("peer_handler") {
            return;
        }
        let text = record.args.to_string();
        let bytes = text
            .strip_prefix("Received message Pong(Pong { byteslen: ")
            .and_then(|rest| rest.split_once(' '))
            .and_then(|(digits, _)| digits.parse().ok());
        if let Some(bytes) = bytes {
            let _ = self.events.send(Event::Pong { id, bytes });
        }
    }
}
