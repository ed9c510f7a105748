//! Nodes that are added to a lab while it runs.

use super::builder::check_name;
use crate::node::{Attached, Surroundings};
use crate::remote::description::Description;
use crate::remote::request::{Request, ask};
use crate::{Error, Lab, Node, NodeSpec, Result, binaries};

impl Lab {
    /// Adds a node to the running lab, starts it, and waits until it is ready. It has
    /// what [`LabBuilder`](crate::LabBuilder) sets for every node; by default its name is
    /// `l` and its place.
    ///
    /// # Errors
    /// As [`Lab::add_node_down`]; as [`Node::start`]: then the node stays in the lab,
    /// and is down.
    ///
    /// ```no_run
    /// # async fn f() -> cln_lab::Result<()> {
    /// # use cln_lab::{Lab, NodeSpec};
    /// let lab = Lab::builder().nodes(1).start().await?;
    /// let l2 = lab.add_node(NodeSpec::new().option("fee-base", 10)).await?;
    /// lab.l1().connect(l2).await?;
    /// # lab.stop().await }
    /// ```
    pub async fn add_node(&self, spec: NodeSpec) -> Result<&Node> {
        let node = self.add_node_down(spec).await?;
        let started = node.start().await;
        if started.is_err() {
            // It may have ended, which is no other failure.
            let _ = node.kill9().await;
        }
        if self.folder.reaper.is_some() {
            self.describe().await?;
        }
        started.map(|()| node)
    }

    /// Adds a node without starting it: [`Node::start`] does. What is in its folder
    /// ([`Node::dir`], which may be there already) by then is the node's, for example a
    /// wallet or an `hsm_secret`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is taken or cannot be a folder's;
    /// [`Error::NotFound`] if its program is missing.
    pub async fn add_node_down(&self, spec: NodeSpec) -> Result<&Node> {
        let _one_at_a_time = self.adding.lock().await;
        let Some(reaper) = &self.folder.reaper else {
            ask(self.dir(), &Request::Add { spec }).await?;
            return self.attach_newest();
        };
        let mut spec = self.every.with(&spec);
        let place = self.nodes.iter().count() + 1;
        let name = spec.name.get_or_insert_with(|| format!("l{place}"));
        check_name(name)?;
        if self.nodes.iter().any(|node| node.name() == name) {
            return Err(Error::usage(format!(
                "this lab has a node named `{name}` already"
            )));
        }
        let path = spec.program()?;
        let implementation = binaries::implementation(&path).await?;
        spec.check(&path, &implementation)?;
        let surroundings = Surroundings {
            lab_dir: self.dir(),
            bitcoind: &self.bitcoind,
            every: &self.every,
            reaper,
        };
        let node = Node::create(spec, (path, implementation), &surroundings)?;
        let node = self.nodes.push(node);
        self.describe().await?;
        Ok(node)
    }

    /// Attaches the node that the lab's holder was the last to add.
    fn attach_newest(&self) -> Result<&Node> {
        let described = Description::read(self.dir())?.nodes;
        let newest = described.last().ok_or_else(|| Error::Answer {
            from: "the process that holds the lab".to_owned(),
            why: "it describes no node".to_owned(),
        })?;
        let node = Node::attached(newest, Attached::new(self.dir()), &self.bitcoind);
        Ok(self.nodes.push(node))
    }
}
