//! Notifications as types.

use cln_rpc::notifications::*;
use serde::de::DeserializeOwned;

/// A notification's payload as a type that knows its topic: every type in
/// `cln_rpc::notifications`, and those a test adds.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Greeted { who: String }
///
/// impl cln_lab::Notification for Greeted {
///     const TOPIC: &'static str = "greeted";
/// }
/// ```
pub trait Notification: DeserializeOwned {
    /// The topic under which it is sent.
    const TOPIC: &'static str;
}

macro_rules! notifications {
    ($($type:ident => $topic:literal,)*) => {
        $(impl Notification for $type {
            const TOPIC: &'static str = $topic;
        })*

        #[cfg(test)]
        const TYPED: &[&str] = &[$($topic),*];
    };
}

notifications! {
    BalanceSnapshotNotification => "balance_snapshot",
    BlockAddedNotification => "block_added",
    ChannelOpenFailedNotification => "channel_open_failed",
    ChannelOpenedNotification => "channel_opened",
    ChannelStateChangedNotification => "channel_state_changed",
    CoinMovementNotification => "coin_movement",
    ConnectNotification => "connect",
    CustomMsgNotification => "custommsg",
    DeprecatedOneshotNotification => "deprecated_oneshot",
    DisconnectNotification => "disconnect",
    ForwardEventNotification => "forward_event",
    InvoiceCreationNotification => "invoice_creation",
    InvoicePaymentNotification => "invoice_payment",
    LogNotification => "log",
    OnionMessageForwardFailNotification => "onionmessage_forward_fail",
    OpenChannelPeerSigsNotification => "openchannel_peer_sigs",
    PayPartEndNotification => "pay_part_end",
    PayPartStartNotification => "pay_part_start",
    PluginStartedNotification => "plugin_started",
    PluginStoppedNotification => "plugin_stopped",
    SendPayFailureNotification => "sendpay_failure",
    SendPaySuccessNotification => "sendpay_success",
    ShutdownNotification => "shutdown",
    WarningNotification => "warning",
}

#[cfg(test)]
mod tests {
    #[test]
    fn types_are_of_known_topics() {
        for topic in super::TYPED {
            assert!(cln_topics::Topic::find(topic).is_some(), "{topic}");
        }
    }
}
