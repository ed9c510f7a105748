//! The table as a page: `plugin/TOPICS.md`, which `make topics` writes.

use std::fmt::Write;

use super::{scenarios, scenarios_of};
use cln_topics::{Sender, TOPICS, Topic};

/// The page, in Markdown.
pub fn markdown() -> String {
    let mut page = String::from(
        "# lightningd's notifications\n\
         \n\
         Every topic that Core Lightning and the plugins shipped with it send, up to v26.06.\n\
         Written by `make topics`. Each is triggered and checked on real nodes:\n\
         `lab topics --run TOPIC` plays its scenarios and shows the messages.\n\
         \n\
         | topic | since | sender | sent when |\n\
         |---|---|---|---|\n",
    );
    for topic in TOPICS {
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {1} | {2} | {3} |",
            topic.name,
            topic.since,
            sender(topic),
            topic.summary
        );
    }
    page.push_str(
        "\n\
         A plugin subscribes by naming topics in its manifest's `subscriptions`; `*` (v23.08) means\n\
         all but `log`, including those of other plugins. A payload is `params.TOPIC`; before\n\
         v23.08 `connect`, `disconnect`, `block_added` and `shutdown` had it in `params` itself.\n\
         Amounts are in millisatoshi: a number, or before v23.11 in places a string, `\"1000msat\"`.\n\
         \n\
         Below, `name?` is not in every payload, and `(name)` is there only while\n\
         `allow-deprecated-apis` is true, as it is by default.\n",
    );
    for topic in TOPICS {
        section(&mut page, topic);
    }
    page.push_str(
        "\n\
         ## A plugin's own topics\n\
         \n\
         A plugin names its topics in its manifest's `notifications`. Other plugins receive them with\n\
         the sender's name in `origin`, and `params` byte for byte as they were sent.\n\
         \n",
    );
    for scenario in scenarios().filter(|scenario| scenario.name == "custom") {
        let _ = writeln!(page, "- `{}`: {}.", scenario.name, scenario.does);
    }
    page
}

fn section(page: &mut String, topic: &Topic) {
    let _ = writeln!(
        page,
        "\n## {}\n\nSent when {}.\n",
        topic.name, topic.summary
    );
    let fields: Vec<String> = topic
        .fields
        .iter()
        .map(|field| format!("`{field}`"))
        .collect();
    let fields = if fields.is_empty() {
        "empty".to_owned()
    } else {
        fields.join(", ")
    };
    let _ = writeln!(page, "Payload: {fields}.\n");
    for scenario in scenarios_of(topic.name) {
        let _ = writeln!(page, "- `{}`: {}.", scenario.name, scenario.does);
    }
}

fn sender(topic: &Topic) -> String {
    match topic.sender {
        Sender::Lightningd => "lightningd".to_owned(),
        Sender::Shipped(plugin) => format!("plugin `{plugin}`"),
    }
}
