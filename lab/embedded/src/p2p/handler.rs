//! The callbacks of LDK's `PeerManager`, for a node that has peers and nothing else.
//!
//! LDK calls them while it holds its own locks: they note what happened and return;
//! [`super::links`] acts on it later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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

use crate::lock::lock;
use crate::log::{Level, Log};

/// What happened to a link.
#[derive(Debug)]
pub enum Event {
    /// The handshake and `init` are done.
    Up { id: PublicKey, init: Box<Init> },
    /// Whoever ended it.
    Down { id: PublicKey },
    /// `bytes` is its `byteslen`.
    Pong { id: PublicKey, bytes: u16 },
}

/// How far an outgoing link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// BOLT 8 is under way.
    Handshake,
    /// `init` was sent.
    Init,
    /// `init` was received, too.
    Up,
}

struct Followed {
    phase: Phase,
    up: Option<oneshot::Sender<()>>,
}

pub struct LinkHandler {
    events: mpsc::UnboundedSender<Event>,
    /// Those in `init`, BOLT 9 big-endian.
    features: Arc<Mutex<Vec<u8>>>,
    followed: Mutex<HashMap<PublicKey, Followed>>,
    to_send: Mutex<Vec<MessageSendEvent>>,
    /// Answers messages about channels with errors.
    no_channels: ErroringMessageHandler,
}

impl LinkHandler {
    /// Reports to `events`.
    pub fn new(events: mpsc::UnboundedSender<Event>, features: Arc<Mutex<Vec<u8>>>) -> Self {
        Self {
            events,
            features,
            followed: Mutex::new(HashMap::new()),
            to_send: Mutex::new(Vec::new()),
            no_channels: ErroringMessageHandler::new(),
        }
    }

    /// Follows the outgoing link to this node from here on; resolves when it is up.
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

    /// Ends that; gives how far the link came.
    pub fn unfollow(&self, id: &PublicKey) -> Phase {
        lock(&self.followed)
            .remove(id)
            .map_or(Phase::Handshake, |f| f.phase)
    }

    /// Refuses a channel that the peer wants to open; its `fundchannel` shows the
    /// message.
    fn refuse_channel(&self, node_id: PublicKey, channel_id: ChannelId) {
        let data = "this is an embedded node: it has no channels".into();
        lock(&self.to_send).push(MessageSendEvent::HandleError {
            node_id,
            action: msgs::ErrorAction::SendErrorMessage {
                msg: msgs::ErrorMessage { channel_id, data },
            },
        });
    }

    /// Sends a warning to the peer and closes the link, at the next `process_events`.
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

/// Every other message about a channel goes to LDK's handler that refuses it.
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

/// A BOLT 1 `ping`, sent as a custom message: LDK sends its own pings only when it
/// decides to.
#[derive(Debug)]
pub struct Ping {
    /// How many bytes the pong must have.
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

#[derive(Default)]
pub struct PingSender {
    queue: Mutex<Vec<(PublicKey, Ping)>>,
}

impl PingSender {
    /// Sends a ping at the next `process_events`.
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

/// Passes LDK's log lines to the node's log, as from lightningd's daemon for peers.
/// Pongs are noticed here, too: LDK reports them nowhere else.
pub struct LdkLog {
    pub log: Arc<Log>,
    /// Receives pongs.
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
            // LDK's Info to Error are about what a peer did, which needs no attention
            // here.
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
    /// Reads `Received message Pong(Pong { byteslen: 128 }) from 02…`.
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
