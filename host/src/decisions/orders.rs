//! Which orders a node obeys: those of an operator, for this node, now, and once.
//!
//! An expired root does not lock the operators out: what an order brings is judged on its own, and the next root has to reach nodes
//! that nobody can walk to.

use std::collections::BTreeMap;

use super::cose::{self, ObjectKind, Signed};
use super::update::{Trusted, check_mesh, check_times};
use crate::words::control::Request;
use crate::words::note;
use crate::words::objects::{Order, Role, Root};
use crate::words::{Code, Fault, NodeId, Outcome};

/// Longest life of an order: nodes without a clock chip are minutes off, in both directions.
pub const LIFE_MAX_MS: u64 = 10 * 60 * 1000;
/// Bytes of a request within an order.
pub const REQUEST_MAX: usize = 16 << 10;
/// Orders of one operator that a node remembers at a time; more within their life are refused. An upload of a manifest with all its
/// components takes as many as it has plugins.
pub const REMEMBERED_MOST: usize = 1_024;

/// An order that was verified. Whether its role covers it, and whether it comes again, is still to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub order: Order,
    /// The operator.
    pub by: NodeId,
    /// What the operator may do.
    pub role: Role,
    /// What is asked.
    pub request: Request,
}

/// Verifies an order for `node`. Checks in the order of the other objects: size, envelope, signature, key, form, mesh, target,
/// times, content.
///
/// # Errors
/// As [`cose::open`]; `unknown-key` for who is no operator, `wrong-mesh`, `bad-object` for another node's, `expired`, `protocol` for a request
/// that this version does not know.
pub fn verify(trusted: &Trusted, node: &NodeId, bytes: &[u8], now: u64) -> Outcome<Verified> {
    let signed = cose::verify::<Order>(bytes)?;
    let (by, role) = operator(&trusted.root, &signed)?;
    let order = signed.decode()?;
    check_mesh(ObjectKind::Order, order.mesh, trusted.mesh)?;
    if order.target != *node {
        let what = format!("order is for node {}, not for {node}", order.target);
        return Err(Fault::new(Code::BadObject, what));
    }
    check_times(ObjectKind::Order, order.created, order.expires, now)?;
    let life = order.expires.saturating_sub(order.created);
    if life > LIFE_MAX_MS {
        let what = format!("order is good for {} s, at most {} are taken", life / 1000, LIFE_MAX_MS / 1000);
        return Err(Fault::new(Code::BadObject, what));
    }
    let request = note::read("request", &order.request, REQUEST_MAX)?;
    Ok(Verified { order, by, role, request })
}

/// The one key that signed, which is an operator's.
fn operator(root: &Root, signed: &Signed<Order>) -> Outcome<(NodeId, Role)> {
    let [by] = signed.signers() else {
        return Err(Fault::new(Code::BadSignature, "order has several signatures, it needs one"));
    };
    if let Some(role) = root.role(by) {
        return Ok((*by, role));
    }
    let what = if root.is_revoked(by) {
        format!("order is signed by key {by}, which root version {} revokes", root.version)
    } else if root.owners.contains(by) {
        format!("order is signed by key {by}, an owner; owners sign roots, operators sign orders")
    } else {
        format!("order is signed by key {by}, which is no operator in root version {}", root.version)
    };
    Err(Fault::new(Code::UnknownKey, what).fix("`midplane mesh operator ls` shows who is"))
}

/// The orders that were obeyed and could still be sent again.
#[derive(Debug, Default)]
pub struct Obeyed {
    by: BTreeMap<NodeId, BTreeMap<[u8; 16], u64>>,
}

impl Obeyed {
    /// Remembers an order until it expires.
    ///
    /// # Errors
    /// `stale-version` when it was obeyed before; `busy` when the operator has too many that could still come again, because
    /// forgetting one would be obeying it twice.
    pub fn take(&mut self, by: &NodeId, nonce: [u8; 16], expires: u64, now: u64) -> Outcome<()> {
        for nonces in self.by.values_mut() {
            nonces.retain(|_, until| *until > now);
        }
        self.by.retain(|_, nonces| !nonces.is_empty());
        let nonces = self.by.entry(*by).or_default();
        if nonces.contains_key(&nonce) {
            let what = format!("order of operator {} was obeyed already", by.short());
            return Err(Fault::new(Code::StaleVersion, what).fix("sign a new one: run the command again"));
        }
        if nonces.len() >= REMEMBERED_MOST {
            let what = format!("operator {} gave {REMEMBERED_MOST} orders within minutes", by.short());
            return Err(Fault::new(Code::Busy, what).fix("try again in some minutes"));
        }
        nonces.insert(nonce, expires);
        Ok(())
    }
}
