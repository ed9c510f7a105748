//! Several nodes of a lab at once: blocks, coins, channels.

use futures_util::future::try_join_all;

use crate::node::{fund, open_channels};
use crate::{Channel, Lab, Node, OpenChannel, Result};

impl Lab {
    /// Mines `blocks` blocks and waits until every node that is up has seen them.
    pub async fn mine(&self, blocks: u64) -> Result<Vec<String>> {
        let hashes = self.bitcoind().mine(blocks).await?;
        self.wait_block().await?;
        Ok(hashes)
    }

    /// Waits until every node that is up has seen bitcoind's last block.
    pub async fn wait_block(&self) -> Result<()> {
        let tip = self.bitcoind().height().await?;
        try_join_all(self.nodes().into_iter().map(async |node| {
            if !node.is_stopped().await {
                node.wait_height(tip).await?;
            }
            Ok(())
        }))
        .await
        .map(drop)
    }

    /// Gives every node of the lab `sat` satoshi, in one transaction and one
    /// block, and waits until they can spend them; the transaction's id.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if a node has no wallet.
    pub async fn fund_nodes(&self, sat: u64) -> Result<String> {
        let wanted: Vec<(&Node, u64)> = self.nodes().into_iter().map(|node| (node, sat)).collect();
        fund(self.bitcoind(), &wanted).await
    }

    /// Opens channels, all in the same blocks, and waits until each can be used: it is
    /// CHANNELD_NORMAL on both sides, and all these nodes know both directions of all
    /// public ones, so that routes can be found.
    ///
    /// # Errors
    /// As [`Node::open_channel`].
    pub async fn open_channels(&self, specs: &[OpenChannel<'_>]) -> Result<Vec<Channel>> {
        let mut ends: Vec<&Node> = Vec::new();
        for node in specs.iter().flat_map(OpenChannel::ends) {
            if !ends.iter().any(|end| std::ptr::eq(*end, node)) {
                ends.push(node);
            }
        }
        open_channels(self.bitcoind(), specs, &ends).await
    }

    /// Opens channels from each node to the next, `l1` → `l2` → `l3` …, of
    /// [`crate::CHANNEL_SAT`] each. When it returns, the first can pay the last.
    ///
    /// ```no_run
    /// # async fn f() -> cln_lab::Result<()> {
    /// let lab = cln_lab::Lab::builder().nodes(3).start().await?;
    /// lab.line_graph().await?;
    /// let invoice = lab.node("l3")?.invoice("1000sat", "inv", "pizza").await?;
    /// let paid = lab.l1().pay(&invoice.bolt11).await?;
    /// assert_eq!(paid.amount_msat, 1_000_000);
    /// lab.stop().await
    /// # }
    /// ```
    pub async fn line_graph(&self) -> Result<Vec<Channel>> {
        let specs: Vec<OpenChannel<'_>> = self
            .nodes()
            .windows(2)
            .map(|pair| OpenChannel::new(pair[0], pair[1]))
            .collect();
        self.open_channels(&specs).await
    }
}
