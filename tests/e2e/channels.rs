//! Coins, channels and payments: each helper mines and waits on its own.

use anyhow::{Context, ensure};
use cln_lab::{CHANNEL_SAT, Capability, Error, NodeSpec, OpenChannel, msat};
use lab_tests::{Kinds, Outcome, Suite, faulty};
use serde_json::{Value, json};

pub fn tests(suite: Suite) -> Suite {
    suite
        .on(
            &[Kinds::Lightningd],
            "coins_can_be_spent_when_fund_returns",
            fund,
        )
        .on(
            &[Kinds::Lightningd],
            "a_channel_is_opened_paid_and_closed",
            one_channel,
        )
        .on(
            &[Kinds::Lightningd],
            "a_payment_crosses_three_nodes",
            line_graph,
        )
        .on(
            &[Kinds::Lightningd],
            "channels_open_in_the_same_blocks",
            same_blocks,
        )
        .case(
            "a_private_channel_is_not_announced",
            Kinds::Lightningd,
            faulty(
                &[(23, 11)],
                "does not send a peer the terms of a private channel",
            ),
            || private(Kinds::Lightningd),
        )
        .on(
            &[Kinds::Lightningd],
            "a_dual_funded_channel_opens",
            dual_fund,
        )
        .on(&[Kinds::Lightningd], "a_reorganization_is_seen", reorg)
        .scenario("heights_are_waited_for", heights)
        .on(
            &[Kinds::Embedded],
            "missing_capabilities_are_reported",
            cannot,
        )
}

async fn fund(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let height = lab.bitcoind().height().await?;
    let txid = lab.fund_nodes(2_000_000).await?;
    ensure!(lab.bitcoind().height().await? == height + 1, "one block");
    ensure!(l1.balance().await? == 2_000_000 && l2.balance().await? == 2_000_000);
    ensure!(lab.bitcoind().mempool().await?.is_empty());
    // A transaction that is in a block already needs no other.
    ensure!(lab.bitcoind().mine_until_confirmed(&txid).await? == height + 1);
    ensure!(lab.bitcoind().height().await? == height + 1);

    let address = l2.new_address().await?;
    let sent: Value = l1
        .call(
            "withdraw",
            json!({"destination": address, "satoshi": 500_000}),
        )
        .await?;
    let txid = sent["txid"].as_str().context("no txid")?;
    ensure!(lab.bitcoind().mine_until_confirmed(txid).await? == height + 2);
    lab.wait_block().await?;
    ensure!(l2.balance().await? == 2_500_000);

    let nowhere = lab.bitcoind().send_to("nowhere", 1).await;
    ensure!(
        matches!(nowhere, Err(Error::Bitcoind { .. })),
        "{nowhere:?}"
    );
    Ok(lab.stop().await?)
}

async fn one_channel(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let channel = l1.open_channel(l2, 500_000).await?;
    ensure!(channel.sat == 500_000, "{channel:?}");
    for (node, peer) in [(l1, l2), (l2, l1)] {
        let mut channels = node.channels_with(peer).await?;
        let seen = channels.pop().context("none")?;
        ensure!(channels.is_empty() && seen["state"] == "CHANNELD_NORMAL");
        ensure!(seen["short_channel_id"] == json!(channel.short_channel_id));
        ensure!(seen["channel_id"] == json!(channel.channel_id));
        ensure!(seen["funding_txid"] == json!(channel.funding_txid));
        let known: Value = node.call("listchannels", json!({})).await?;
        ensure!(
            known["channels"].as_array().map(Vec::len) == Some(2),
            "{known}"
        );
    }

    let invoice = l2.invoice("100000sat", "inv", "pizza").await?;
    let paid = l1.pay(&invoice.bolt11).await?;
    ensure!(paid.amount_msat == 100_000_000 && paid.amount_sent_msat == 100_000_000);
    let listed: Value = l2.call("listinvoices", json!({"label": "inv"})).await?;
    let listed = &listed["invoices"][0];
    ensure!(listed["status"] == "paid", "{listed}");
    ensure!(
        listed["payment_preimage"] == json!(paid.preimage),
        "{listed}"
    );
    // A block more on the way: the payer waits until it has it, too.
    lab.bitcoind().mine(1).await?;
    let paid = l2.keysend(l1, 1_000_000).await?;
    ensure!(paid.amount_msat == 1_000_000, "{paid:?}");

    let txid = l2.close(l1).await?;
    ensure!(!lab.bitcoind().mempool().await?.contains(&txid));
    let again = l2.close(l1).await;
    ensure!(matches!(again, Err(Error::Usage(_))), "{again:?}");
    let height = lab.bitcoind().height().await?;
    ensure!(lab.bitcoind().mine_until_confirmed(&txid).await? == height);
    Ok(lab.stop().await?)
}

async fn line_graph(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(3).start().await?;
    let channels = lab.line_graph().await?;
    ensure!(channels.len() == 2 && channels.iter().all(|c| c.sat == CHANNEL_SAT));
    let l3 = lab.node("l3")?;
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    let paid = lab.l1().pay(&invoice.bolt11).await?;
    ensure!(paid.amount_msat == 1_000_000, "{paid:?}");
    ensure!(
        paid.amount_sent_msat > 1_000_000,
        "l2 takes a fee: {paid:?}"
    );
    let forwards: Value = lab.l2().call("listforwards", json!({})).await?;
    let forward = &forwards["forwards"][0];
    ensure!(forward["status"] == "settled", "{forwards}");
    ensure!(forward["out_channel"] == json!(channels[1].short_channel_id));
    ensure!(msat(&forward["out_msat"]) == Some(1_000_000), "{forward}");
    let paid = lab.l1().keysend(l3, 5_000).await?;
    ensure!(paid.amount_msat == 5_000, "{paid:?}");
    Ok(lab.stop().await?)
}

/// Four channels, two of one node's, take the blocks of one.
async fn same_blocks(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(4).start().await?;
    let [l1, l2, l3, l4] = lab.nodes()[..] else {
        anyhow::bail!("not four nodes");
    };
    let height = lab.bitcoind().height().await?;
    let channels = lab
        .open_channels(&[
            OpenChannel::new(l1, l2).push_msat(100_000_000),
            OpenChannel::new(l1, l3).sat(2_000_000),
            OpenChannel::new(l3, l4),
            OpenChannel::new(l4, l1),
        ])
        .await?;
    ensure!(channels.len() == 4 && channels[1].sat == 2_000_000);
    // One to fund, six to bury.
    ensure!(lab.bitcoind().height().await? == height + 7);
    let invoice = l4.invoice("1000sat", "inv", "pizza").await?;
    l2.pay(&invoice.bolt11).await?;
    Ok(lab.stop().await?)
}

async fn private(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(3).start().await?;
    let [l1, l2, l3] = lab.nodes()[..] else {
        anyhow::bail!("not three nodes");
    };
    let channels = lab
        .open_channels(&[OpenChannel::new(l1, l2), OpenChannel::new(l2, l3).private()])
        .await?;
    let known: Value = l1.call("listchannels", json!({})).await?;
    let known = known["channels"].as_array().context("no channels")?;
    let scids: Vec<&Value> = known.iter().map(|c| &c["short_channel_id"]).collect();
    ensure!(
        scids == [&json!(channels[0].short_channel_id); 2],
        "{scids:?}"
    );
    // The invoice has a hint of the way in.
    let invoice = l3.invoice("1000sat", "inv", "pizza").await?;
    l1.pay(&invoice.bolt11).await?;
    Ok(lab.stop().await?)
}

async fn dual_fund(kinds: Kinds) -> Outcome {
    let node = |n| {
        NodeSpec::new()
            .kind(kinds.kind_of(n))
            .flag("experimental-dual-fund")
    };
    let lab = kinds.lab(0).node(node(0)).node(node(1)).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let channel = l1.open_channel(l2, 500_000).await?;
    let seen = l1.channels_with(l2).await?;
    let changes = seen[0]["state_changes"].to_string();
    ensure!(changes.contains("DUALOPEND_AWAITING_LOCKIN"), "{seen:?}");
    let invoice = l2.invoice("1000sat", "inv", "pizza").await?;
    l1.pay(&invoice.bolt11).await?;
    let txid = l1.close(l2).await?;
    ensure!(txid != channel.funding_txid);
    Ok(lab.stop().await?)
}

/// The node follows, and its coins are confirmed again in the new blocks.
async fn reorg(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(1).start().await?;
    lab.l1().fund(1_000_000).await?;
    lab.mine(1).await?;
    let height = lab.bitcoind().height().await?;
    let old = lab.bitcoind().block_hash(height).await?;
    let new = lab.bitcoind().reorg(2).await?;
    ensure!(new.len() == 3 && !new.contains(&old));
    lab.wait_block().await?;
    ensure!(lab.l1().height().await? == height + 1);
    let removed = lab.l1().log().lines_with("Removing stale block")?;
    ensure!(removed.len() == 2, "{removed:?}");
    ensure!(lab.l1().balance().await? == 1_000_000);
    let too_deep = lab.bitcoind().reorg(1_000).await;
    ensure!(matches!(too_deep, Err(Error::Usage(_))), "{too_deep:?}");
    Ok(lab.stop().await?)
}

async fn heights(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let height = lab.bitcoind().height().await?;
    let hashes = lab.mine(3).await?;
    ensure!(hashes.len() == 3);
    for node in lab.nodes() {
        ensure!(node.height().await? == height + 3);
        ensure!(node.wait_height(height).await? == height + 3);
    }
    Ok(lab.stop().await?)
}

async fn cannot(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    ensure!(!l1.supports(Capability::Channels) && !l1.supports(Capability::Payments));
    let refusals = [
        lab.fund_nodes(1).await.expect_err("no wallet"),
        l1.open_channel(l2, 1).await.expect_err("no channels"),
        l1.close(l2).await.expect_err("no channels"),
        l1.keysend(l2, 1).await.expect_err("no payments"),
    ];
    for error in refusals {
        let text = error.to_string();
        ensure!(matches!(error, Error::Usage(_)), "{text}");
        ensure!(text.starts_with("l1 is the embedded node"), "{text}");
        ensure!(text.contains("LAB_NODE=lightningd"), "{text}");
    }
    Ok(lab.stop().await?)
}
