//! Every code that a finding can have: what it means, why it matters, what to do.

use super::finding::{Level, Stage};

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `C0301`.
    pub code: &'static str,
    /// How bad it is, unless a release makes a difference.
    pub level: Level,
    /// Where it is looked for.
    pub stage: Stage,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it matters: what lightningd does, and since when.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Code {
    /// Whether a handler fails at a message as it was sent, and the plugin lives.
    pub fn is_of_handlers(&self) -> bool {
        [&FAILS, &HOOK_FAILS].contains(&self)
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $level:ident $stage:ident $title:literal $why:literal $remedy:literal)*) => {
        $(
            #[doc = $title]
            pub static $name: Code = Code {
                code: $code,
                level: Level::$level,
                stage: Stage::$stage,
                title: $title,
                why: $why,
                remedy: $remedy,
            };
        )*
        /// Every code, in order.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    NO_MANIFEST "C0101" Error Manifest
        "getmanifest is not answered with a manifest"
        "lightningd waits 60 s (120 s in later releases) for the answer and then kills the plugin; \
         at its own start it ends with it. The id of `getmanifest` is a string from v25.05 on, \
         other ids before that: a library that expects numbers fails here (talaia-labs/rust-teos \
         152). A slow machine is no excuse: CLN 7724."
        "Start the plugin by hand, type the message that was sent, and look at its stderr. The id \
         of the answer is that of the request, byte for byte."
    MANIFEST "C0102" Error Manifest
        "the manifest is not valid"
        "lightningd kills the plugin, with a line in its log: `Killing plugin: …`. Until v24.05 \
         every method needs a `description`, and every release needs `options` and `rpcmethods`, \
         even if they are empty."
        "Correct the member that is named."
    OPTION "C0103" Error Manifest
        "an option that lightningd does not accept"
        "lightningd kills the plugin. Types are string, int, bool and flag; string-conceal came \
         with v24.11. From v23.08 on names are of a-z, 0-9, _ and -; a flag's default must be \
         false, and until then was ignored."
        "Correct the option, or declare it only where LIGHTNINGD_VERSION in the environment \
         allows it."
    TAKEN "C0104" Error Manifest
        "a name that is taken"
        "Two options or methods cannot have one name: at its start lightningd ends with `option \
         name … is already taken`, later it kills the plugin (CLN 4415, 9416). Releases add \
         both: v24.11 a method `xpay`."
        "Put the plugin's own name before it: `myplugin-option`."
    HOOK_UNKNOWN "C0105" Error Manifest
        "a hook that this release lacks"
        "lightningd kills a plugin that registers a hook it does not know: `could not register \
         hook` (CLN 6054). `recover` came with v23.08."
        "Register it only where LIGHTNINGD_VERSION in the environment is late enough."
    TOPIC "C0106" Warning Manifest
        "a topic that this release never sends"
        "lightningd accepts any topic, since another plugin may send it: of a misspelt one, or \
         one that came later, it only logs a line. `*` is for all from v23.08 on (CLN 6347)."
        "Correct the name; or have nothing depend on the topic before that release, or without \
         the plugin that sends it."
    NATIVE "C0107" Error Manifest
        "it announces a topic of lightningd as its own"
        "lightningd kills the plugin: `these may however only be sent by lightningd`. Releases \
         add topics, so that a name may become one: v24.02 `custommsg`."
        "Choose a name that begins with the plugin's."
    NO_INIT "C0201" Error Init
        "init is not answered"
        "lightningd kills a plugin that ends, or does not answer within 60 s (120 s in later \
         releases); if it is marked as important, the node ends, too (CLN 7724). `init` gets \
         members: with v25.02 the features of bolt12, with v26.06 `channel_type`."
        "Accept members that you do not know. Answer before you do what takes long. The id of the \
         answer is that of the request, byte for byte. If it ended, its stderr says why."
    EARLY "C0202" Error Init
        "it fails at a notification that comes before init"
        "Before v24.05 lightningd sends `warning`, and to a plugin with `*` others, as soon as it \
         has the manifest (CLN 7277). A library that expects only `init` then ends."
        "Ignore notifications before `init`; or subscribe only from v24.05 on."
    DISABLED "C0203" Warning Init
        "it disables itself"
        "Every release ends the plugin and logs the reason, at level debug if it says so at \
         `init`. Nothing else could be checked."
        "Set what it needs with `--option name=value`, or give answers with `--rpc FILE`."
    INIT_ERROR "C0204" Warning Init
        "init is answered with an error"
        "No release looks at it: only `disable` in a result counts. The plugin is treated as \
         ready, and is sent everything."
        "Answer `{\"disable\": \"why\"}`, or end with a line on stderr."
    INIT_FAILS "C0205" Warning Init
        "it fails at init, but answers"
        "On every release lightningd takes it for ready: what failed stays undone."
        "Read what it wrote. What needs the node can fail there, too: answer \
         `{\"disable\": \"why\"}` then, or try again."
    DIES "C0301" Error Topics
        "it dies of a notification"
        "lightningd does not start it again: from then on the node runs without it. Shapes \
         change: v23.08 wrapped `connect`, `disconnect` and `block_added` in an object of the \
         topic's name (CLN 6388), v24.11 no longer sends the raw members beside it (CLN 8118), \
         v23.11 made amounts numbers (CLN 6884), v25.09 removed `payload` (CLN 8478); \
         `lab topics --changes` lists all."
        "Read the message that was sent; take each member as optional, in either shape."
    FAILS "C0302" Warning Topics
        "a handler fails"
        "The plugin lives, but this event is lost to it. It is an error where the same topic is \
         handled on another release: then the shape is what it fails at, as at v23.08 (CLN \
         6388) or v23.11 (CLN 6884), as `lab topics --changes` lists them; and where a handler \
         in Python does not take the arguments that it is called with."
        "Read the message that was sent; take each member as optional, in either shape."
    ADDED "C0303" Warning Topics
        "it fails if a member is added"
        "Releases add members to notifications without notice: a parser that refuses what it \
         does not know fails at the next one, as v26.04 with `preimage` in `forward_event`."
        "Ignore unknown members (in Rust: no `deny_unknown_fields`)."
    ABSENT "C0304" Warning Topics
        "it fails if an optional member is missing"
        "These members are not in every message of this topic: `sendpay_failure` without \
         `erring_node` made plugins panic (CLN 7430)."
        "Take the member as optional."
    DEPRECATED "C0305" Warning Topics
        "it fails where deprecated APIs are off"
        "With `allow-deprecated-apis=false` a release sends what a later one will always send: \
         null becomes absent (CLN 8464, 9136), old members go. This is next year's message."
        "Use the members that take the place of the deprecated ones."
    UNREAD "C0306" Error Topics
        "it stops reading, or answering"
        "Every release keeps what a plugin does not read in memory, without a bound, and hooks \
         and calls wait behind it."
        "Read in a task of its own; release every lock when a handler fails."
    HOOK_SILENT "C0401" Error Hooks
        "a hook is not answered"
        "lightningd waits without end: the peer, the payment, the channel or (`db_write`, \
         `rpc_command`) the whole node stands still (CLN 3748)."
        "Answer each call, in time, `{\"result\": \"continue\"}` if nothing else."
    HOOK_ERROR "C0402" Error Hooks
        "a hook is answered with an error"
        "lightningd ends: `Plugin for … returned non-result response` (CLN 7838, wontfix). A \
         library turns a failed handler into such an answer."
        "Catch every failure in the handler, and answer `{\"result\": \"continue\"}`."
    HOOK_ANSWER "C0403" Error Hooks
        "an answer to a hook that lightningd does not accept"
        "lightningd ends with `Plugin returned an invalid response`; for `rpc_command` it \
         logs a line and continues as without the plugin (CLN 7224, 8181)."
        "Answer with an object, as the hook's page in the documentation says: most take \
         `{\"result\": \"continue\"}`."
    HOOK_DIES "C0404" Error Hooks
        "it dies of a hook"
        "lightningd continues as if the plugin were not there, and does not start it again; what \
         waited for the answer may hang (CLN 6571)."
        "Read the message that was sent; take each member as optional."
    HOOK_FAILS "C0405" Warning Hooks
        "a hook's handler fails, but the hook is answered"
        "Some libraries answer for a handler that failed, so that lightningd does not end \
         (pyln-client since CLN 4031): what the hook is for is not done. An error for the same \
         reasons as C0302."
        "Read the message that was sent; take each member as optional, in either shape."
    METHOD_DIES "C0501" Error Methods
        "a call with wrong parameters kills it, or is lost"
        "Anyone with access to the RPC socket ends the plugin by a slip of the pen (CLN 2612, \
         9345); a call that is never answered holds its client for ever."
        "Check the parameters, and answer with an error: code -32602."
    METHOD_SILENT "C0502" Warning Methods
        "a call with wrong parameters is not answered"
        "On every release the client waits for ever, if the method is not one that is meant to \
         wait."
        "Check the parameters first, and answer with an error: code -32602."
    SETCONFIG "C0503" Error Methods
        "setconfig of an option that says it is dynamic fails"
        "From v23.08 on `setconfig` of such an option is sent to the plugin. A library without a \
         handler for it ends the plugin; before v26.06 a `multi` option ended lightningd (CLN 8295)."
        "Handle `setconfig`, or do not declare the option `dynamic`."
    NOISE "C0601" Error Stream
        "something on stdout that is no message"
        "stdout belongs to the protocol. lightningd kills the plugin at the first byte that can \
         be no JSON; a `print` is enough (CLN 2146)."
        "Print to stderr, or send `log` notifications."
    STRAY "C0602" Warning Stream
        "an answer that nobody asked for"
        "Until v23.08 lightningd kills the plugin: `non-existent request`. Since then it is \
         ignored; if the id was changed on its way, the request waits for ever."
        "Never answer a notification, which has no id. Return ids as they came, byte for byte: \
         they are strings."
    NO_VERSION "C0603" Error Manifest
        "an answer without \"jsonrpc\""
        "lightningd, every release from v23.02 on, kills the plugin: `JSON-RPC message does not \
         contain \"jsonrpc\" field`."
        "Put `\"jsonrpc\": \"2.0\"` into every message."
    PIECES "C0604" Error Stream
        "messages in pieces, or several at once, are not understood"
        "A pipe has no borders, on every release: a read may end within a message, or hold \
         several. It happens under load, and with long messages such as `db_write` always."
        "Read until a message is whole: it ends where its JSON ends, and an empty line follows."
    BURST "C0605" Error Stream
        "it does not survive many notifications"
        "A node of every release that starts, or pays a lot, sends thousands of them within a \
         second."
        "Bound your queues, and keep reading; drop, or count, what you cannot handle."
    ORPHAN "C0606" Error End
        "it does not end with its input"
        "When lightningd ends it closes the plugin's input, and does not wait (before v23.11 it \
         kills plugins without a subscription to `shutdown`). A plugin that stays holds files \
         and ports that the next start of the node needs (CLN 6040)."
        "End at the end of stdin, also with threads at work."
    SHUTDOWN "C0607" Warning End
        "it does not end at shutdown"
        "lightningd waits 30 s for each plugin that subscribed to `shutdown`, and then kills it: \
         every stop of the node takes that long (CLN 7697)."
        "Exit when it comes."
    MALFORMED "C0608" Error Stream
        "a log line or notification that lightningd does not accept"
        "lightningd kills the plugin: a `log` needs a `message`, a level that the release knows \
         (`trace` came with v25.05), and every notification `params`."
        "Correct the message."
    UNDECLARED "C0609" Warning Stream
        "a notification that the manifest does not announce"
        "Every release logs a line and sends it to nobody."
        "Add the topic to `notifications` in the manifest."
    NODE_FAILS "C0701" Error Node
        "on a node it ends, or reports a failure"
        "As on every release, the node runs on without it, or the event is lost: see C0301, \
         C0302."
        "Play the scenario that is named, `lab topics --run NAME`, and read the messages; \
         `lab up --plugin` starts a node with the plugin."
    NODE_DIFFERS "C0702" Warning Node
        "with it, a node does not do what it does without"
        "A hook of the plugin may want that; else it stands in the way of the node, on every \
         release since its own."
        "Play the scenario that is named, `lab topics --run NAME`, and read what its hooks \
         answer."
}

/// The code of this name.
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter()
        .copied()
        .find(|known| known.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_names_a_release_or_an_issue() {
        for code in ALL {
            let named = code
                .why
                .match_indices("CLN ")
                .map(|(at, word)| at + word.len());
            let named = named.chain(code.why.match_indices(" v2").map(|(at, _)| at + 2));
            let mut named = named.filter_map(|at| code.why[at..].chars().next());
            let every = ["Every release", "every release", "No release"];
            let every = every.iter().any(|text| code.why.contains(text));
            assert!(every || named.any(|c| c.is_ascii_digit()), "{}", code.code);
        }
    }

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.is_sorted_by(|a, b| a.code < b.code));
        assert_eq!(find("c0301"), Some(&DIES));
        assert_eq!(find("C9999"), None);
    }
}
