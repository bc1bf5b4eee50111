//! What the nodes of the mesh run: asked of each by an ordinary call of its own name, and answered to whoever is trusted.
//!
//! The answer is sealed by the node that gives it, for this question alone: who forwards it can drop it and change nothing. Nothing is
//! done because of it but telling a person how far a manifest has come.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use quinn::SendStream;

use super::answer::Writer;
use super::call::Invocation;
use super::control::REPORT_MAX;
use super::reply::{Next, Reply};
use super::{Node, NodeInner, give, vouch};
use crate::clock;
use crate::decisions::rights::Rights;
use crate::decisions::seal::{self, Said};
use crate::decisions::trust::{self, Operation};
use crate::net::FrameWriter;
use crate::words::envelope::FixedRef;
use crate::words::mesh::{AskRuns, NodeReport, Runs, TROUBLED_MOST};
use crate::words::schema::Form;
use crate::words::{Code, Fault, Name, NodeId, Outcome, Trust, note};

/// The function of a node's own name that says what it runs; its arguments are an [`AskRuns`].
pub(super) const FUNCTION: &str = "generation";
/// An answer: some names, and a sentence for each peer that announces what is refused.
const ANSWER_MAX: usize = 32 << 10;
/// Time for one node. One that takes longer counts as away, and may be asked again.
const ASK_MS: u64 = 3_000;
/// The same with the time to get a stream.
const ASK: Duration = Duration::from_secs(5);
/// Nodes that are asked for one report. Further ones are named, and not asked.
const ASKED_MOST: usize = 1_024;
/// Of them at a time.
const AT_A_TIME: usize = 64;
/// Slots and peers that a warning names.
const NAMED_MOST: usize = 8;

/// Writes what every known node runs, each as soon as it answers.
pub async fn answer(node: &Node, writer: &mut Writer) -> Outcome<()> {
    let own = node.identity.id;
    let mut others: Vec<_> = node.known_nodes().into_iter().filter(|(id, _)| *id != own).collect();
    let further = others.split_off(others.len().min(ASKED_MOST));
    let report = NodeReport {
        node: own,
        label: node.identity.label.clone(),
        own: true,
        runs: Some(node.runs()),
        why: None,
    };
    writer.item(&note::write("report", &report, REPORT_MAX)?).await?;
    let asked = others.into_iter().map(|(to, label)| async move {
        let (runs, why) = match ask(node, to, Way::Nearest).await {
            Ok(runs) => (Some(runs), None),
            Err(fault) => (None, Some(fault)),
        };
        let label = runs.as_ref().map(|runs| runs.label.clone()).or(label).unwrap_or_default();
        NodeReport { node: to, label, own: false, runs, why }
    });
    let mut reports = stream::iter(asked).buffer_unordered(AT_A_TIME);
    while let Some(report) = reports.next().await {
        writer.item(&note::write("report", &report, REPORT_MAX)?).await?;
    }
    for (to, label) in further {
        let why = Fault::new(Code::Busy, format!("not asked: {ASKED_MOST} nodes are asked at a time"));
        let label = label.unwrap_or_default();
        let report = NodeReport { node: to, label, own: false, runs: None, why: Some(why) };
        writer.item(&note::write("report", &report, REPORT_MAX)?).await?;
    }
    writer.end().await
}

/// How a question goes, and what for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Over the link, where there is one, to know.
    Nearest,
    /// Over the link, to confirm that it is one. Where nothing routes there is nothing else.
    Linked,
    /// As every call goes, to confirm that calls come there.
    Routed,
}

/// Asks one node.
pub(super) async fn ask(node: &NodeInner, to: NodeId, way: Way) -> Outcome<Runs> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
    let name = Name::of_node(&to);
    let claim = match way {
        Way::Nearest => None,
        Way::Linked => Some(0),
        Way::Routed => node.claims.serial(&name, &to, clock::now_ms()),
    };
    let call = Invocation {
        name,
        function: FUNCTION.to_owned(),
        form: Form::Cbor,
        arguments: note::write("question", &AskRuns { nonce, claim }, give::ASK_MAX)?,
        deadline: clock::deadline_in(ASK_MS),
        idempotent: true,
        trace: false,
        rights: Rights::own(node.identity.id),
    };
    let answer = async {
        let mut reply = match node.links.get(&to) {
            Some(link) if way != Way::Routed => Reply::Remote(node.try_way(&call, &link, to).await?),
            _ => Box::pin(node.invoke(&call)).await?,
        };
        match reply.next().await? {
            Next::Items(sealed) => opened(&to, &nonce, &sealed),
            _ => Err(Fault::new(Code::Protocol, "an answer is one item")),
        }
    };
    tokio::time::timeout(ASK, answer).await.unwrap_or_else(|_| {
        Err(Fault::new(Code::Unreachable, format!("node {} did not answer in time", to.short())))
    })
}

fn opened(to: &NodeId, nonce: &[u8; 16], sealed: &[u8]) -> Outcome<Runs> {
    match seal::open(to, &seal::nonce_of_question(nonce), 0, sealed)? {
        (Said::Item, body) => note::read("answer", body, ANSWER_MAX),
        _ => Err(Fault::new(Code::Protocol, "an answer is one item")),
    }
}

/// Answers a node that asks.
pub async fn called(
    node: &Node,
    trust: Trust,
    peer: NodeId,
    fixed: &FixedRef<'_>,
    mut writer: FrameWriter<SendStream>,
) {
    let outcome = match says(node, trust, peer, fixed).await {
        Ok(sealed) => writer.last(&sealed).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = outcome {
        // Who asked may be gone; then there is nobody to tell.
        let _ = writer.fail(&fault).await;
    }
}

async fn says(node: &Node, trust: Trust, peer: NodeId, fixed: &FixedRef<'_>) -> Outcome<Vec<u8>> {
    trust::check(Operation::Manifest, trust, &peer)?;
    let AskRuns { nonce, claim } = note::read("question", fixed.arguments, give::ASK_MAX)?;
    if let Some(claim) = claim {
        vouch::reached(node, claim).await;
    }
    let body = note::write("answer", &node.runs(), ANSWER_MAX)?;
    Ok(seal::seal(&node.identity.key, &seal::nonce_of_question(&nonce), 0, Said::Item, &body))
}

impl NodeInner {
    /// What this node runs.
    fn runs(&self) -> Runs {
        let (generation, taken) = (self.generation.load_full(), self.spread.taken());
        let down = generation.policies().filter(|(_, slot)| !slot.health().running);
        Runs {
            label: self.identity.label.clone(),
            version: generation.version,
            digest: taken.in_force.filter(|_| generation.version > 0),
            floor: taken.floor,
            held_instead_of: generation.instead_of,
            returned: generation.returned.clone(),
            probation: self.probation.get(),
            troubled: down.map(|(installed, _)| installed.entry.slot.clone()).take(TROUBLED_MOST).collect(),
            refused: self.spread.refused().into_values().collect(),
        }
    }

    /// Every node that is known here with what it calls itself: this one, linked peers, and those that claim their own names.
    pub(super) fn known_nodes(&self) -> BTreeMap<NodeId, Option<String>> {
        let own = (self.identity.id, Some(self.identity.label.clone()));
        let mut nodes: BTreeMap<NodeId, Option<String>> =
            self.claims.nodes(clock::now_ms()).into_iter().chain([own]).collect();
        for (peer, link) in self.links.all().iter() {
            nodes.insert(*peer, Some(link.welcome.label.clone()));
        }
        nodes
    }

    /// What somebody should know of the manifests of others.
    pub(super) fn spread_warnings(&self) -> Vec<String> {
        let (taken, generation) = (self.spread.taken(), self.generation.load_full());
        let ids = |signers: &[NodeId]| signers.iter().map(NodeId::short).collect::<Vec<_>>().join(", ");
        let mut warnings: Vec<String> = self
            .spread
            .forks()
            .iter()
            .map(|fork| {
                format!(
                    "manifest {} is a fork: here is {} (signed by {}), {} has {} (signed by {}); neither moves, and the next version heals it",
                    fork.version,
                    fork.ours.short(),
                    ids(&fork.our_signers),
                    fork.peer.short(),
                    fork.theirs.short(),
                    ids(&fork.their_signers)
                )
            })
            .collect();
        for (peer, refused) in self.spread.refused().iter().take(NAMED_MOST) {
            let (version, why) = (refused.version, &refused.why);
            warnings.push(format!("manifest {version} that {} announces is not taken: {why}", peer.short()));
        }
        if taken.in_force.is_some() && taken.announces.map_or(0, |newest| newest.version) < generation.version
        {
            warnings.push(format!("generation {} is not passed on to peers yet", generation.version));
        }
        warnings
    }
}
