//! `midplane:host/peers`: who is linked.

use super::generated::peers;
use crate::wasm::guest::Guest;
use crate::wasm::outward;

/// Bytes that a peer counts beside its texts: what is made for it on both sides.
const PEER_BYTES: usize = 128;

impl peers::Host for Guest {
    fn all(&mut self) -> wasmtime::Result<Vec<peers::Peer>> {
        let mut all = Vec::new();
        for outward::Peer { id, label, tags, trust, rtt_us } in self.plugin.outward.peers() {
            self.spend_bytes(PEER_BYTES + label.len() + tags.iter().map(String::len).sum::<usize>())?;
            all.push(peers::Peer { id: id.to_string(), label, tags, trust: super::trust(trust), rtt_us });
        }
        Ok(all)
    }
}
