//! The nodes of a lab. One can be added while others are used, so that none may move.

use std::sync::OnceLock;

use crate::node::Node;

/// A list that only grows, and whose members stay where they are.
#[derive(Debug, Default)]
pub(crate) struct Nodes(OnceLock<Box<Link>>);

#[derive(Debug)]
struct Link {
    node: Node,
    rest: Nodes,
}

impl Nodes {
    /// Adds a node at the end.
    pub fn push(&self, node: Node) -> &Node {
        let mut link = Box::new(Link {
            node,
            rest: Nodes::default(),
        });
        let mut end = self;
        // Another one may be added at the same time.
        while let Err(refused) = end.0.set(link) {
            link = refused;
            end = end.rest();
        }
        &end.link().node
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0.get(), |link| link.rest.0.get()).map(|link| &link.node)
    }

    fn rest(&self) -> &Nodes {
        &self.link().rest
    }

    fn link(&self) -> &Link {
        let Some(link) = self.0.get() else {
            unreachable!("it was found to be set");
        };
        link
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Nodes {
        let all = Nodes::default();
        for node in nodes {
            all.push(node);
        }
        all
    }
}
