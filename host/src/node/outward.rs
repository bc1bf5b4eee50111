//! The node as its workloads see it.

use std::sync::Weak;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::NodeInner;
use super::call::{ARGUMENTS_TOTAL, Invocation};
use super::reply::{Next, Reply};
use super::{fetch, shelves};
use crate::wasm::outward::{Nested, Outward, Peer, Pieces};
use crate::words::{Code, Digest, Fault, Outcome};

/// Does not keep the node alive: the node keeps the workloads.
pub struct Around(pub Weak<NodeInner>);

impl Outward for Around {
    fn call(&self, call: Nested) -> BoxFuture<'static, Outcome<Pieces>> {
        let node = self.0.upgrade();
        async move {
            let node = node.ok_or_else(stopping)?;
            node.check_running()?;
            if call.arguments.len() > ARGUMENTS_TOTAL {
                let length = call.arguments.len();
                let what = format!("arguments of {length} bytes; the limit is {ARGUMENTS_TOTAL}");
                return Err(Fault::new(Code::TooLarge, what));
            }
            let Nested { name, function, form, arguments, deadline, idempotent, rights } = call;
            let call =
                Invocation { name, function, form, arguments, deadline, idempotent, trace: false, rights };
            Ok(pieces(node.invoke(&call).await?))
        }
        .boxed()
    }

    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Outcome<()>> {
        let node = self.0.upgrade();
        async move {
            let node = node.ok_or_else(stopping)?;
            node.check_running()?;
            fetch::blob(&node, &digest, None, None).await.map(drop)
        }
        .boxed()
    }

    fn let_go(&self, slot: String, digest: Digest) -> BoxFuture<'static, Outcome<bool>> {
        let node = self.0.upgrade();
        async move { shelves::let_go(&node.ok_or_else(stopping)?, slot, digest).await }.boxed()
    }

    fn sweep(&self, slot: String) -> BoxFuture<'static, ()> {
        let node = self.0.upgrade();
        async move {
            if let Some(node) = node {
                shelves::sweep(&node, slot).await;
            }
        }
        .boxed()
    }

    fn peers(&self) -> Vec<Peer> {
        let Some(node) = self.0.upgrade() else { return Vec::new() };
        let known = node.links.known();
        let peer = |link: &super::links::Link| Peer {
            id: link.peer,
            label: link.welcome.label.clone(),
            tags: known.get(&link.peer).map(|known| known.tags.clone()).unwrap_or_default(),
            trust: link.trust,
            rtt_us: u64::try_from(link.connection.rtt().as_micros()).unwrap_or(u64::MAX),
        };
        node.links.all().values().map(|link| peer(link)).collect()
    }
}

fn stopping() -> Fault {
    Fault::new(Code::NotRunning, "the node is stopping")
}

/// The items of a reply; what hops say of themselves is for people and left out.
fn pieces(reply: Reply) -> Pieces {
    stream::unfold(Some(reply), |reply| async {
        let mut reply = reply?;
        loop {
            match reply.next().await {
                Ok(Next::Items(items)) => return Some((Ok::<Bytes, Fault>(items), Some(reply))),
                Ok(Next::Note(_)) => {}
                Ok(Next::End) => return None,
                Err(fault) => return Some((Err(fault), None)),
            }
        }
    })
    .boxed()
}
