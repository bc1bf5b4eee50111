//! Which of the manifests that peers announce a node looks at next, and when.
//!
//! What was not taken is looked at again only when something is different: another peer, another link, another root. What failed on the
//! way is looked at again by itself. Either way only after a pause that doubles, for each manifest and for each peer, so that neither a
//! bad manifest nor a bad peer keeps a node busy. Times are durations since the node started.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff::Backoff;
use crate::words::hello::Announced;
use crate::words::{Code, Digest, Fault, NodeId};

/// Pauses after one that was not taken.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// Manifests, and peers, that are remembered: four times the links of a large node.
const REMEMBERED_MOST: usize = 1_024;

/// What a linked peer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The peer.
    pub peer: NodeId,
    /// Tells its link from earlier ones.
    pub link: u64,
    /// What it announces.
    pub announced: Announced,
}

/// What this node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Highest version that it ever accepted.
    pub floor: u64,
    /// The manifest of this version, if it is kept.
    pub digest: Option<Digest>,
    /// Version of its root, by which it judges.
    pub root: u64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at this one now.
    Look(Offer),
    /// Nothing before this time.
    Wait(Duration),
    /// Nothing, until something changes.
    Nothing,
}

/// What was looked at and not taken.
#[derive(Debug, Default)]
pub struct Tries {
    manifests: BTreeMap<Digest, Tried>,
    peers: BTreeMap<NodeId, Pause>,
}

#[derive(Debug)]
struct Tried {
    /// From whom, over which link, under which root.
    from: BTreeMap<NodeId, (u64, u64)>,
    /// Whether time alone may change it.
    passing: bool,
    pause: Pause,
}

#[derive(Debug)]
struct Pause {
    until: Duration,
    next: Backoff,
}

impl Default for Pause {
    fn default() -> Self {
        Self { until: Duration::ZERO, next: PAUSES }
    }
}

impl Pause {
    fn begin(&mut self, now: Duration, random: u64) {
        self.until = now + self.next.next(random);
    }
}

impl Tries {
    /// What is looked at next: the highest version first. Of the version that the node has already another manifest is looked at as well, to
    /// know whether it is one.
    pub fn next(&self, offers: &[Offer], own: &Own, now: Duration) -> Next {
        let mut news: Vec<&Offer> = offers.iter().filter(|offer| is_news(&offer.announced, own)).collect();
        news.sort_by_key(|offer| (std::cmp::Reverse(offer.announced.version), offer.peer));
        let mut soonest: Option<Duration> = None;
        for offer in news {
            match self.due(offer, own.root) {
                Some(at) if at <= now => return Next::Look(*offer),
                at => soonest = soonest.into_iter().chain(at).min(),
            }
        }
        soonest.map_or(Next::Nothing, Next::Wait)
    }

    /// Remembers that it was not taken. `random` spreads the pauses.
    pub fn failed(&mut self, offer: &Offer, own: &Own, fault: &Fault, now: Duration, random: u64) {
        make_room(&mut self.manifests, |tried| tried.pause.until);
        make_room(&mut self.peers, |pause| pause.until);
        let tried = self.manifests.entry(offer.announced.digest).or_insert_with(|| Tried {
            from: BTreeMap::new(),
            passing: false,
            pause: Pause::default(),
        });
        make_room(&mut tried.from, |(link, _)| *link);
        tried.from.insert(offer.peer, (offer.link, own.root));
        tried.passing = is_passing(fault);
        tried.pause.begin(now, random);
        self.peers.entry(offer.peer).or_default().begin(now, random);
    }

    /// Forgets what is not news any more, and what the peer did before it gave something good.
    pub fn taken(&mut self, offer: &Offer) {
        self.manifests.remove(&offer.announced.digest);
        self.peers.remove(&offer.peer);
    }

    /// When an offer may be looked at; never, where nothing has changed since it was looked at.
    fn due(&self, offer: &Offer, root: u64) -> Option<Duration> {
        let peer = self.peers.get(&offer.peer).map_or(Duration::ZERO, |pause| pause.until);
        match self.manifests.get(&offer.announced.digest) {
            None => Some(peer),
            Some(tried) if !tried.passing && tried.from.get(&offer.peer) == Some(&(offer.link, root)) => None,
            Some(tried) => Some(peer.max(tried.pause.until)),
        }
    }
}

/// Whether it failed on the way, and nobody has judged the manifest itself.
pub fn is_passing(fault: &Fault) -> bool {
    matches!(
        fault.code,
        Code::BlobMissing
            | Code::Unreachable
            | Code::LinkLost
            | Code::Deadline
            | Code::Busy
            | Code::NoRoute
            | Code::StorageFull
            | Code::Io
    )
}

fn is_news(announced: &Announced, own: &Own) -> bool {
    let other = || own.digest.is_some_and(|digest| digest != announced.digest);
    announced.version > own.floor || announced.version == own.floor && other()
}

/// Lets go of the one that comes first, where there is no room for one more.
fn make_room<K: Ord + Clone, V, O: Ord>(map: &mut BTreeMap<K, V>, order: impl Fn(&V) -> O) {
    if map.len() >= REMEMBERED_MOST
        && let Some(first) = map.iter().min_by_key(|(_, value)| order(value)).map(|(key, _)| key.clone())
    {
        map.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(peer: u8, link: u64, version: u64, digest: &str) -> Offer {
        let announced = Announced { version, digest: Digest::of(digest.as_bytes()) };
        Offer { peer: NodeId::from([peer; 32]), link, announced }
    }

    fn own(floor: u64, digest: &str) -> Own {
        Own { floor, digest: Some(Digest::of(digest.as_bytes())), root: 1 }
    }

    fn fault(code: Code) -> Fault {
        Fault::new(code, "it")
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn news_are_higher_versions_and_other_manifests_of_the_own_version() {
        let tries = Tries::default();
        for (offers, expect) in [
            (vec![], Next::Nothing),
            (vec![offer(1, 1, 4, "a"), offer(1, 1, 3, "x")], Next::Nothing),
            (vec![offer(1, 1, 4, "b")], Next::Look(offer(1, 1, 4, "b"))),
            (vec![offer(1, 1, 4, "b"), offer(2, 1, 5, "c")], Next::Look(offer(2, 1, 5, "c"))),
            (vec![offer(3, 1, 9, "c"), offer(2, 1, 9, "d")], Next::Look(offer(2, 1, 9, "d"))),
        ] {
            assert_eq!(tries.next(&offers, &own(4, "a"), s(0)), expect, "{offers:?}");
        }
        // Nothing is known of the own one: it cannot be told whether the other is another.
        let lost = Own { digest: None, ..own(4, "a") };
        assert_eq!(tries.next(&[offer(1, 1, 4, "b")], &lost, s(0)), Next::Nothing);
    }

    #[test]
    fn what_was_refused_is_looked_at_again_only_when_something_is_different() {
        let (old, bad) = (own(4, "a"), offer(1, 1, 5, "bad"));
        let mut tries = Tries::default();
        tries.failed(&bad, &old, &fault(Code::MissingImport), s(10), 0);
        let later = s(1_000);
        assert_eq!(tries.next(&[bad], &old, later), Next::Nothing);
        for other in [offer(2, 1, 5, "bad"), offer(1, 2, 5, "bad"), offer(1, 1, 5, "good")] {
            assert_eq!(tries.next(&[bad, other], &old, later), Next::Look(other), "{other:?}");
        }
        let newer = Own { root: 2, ..old };
        assert_eq!(tries.next(&[bad], &newer, later), Next::Look(bad));
        // Not at once, for any of that; a good peer with another one is not held up.
        let Next::Wait(until) = tries.next(&[offer(2, 1, 5, "bad")], &old, s(10)) else { panic!("no pause") };
        assert!(until > s(10) && until < s(12), "{until:?}");
        let good = offer(2, 1, 5, "good");
        assert_eq!(tries.next(&[bad, good], &old, s(10)), Next::Look(good));
        assert!(matches!(tries.next(&[offer(1, 1, 6, "next")], &old, s(10)), Next::Wait(_)));
    }

    #[test]
    fn what_failed_on_the_way_is_looked_at_again_by_itself_after_longer_and_longer_pauses() {
        let (old, offer) = (own(4, "a"), offer(1, 1, 5, "b"));
        let (mut tries, mut now, mut last) = (Tries::default(), s(0), s(0));
        for _ in 0..12 {
            assert_eq!(tries.next(&[offer], &old, now), Next::Look(offer));
            tries.failed(&offer, &old, &fault(Code::BlobMissing), now, 0);
            let Next::Wait(until) = tries.next(&[offer], &old, now) else { panic!("no pause") };
            assert!(until - now >= last && until - now <= s(300));
            (last, now) = (until - now, until);
        }
        assert!(last >= s(225), "{last:?}");
        // What it gives then is good, and so it is trusted at once.
        tries.taken(&offer);
        assert_eq!(tries.next(&[offer], &old, now), Next::Look(offer));
    }

    #[test]
    fn a_peer_that_makes_up_manifests_is_heard_less_and_less_and_fills_nothing() {
        let (old, mut now, mut looks) = (own(4, "a"), s(0), 0);
        let mut tries = Tries::default();
        for number in 0..10_000_u64 {
            let made_up = offer(1, 1, 5 + number, &number.to_string());
            if let Next::Look(offer) = tries.next(&[made_up], &old, now) {
                tries.failed(&offer, &old, &fault(Code::BadObject), now, number);
                looks += 1;
            }
            now += Duration::from_millis(100);
        }
        assert!((5..=15).contains(&looks), "{looks} in {now:?}");
        for number in 0..5_000_u64 {
            let made_up = offer(7, number, 5, &number.to_string());
            tries.failed(&made_up, &old, &fault(Code::BadObject), now, 0);
        }
        assert!(tries.manifests.len() <= REMEMBERED_MOST && tries.peers.len() <= REMEMBERED_MOST);
    }
}
