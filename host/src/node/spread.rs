//! How a manifest goes from node to node: each announces the newest one that it passes on, and takes a newer one from whoever announces it.
//!
//! The signature decides, not who brings it: what a peer announces is no more than a hint where to look. One manifest is looked at at a
//! time; what [`crate::decisions::spread`] says about pauses keeps a bad one from being looked at for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use quinn::SendStream;

use super::changes::change;
use super::generation;
use super::holders;
use super::links::{Link, LinkEvent};
use super::{Node, NodeInner, call, give, journal};
use crate::clock;
use crate::decisions::cose::ObjectKind;
use crate::decisions::spread::{Next, Offer, Own, Tries, is_passing};
use crate::decisions::trust::{self, Operation};
use crate::decisions::update;
use crate::log::Level;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::store::current::Current;
use crate::store::trust::TrustFiles;
use crate::words::control::Applied;
use crate::words::envelope::{decode_start, encode_start};
use crate::words::event::Happened;
use crate::words::frame::{Exchange, FrameKind};
use crate::words::hello::Announced;
use crate::words::mesh::{AskManifest, Fork, Refused};
use crate::words::note::{self, decode_fault};
use crate::words::{Code, Digest, Fault, NodeId, Outcome, Trust};

/// Forks of one version that are told apart. More are no other news.
const FORKS_MOST: usize = 8;
/// Peers whose refused manifests are shown.
const REFUSED_MOST: usize = 16;

/// What this node has to pass on, and what it has seen of others.
#[derive(Default)]
pub struct Spread {
    taken: ArcSwap<Taken>,
    seen: Mutex<Seen>,
    /// Version in force, and serial of the claim of the node's own name that its routing policy was told.
    told: ArcSwap<(u64, Option<u64>)>,
}

/// What the node has taken.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Highest version that it ever accepted.
    pub floor: u64,
    /// The manifest of this version, if it is kept.
    pub digest: Option<Digest>,
    /// Keys that signed it.
    pub signers: Vec<NodeId>,
    /// The manifest in force, if it is kept.
    pub in_force: Option<Digest>,
    /// What it announces.
    pub announces: Option<Announced>,
}

#[derive(Default)]
struct Seen {
    forks: Vec<Fork>,
    refused: BTreeMap<NodeId, Refused>,
}

impl Spread {
    /// With what is kept on the disk.
    pub(super) fn load(files: &TrustFiles, floor: u64) -> Self {
        let spread = Self::default();
        // A pointer that is damaged names nothing that could be passed on; the start tells of it.
        spread.took(floor, files.pointer().ok().flatten().as_ref());
        spread
    }

    /// Takes note of what is kept now. Called with each change of the pointer, before anybody is told of it.
    pub(super) fn took(&self, floor: u64, current: Option<&Current>) {
        let all = current.map(Current::all).unwrap_or_default();
        let newest = all.into_iter().find(|past| past.version == floor);
        let passed_on = current.and_then(Current::newest_passed_on);
        self.taken.store(Arc::new(Taken {
            floor,
            digest: newest.as_ref().map(|past| past.digest),
            signers: newest.map(|past| past.signers).unwrap_or_default(),
            in_force: current.map(|current| current.digest),
            announces: passed_on.map(|past| Announced { version: past.version, digest: past.digest }),
        }));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A higher version heals a fork, and what was refused is not news any more.
        seen.forks.retain(|fork| fork.version == floor);
        seen.refused.retain(|_, refused| refused.version > floor);
    }

    /// Takes note of the claim that the routing policy of a generation was told.
    pub(super) fn tells(&self, version: u64, claim: Option<u64>) {
        self.told.store(Arc::new((version, claim)));
    }

    /// Serial of the claim that the routing policy of this generation was told.
    pub(super) fn told(&self, version: u64) -> Option<u64> {
        let told = self.told.load();
        told.1.filter(|_| told.0 == version)
    }

    /// What the node has taken.
    pub fn taken(&self) -> Arc<Taken> {
        self.taken.load_full()
    }

    /// Other manifests of the version that it has taken.
    pub fn forks(&self) -> Vec<Fork> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).forks.clone()
    }

    /// What peers announce and this node did not take.
    pub fn refused(&self) -> BTreeMap<NodeId, Refused> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    fn refuse(&self, peer: NodeId, refused: Refused) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.refused.len() < REFUSED_MOST || seen.refused.contains_key(&peer) {
            seen.refused.insert(peer, refused);
        }
    }
}

/// Takes what peers announce, for as long as the node runs.
pub(super) async fn run(node: Node) {
    let mut changes = node.links.changes();
    let mut tries = Tries::default();
    while node.check_running().is_ok() {
        // Before looking: what changes meanwhile is seen at once.
        changes.mark_unchanged();
        let offers = offers(&node);
        pass_on_with_peers(&node, &offers).await;
        let now = node.started.elapsed();
        match tries.next(&offers, &own(&node), now) {
            Next::Look(offer) => Box::pin(look(&node, &mut tries, &offer)).await,
            Next::Wait(until) => {
                // An error is the end of the node, which this task does not see.
                let _ = tokio::time::timeout(until.saturating_sub(now), changes.changed()).await;
            }
            Next::Nothing => {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn own(node: &NodeInner) -> Own {
    let taken = node.spread.taken();
    Own { floor: taken.floor, digest: taken.digest, root: node.trusted.load().root.version }
}

/// What linked peers announce that may be asked for it. One with a newer root hands that over first: it may name who signed.
fn offers(node: &NodeInner) -> Vec<Offer> {
    let root = node.trusted.load().root.version;
    let forks = node.spread.forks();
    let links = node.links.all();
    let able =
        links.values().filter(|link| link.trust >= Operation::Manifest.needs() && link.welcome.root <= root);
    let offers = able.filter_map(|link| {
        Some(Offer { peer: link.peer, link: link.number, announced: link.welcome.newest? })
    });
    offers.filter(|offer| !forks.iter().any(|fork| fork.theirs == offer.announced.digest)).collect()
}

/// Passes on what a peer passes on, if it is the very manifest that this node has taken.
async fn pass_on_with_peers(node: &Node, offers: &[Offer]) {
    let taken = node.spread.taken();
    let Some(digest) = taken.digest else { return };
    let ours = Announced { version: taken.floor, digest };
    // What it went back from is not passed on because others do.
    let runs = taken.in_force == Some(digest);
    if runs && taken.announces != Some(ours) && offers.iter().any(|offer| offer.announced == ours) {
        let passed = change(node, |node| async move {
            let trust = node.trust.lock().await;
            match node.trust_files.pointer()? {
                Some(current) if trust.manifest_floor == ours.version => {
                    pass_on(&node, &current, trust.manifest_floor).await
                }
                _ => Ok(()),
            }
        });
        // A failure to write is told by whatever is written next.
        let _ = passed.await;
    }
}

/// Lets peers have the generation that was taken last. The caller holds the lock of what is trusted.
async fn pass_on(node: &Node, current: &Current, floor: u64) -> Outcome<()> {
    if let Some(passing) = current.pass_on(floor) {
        node.reserve.with(|| node.trust_files.publish(&passing))?;
        node.spread.took(floor, Some(&passing));
        let _ = node.events.send(LinkEvent::GenerationChanged).await;
    }
    Ok(())
}

/// What applying a manifest does that is in force already: nothing, but that it may be passed on from now on. None for any other one. The
/// caller holds the lock of what is trusted.
pub(super) async fn again(node: &Node, signed: &[u8], floor: u64, spread: bool) -> Outcome<Option<Applied>> {
    // A pointer that is damaged names nothing that could be the same.
    let Ok(Some(current)) = node.trust_files.pointer() else { return Ok(None) };
    let generation = node.generation.load_full();
    let version = current.version;
    if version != floor || generation.version != floor || current.digest != Digest::of(signed) {
        return Ok(None);
    }
    if spread {
        pass_on(node, &current, floor).await?;
    }
    let unchanged = generation.plugins.keys().cloned().collect();
    Ok(Some(Applied {
        from: version,
        to: version,
        unchanged,
        signers: current.signers,
        claim: node.spread.told(version),
        probation: node.probation.get().filter(|probation| probation.version == version),
        already: true,
        ..Applied::default()
    }))
}

/// Looks at what a peer announces, and takes it if it is good.
async fn look(node: &Node, tries: &mut Tries, offer: &Offer) {
    let Offer { peer, announced, .. } = *offer;
    let Some(link) = node.links.get(&peer) else { return };
    let (name, version) = (holders::peer(&link), announced.version);
    let (before, floor) = (own(node), node.spread.taken().floor);
    let outcome = match fetch(node, &link, &announced.digest).await {
        Ok(signed) if version > floor => Box::pin(take(node, peer, &name, &signed)).await,
        Ok(signed) => fork(node, peer, &name, &signed),
        Err(fault) => Err(fault),
    };
    let Err(fault) = outcome else { return tries.taken(offer) };
    // Somebody gave it, or a newer one, to this node meanwhile; or it stops.
    if node.spread.taken().floor > floor || node.check_running().is_err() {
        return;
    }
    let now = node.started.elapsed();
    let random = node.identity.random.wrapping_add(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
    tries.failed(offer, &before, &fault, now, random);
    let why = journal::why(&fault);
    let told = node.journal.record(Happened::ManifestRefused { peer, version, why: why.clone() });
    if told {
        let what = format!("manifest {version} that {name} announces is not taken: {fault}");
        node.log.host(Level::Warn, &what);
    }
    node.spread.refuse(peer, Refused { version, digest: announced.digest, why, again: is_passing(&fault) });
}

async fn take(node: &Node, peer: NodeId, name: &str, signed: &[u8]) -> Outcome<()> {
    let applied = generation::apply(node, signed, true).await?;
    let Applied { from, to, signers, .. } = applied;
    node.log.host(Level::Info, &format!("manifest {to} came from {name}"));
    if !applied.already {
        node.journal.record(Happened::GenerationApplied { from, to, signers, over: Some(peer) });
    }
    Ok(())
}

/// Remembers another manifest of the version that this node has taken, if it is rightly signed: then somebody signed two.
fn fork(node: &NodeInner, peer: NodeId, name: &str, signed: &[u8]) -> Outcome<()> {
    let taken = node.spread.taken();
    let below = taken.floor.saturating_sub(1);
    let opened = update::accept_manifest(&node.trusted.load(), below, signed, clock::now_ms())?;
    let (version, theirs) = (opened.object.version, Digest::of(signed));
    let Some(ours) = taken.digest.filter(|ours| version == taken.floor && *ours != theirs) else {
        let what = format!("manifest that {name} announces has version {version}, not {}", taken.floor);
        return Err(Fault::new(Code::BadObject, what));
    };
    let mut seen = node.spread.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.forks.len() >= FORKS_MOST {
        return Err(Fault::new(
            Code::StaleVersion,
            format!("version {version} has more than {FORKS_MOST} forks"),
        ));
    }
    let our_signers = taken.signers.clone();
    seen.forks.push(Fork { version, ours, our_signers, theirs, their_signers: opened.signers, peer });
    drop(seen);
    let (here, there) = (ours.short(), theirs.short());
    let what =
        format!("{name} has another manifest {version}, {there}; here is {here}: the next version heals it");
    node.log.host(Level::Error, &what);
    node.journal.record(Happened::Fork { peer, version, ours, theirs });
    Ok(())
}

/// Asks a peer for the signed bytes of what it announces.
async fn fetch(node: &NodeInner, link: &Link, digest: &Digest) -> Outcome<Vec<u8>> {
    let asked = note::write("manifest request", &AskManifest { digest: *digest }, give::ASK_MAX)?;
    let (send, recv) = call::open(link).await?;
    let mut writer = FrameWriter::new(send);
    writer.push_with(FrameKind::Open, |out| encode_start(out, Exchange::Manifest, &asked))?;
    writer.finish().await?;
    let mut reader = FrameReader::new(recv, ObjectKind::Manifest.size_max());
    match holders::piece(&mut reader).await? {
        Piece::Item(bytes) if Digest::of(&bytes) == *digest => Ok(bytes.to_vec()),
        Piece::Item(_) => {
            let what = format!("{} sent other bytes than it announces", holders::peer(link));
            node.log.host(Level::Warn, &what);
            Err(Fault::new(Code::DigestMismatch, what))
        }
        Piece::Error(bytes) => Err(decode_fault(&bytes)),
        _ => Err(Fault::new(Code::Protocol, "a manifest is one item")),
    }
}

/// Gives a peer the signed bytes of what this node announces, and of nothing else.
pub(super) async fn serve(
    node: &NodeInner,
    trust: Trust,
    peer: NodeId,
    open: &[u8],
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    trust::check(Operation::Manifest, trust, &peer)?;
    let (_, details) = decode_start(open)?;
    let asked: AskManifest = note::read("manifest request", details, give::ASK_MAX)?;
    let missing =
        || Fault::new(Code::NotFound, format!("manifest {} is not passed on here", asked.digest.short()));
    let announced = node.spread.taken().announces.filter(|announced| announced.digest == asked.digest);
    announced.ok_or_else(missing)?;
    let _place = node.transfers.place_to_give()?;
    let kept = node.trust_files.pointer()?.map(|current| current.all()).unwrap_or_default();
    let past = kept.iter().find(|past| past.digest == asked.digest).ok_or_else(missing)?;
    let signed = node.trust_files.past(past)?;
    tokio::time::timeout(give::PATIENCE, writer.last(&signed)).await.unwrap_or_else(|_| {
        let what = format!("{} took nothing for {} s", peer.short(), give::PATIENCE.as_secs());
        Err(Fault::new(Code::Unreachable, what))
    })
}
