//! The matrix of control: who may ask for what, over a real node, and what no order gets past.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use midplane::decisions::cose;
use midplane::decisions::roles;
use midplane::decisions::seal::{self, Said};
use midplane::net::Piece;
use midplane::store::keys;
use midplane::words::blob::BlobRequest;
use midplane::words::control::Request;
use midplane::words::dataset::DatasetRequest;
use midplane::words::note::decode_fault;
use midplane::words::objects::{Order, Role};
use midplane::words::swap::SwapRequest;
use midplane::words::{Code, Fault, MeshId, NodeId, Verb};
use midplane_tests::forge::{blob, mesh_id, order, send_order};
use midplane_tests::{Manifest, Mesh, Node};

/// Everything that a node can be asked for, once each.
fn requests(node: NodeId) -> Vec<Request> {
    let requests = vec![
        Request::Status,
        Request::Plugins,
        Request::Peers,
        Request::Routes { name: None },
        Request::Logs { tail: 1, follow: false, source: None },
        Request::Events { after: 0, tail: 1, follow: false },
        Request::Inspect { target: "admission".into() },
        Request::Call {
            name: "nobody@fabric".parse().unwrap(),
            function: "f".into(),
            form: 0,
            timeout_ms: 1_000,
            idempotent: false,
            trace: false,
        },
        Request::Lacks { blobs: vec![] },
        Request::Blob(BlobRequest::List),
        Request::PutBlob { blob: blob(b"x") },
        Request::Dataset(DatasetRequest::Datasets),
        Request::Record { slot: "nothing".into(), time_ms: 1 },
        Request::Mesh,
        Request::Apply { spread: true },
        Request::History,
        Request::Manifest { version: None },
        Request::Rollback { version: None },
        Request::Confirm { version: 0, swap: None },
        Request::Swap(SwapRequest::Plain),
        Request::UpdateRoot,
        Request::Find { node: "n1".into() },
        Request::Forward { to: node },
    ];
    for verb in Verb::ALL {
        assert!(requests.iter().any(|request| request.verb() == *verb), "{verb} is not in the matrix");
    }
    requests
}

/// A node, an operator of each role, and a way to make orders for it.
struct Place {
    mesh: Mesh,
    operators: Vec<(Role, SigningKey)>,
    id: NodeId,
    mesh_id: MeshId,
    nonce: std::cell::Cell<u8>,
}

impl Place {
    fn new() -> Self {
        let mesh = Mesh::of(["n1"]);
        let [n1] = mesh.nodes();
        n1.start(&[]);
        mesh.apply(&Manifest::policies(), &[n1]);
        let mut operators = Vec::new();
        for role in Role::ALL {
            let file = new_key(&mesh, role.as_str());
            let add = ["mesh", "operator", "add", file.to_str().unwrap(), "--role", role.as_str()];
            n1.cli(add).ok();
            operators.push((role, keys::load(&file).unwrap()));
        }
        let (id, mesh_id) = (n1.id().parse().unwrap(), mesh_id(n1));
        Self { mesh, operators, id, mesh_id, nonce: std::cell::Cell::new(0) }
    }

    fn node(&self) -> &Node {
        let [n1] = self.mesh.nodes();
        n1
    }

    fn operator(&self, role: Role) -> &SigningKey {
        &self.operators.iter().find(|(own, _)| *own == role).unwrap().1
    }

    fn order(&self, request: &Request) -> Order {
        self.nonce.set(self.nonce.get() + 1);
        order(self.mesh_id, self.id, self.nonce.get(), request)
    }

    /// What the node makes of an order: obeyed, or refused with a seal of its own or without.
    fn sends(&self, order: &Order, key: &SigningKey) -> Result<(), (bool, Fault)> {
        let signed = cose::sign(order, &[key]).unwrap();
        self.says(&signed, order.nonce)
    }

    fn says(&self, signed: &[u8], nonce: [u8; 16]) -> Result<(), (bool, Fault)> {
        match send_order(self.node(), self.id, signed, None, 1).first() {
            Some(Piece::Error(body)) => Err((false, decode_fault(body))),
            Some(Piece::Item(sealed)) => match seal::open(&self.id, &nonce, 0, sealed).unwrap() {
                (Said::Accepted, _) => Ok(()),
                (Said::Error, body) => Err((true, decode_fault(body))),
                other => panic!("{other:?} comes first"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn new_key(mesh: &Mesh, name: &str) -> PathBuf {
    let file = mesh.path(&format!("{name}.key"));
    keys::generate(&file).unwrap();
    file
}

#[test]
fn every_role_and_every_request() {
    let place = Place::new();
    for request in requests(place.id) {
        let verb = request.verb();
        for (role, key) in &place.operators {
            let outcome = place.sends(&place.order(&request), key);
            let may = roles::needs(verb).is_some_and(|needs| *role >= needs);
            match outcome {
                Ok(()) => assert!(may, "{verb} was obeyed for {role}"),
                Err((sealed, fault)) => {
                    assert!(!may, "{verb} was refused to {role}: {fault}");
                    assert_eq!((sealed, fault.code), (true, Code::NotAllowed), "{verb} for {role}: {fault}");
                }
            }
        }
        // Without a role: a stranger, the owner, the node itself.
        let own = place.node().directory();
        let owner = keys::load(&own.join("owner.key")).unwrap();
        let node = keys::load(&own.join("node.key")).unwrap();
        for key in [SigningKey::from_bytes(&[9; 32]), owner, node] {
            let (_, fault) = place.sends(&place.order(&request), &key).unwrap_err();
            assert_eq!(fault.code, Code::UnknownKey, "{verb}: {fault}");
        }
    }
}

#[test]
fn an_operator_that_was_removed_or_revoked_is_refused_everything() {
    let place = Place::new();
    let n1 = place.node();
    let (view, operate) = (place.operator(Role::View), place.operator(Role::Operate));
    for key in [view, operate] {
        place.sends(&place.order(&Request::Status), key).unwrap();
    }
    n1.cli(["mesh", "operator", "rm", &cose::node_id(view).to_string()]).ok();
    n1.cli(["mesh", "revoke", &cose::node_id(operate).to_string()]).ok();
    for _ in 0..2 {
        for request in requests(place.id) {
            for (key, says) in [(view, "is no operator"), (operate, "revokes")] {
                let (_, fault) = place.sends(&place.order(&request), key).unwrap_err();
                assert_eq!(fault.code, Code::UnknownKey);
                assert!(fault.what.contains(says), "{fault}");
            }
        }
        // It stays so after a restart.
        n1.kill();
        n1.start(&[]);
    }
    let again = n1.cli(["mesh", "operator", "add", &cose::node_id(operate).to_string(), "--role", "view"]);
    again.fails(3, "not-allowed");
    let listed = n1.json(["mesh", "operator", "ls"]);
    assert!(!listed.to_string().contains(&cose::node_id(view).to_string()), "{listed}");
}

#[test]
fn an_order_is_good_for_one_node_once_and_for_minutes() {
    let place = Place::new();
    let key = place.operator(Role::Deploy);
    let refused = |change: &dyn Fn(&mut Order)| {
        let mut order = place.order(&Request::Status);
        change(&mut order);
        place.sends(&order, key).unwrap_err().1
    };
    let target = refused(&|order| order.target = [7; 32].into());
    assert_eq!(target.code, Code::BadObject, "{target}");
    assert!(target.what.contains("order is for node"), "{target}");
    assert_eq!(refused(&|order| order.mesh = [7; 32].into()).code, Code::WrongMesh);
    let late = refused(&|order| (order.created, order.expires) = (order.created - 9_000, order.created - 1));
    assert_eq!(late.code, Code::Expired, "{late}");
    let early = refused(&|order| {
        (order.created, order.expires) = (order.created + 3_600_000, order.created + 3_660_000);
    });
    assert_eq!(early.code, Code::BadObject, "{early}");
    assert_eq!(refused(&|order| order.expires = order.created + 3_600_000).code, Code::BadObject);
    assert_eq!(refused(&|order| order.request = b"nonsense".to_vec()).code, Code::Protocol);

    // Twice: at once for what only looks, and across a restart for what changes something.
    let look = place.order(&Request::Status);
    let change = place.order(&Request::PutBlob { blob: blob(b"x") });
    for order in [&look, &change] {
        place.sends(order, key).unwrap();
        let (_, fault) = place.sends(order, key).unwrap_err();
        assert_eq!(fault.code, Code::StaleVersion, "{fault}");
    }
    place.node().kill();
    place.node().start(&[]);
    assert_eq!(place.sends(&change, key).unwrap_err().1.code, Code::StaleVersion);
    // Another operator may happen to draw the same number.
    place.sends(&look, place.operator(Role::View)).unwrap();
}

#[test]
fn every_altered_byte_is_refused_by_name() {
    let place = Place::new();
    let order = place.order(&Request::Logs { tail: 1, follow: false, source: None });
    let signed = cose::sign(&order, &[place.operator(Role::View)]).unwrap();
    for at in 0..signed.len() {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        let (_, fault) = place.says(&altered, order.nonce).unwrap_err();
        let named = [Code::BadSignature, Code::BadObject];
        assert!(named.contains(&fault.code), "byte {at}: {fault}");
    }
    // The untouched bytes are obeyed: nothing above was refused for anything else.
    place.says(&signed, order.nonce).unwrap();
}

#[test]
fn what_follows_an_order_is_what_was_signed() {
    let place = Place::new();
    let key = place.operator(Role::Deploy);
    let generation = || place.node().json(["status"])["generation"].clone();
    let before = generation();
    let after = |bulk: Option<&[u8]>, item: &[u8]| {
        let order = Order { bulk: bulk.map(blob), ..place.order(&Request::Apply { spread: true }) };
        let signed = cose::sign(&order, &[key]).unwrap();
        let pieces = send_order(place.node(), place.id, &signed, Some(item), 2);
        let Some(Piece::Item(second)) = pieces.get(1) else { panic!("{pieces:?}") };
        let (said, body) = seal::open(&place.id, &order.nonce, 1, second).unwrap();
        assert_eq!(said, Said::Error);
        decode_fault(body)
    };
    // A good manifest that the operator did not mean.
    let manifest = midplane_tests::forge::object(&Manifest::empty(), place.mesh_id, 9);
    let good = midplane_tests::forge::sign(&manifest, &place.mesh.operator_key());
    assert_eq!(after(Some(b"another"), &good).code, Code::DigestMismatch);
    assert_eq!(after(Some(&good[1..]), &good).code, Code::DigestMismatch);
    assert_eq!(after(None, &good).code, Code::BadObject);
    assert_eq!(generation(), before);
    // What was signed gets as far as being looked at.
    assert_ne!(after(Some(b"no manifest"), b"no manifest").code, Code::DigestMismatch);
    let order = Order { bulk: Some(blob(&good)), ..place.order(&Request::Apply { spread: true }) };
    send_order(place.node(), place.id, &cose::sign(&order, &[key]).unwrap(), Some(&good), 3);
    assert_eq!(generation(), 9);
}
