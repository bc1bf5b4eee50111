//! Whom a node goes on talking to after the first message, and which of two links to one peer stays.

use crate::words::fault::{Code, Fault, Outcome};
use crate::words::hello::Hello;
use crate::words::id::NodeId;

/// Judges the peer's hello; returns the newest protocol that both speak.
///
/// # Errors
/// `usage` when the peer is this very node, `duplicate-identity` when another machine has this node's key, `wrong-mesh`,
/// and `protocol` when no protocol is spoken by both.
pub fn judge(own: &Hello, own_id: NodeId, peer: &Hello, peer_id: NodeId) -> Outcome<u16> {
    if own_id == peer_id {
        return Err(itself(own, own_id, peer));
    }
    if own.mesh != peer.mesh {
        return Err(Fault::new(Code::WrongMesh, format!("{} is a node of another mesh", peer_id.short()))
            .fix("`midplane peer admit NODE-ID` where the owner's key is, then `midplane join FILE` there"));
    }
    let newest = own.protocol_max.min(peer.protocol_max);
    let oldest = own.protocol_min.max(peer.protocol_min);
    if newest < oldest || peer.protocol_min > peer.protocol_max {
        let what = format!(
            "{} speaks protocols {} to {}, this node {} to {}",
            peer_id.short(),
            peer.protocol_min,
            peer.protocol_max,
            own.protocol_min,
            own.protocol_max
        );
        return Err(Fault::new(Code::Protocol, what).fix("update the older of the two"));
    }
    Ok(newest)
}

/// What tells one link to a peer from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkIdentity {
    /// Boot counter of the peer's hello.
    pub boot: u64,
    /// Random number of the peer's hello.
    pub random: u64,
    /// Who dialled: this node or the peer.
    pub dialler: NodeId,
}

/// What becomes of a second link to a peer that there is a link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicate {
    /// The link that was there stays; the new one is closed.
    KeepOld,
    /// The new link takes the place of the old one, which is closed.
    ReplaceOld,
    /// Two machines use one key: an alarm; the new link is closed with `duplicate-identity`.
    DuplicateIdentity,
}

/// Which of two links to `peer_id` stays.
///
/// A higher boot counter means that the peer started again. With equal counter and number both links are to one running
/// node: when each side dialled once they dialled at the same time, and both ends keep the one dialled by the lower id;
/// when one side dialled twice it had lost the first link, for it does not dial a peer that it is linked to. Anything else is two machines with one key.
pub fn duplicate(existing: &LinkIdentity, new: &LinkIdentity, own_id: NodeId, peer_id: NodeId) -> Duplicate {
    if new.boot > existing.boot {
        return Duplicate::ReplaceOld;
    }
    if (new.boot, new.random) != (existing.boot, existing.random) {
        return Duplicate::DuplicateIdentity;
    }
    if new.dialler == existing.dialler || new.dialler == own_id.min(peer_id) {
        return Duplicate::ReplaceOld;
    }
    Duplicate::KeepOld
}

/// The failure of a hello that came from this node's own key.
fn itself(own: &Hello, own_id: NodeId, peer: &Hello) -> Fault {
    if (own.boot, own.random) == (peer.boot, peer.random) {
        return Fault::new(Code::Usage, "the address leads back to this node")
            .fix("take this node's own address out of its list of peers");
    }
    Fault::new(
        Code::DuplicateIdentity,
        format!("another machine uses the key of this node, {}", own_id.short()),
    )
    .fix("stop one of the two and give it a key of its own: midplane key new")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::id::MeshId;

    fn id(byte: u8) -> NodeId {
        NodeId::from([byte; 32])
    }

    fn hello(range: (u16, u16), mesh: u8, boot: u64, random: u64) -> Hello {
        let hello = Hello::new(&MeshId::from([mesh; 32]), boot, random);
        Hello { protocol_min: range.0, protocol_max: range.1, ..hello }
    }

    #[test]
    fn hellos_are_judged() {
        let own = hello((1, 3), 7, 1, 1);
        let cases = [
            (id(2), hello((1, 3), 7, 9, 9), Ok(3)),
            (id(2), hello((0, 2), 7, 9, 9), Ok(2)),
            (id(2), hello((3, 9), 7, 9, 9), Ok(3)),
            (id(2), hello((1, 1), 7, 1, 1), Ok(1)),
            (id(2), hello((4, 9), 7, 9, 9), Err(Code::Protocol)),
            (id(2), hello((0, 0), 7, 9, 9), Err(Code::Protocol)),
            (id(2), hello((3, 1), 7, 9, 9), Err(Code::Protocol)),
            (id(2), hello((1, 3), 8, 9, 9), Err(Code::WrongMesh)),
            (id(1), hello((1, 3), 7, 1, 1), Err(Code::Usage)),
            (id(1), hello((1, 3), 7, 1, 2), Err(Code::DuplicateIdentity)),
            (id(1), hello((1, 3), 7, 2, 1), Err(Code::DuplicateIdentity)),
        ];
        for (peer_id, peer, expect) in cases {
            let got = judge(&own, id(1), &peer, peer_id);
            assert_eq!(got.map_err(|fault| fault.code), expect, "{peer:?}");
        }
    }

    #[test]
    fn duplicates_are_told_apart() {
        use Duplicate::{DuplicateIdentity, KeepOld, ReplaceOld};
        // own id 1, peer id 2; (boot, random, dialler) of the old and of the new link.
        let cases = [
            ((1, 5, 1), (2, 6, 1), ReplaceOld),
            ((1, 5, 1), (2, 5, 2), ReplaceOld),
            ((2, 6, 1), (1, 5, 1), DuplicateIdentity),
            ((2, 6, 1), (2, 5, 1), DuplicateIdentity),
            ((2, 6, 1), (2, 5, 2), DuplicateIdentity),
            ((1, 5, 1), (1, 5, 2), KeepOld),
            ((1, 5, 2), (1, 5, 1), ReplaceOld),
            ((1, 5, 1), (1, 5, 1), ReplaceOld),
            ((1, 5, 2), (1, 5, 2), ReplaceOld),
        ];
        let identity = |(boot, random, dialler)| LinkIdentity { boot, random, dialler: id(dialler) };
        for (old, new, expect) in cases {
            assert_eq!(
                duplicate(&identity(old), &identity(new), id(1), id(2)),
                expect,
                "{old:?} then {new:?}"
            );
        }
    }

    #[test]
    fn both_ends_of_a_simultaneous_dial_keep_the_same_link() {
        // Each end may see the two links in either order.
        for (low, high) in [(1, 2), (3, 200)] {
            for low_sees_own_first in [true, false] {
                for high_sees_own_first in [true, false] {
                    let kept = |own: u8, peer: u8, own_first: bool| {
                        let by = |dialler: u8| LinkIdentity { boot: 4, random: 4, dialler: id(dialler) };
                        let (old, new) = if own_first { (by(own), by(peer)) } else { (by(peer), by(own)) };
                        match duplicate(&old, &new, id(own), id(peer)) {
                            Duplicate::KeepOld => old.dialler,
                            Duplicate::ReplaceOld => new.dialler,
                            Duplicate::DuplicateIdentity => panic!("one running node was taken for two"),
                        }
                    };
                    assert_eq!(kept(low, high, low_sees_own_first), id(low));
                    assert_eq!(kept(high, low, high_sees_own_first), id(low));
                }
            }
        }
    }
}
