//! Calls of a skill of the node itself: the whole way from a name to an answer, against wasmtime alone.

use midplane::wasm::engine::Kind;

use super::floors::wasmtime::Raw;
use super::mesh::{Mesh, addition, call};
use super::table::{Aim, Row, Spread, each, in_turns};
use super::{Failure, floors};

/// Warm calls of one round.
const WARM: u32 = 4_000;
/// Fresh instances of one round.
const FRESH: u32 = 500;

/// Measures the rows.
pub async fn rows(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let node = mesh.node(1);
    let component = floors::component("skill/math1")?;

    let warm = addition("warm@bench");
    let mut instance = Raw::new(&floors::wasmtime::engine()?, &component)?.instance()?;
    let (ours, floor) = in_turns(
        async || each(WARM, async || call(node, &warm).await).await,
        async || each(WARM, async || instance.add()).await,
    )
    .await;
    let warm = Row {
        what: "local call, warm instance · typed call of wasmtime".to_owned(),
        unit: "ns",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtMost(5.0),
    };

    let fresh = addition("fresh@bench");
    // The very engine of the node, so that pool and settings are the same.
    let raw = Raw::new(node.engines.get(Kind::Lean)?, &component)?;
    let (ours, floor) = in_turns(
        async || each(FRESH, async || call(node, &fresh).await).await,
        async || each(FRESH, async || raw.instance().expect("an instance").add()).await,
    )
    .await;
    let fresh = Row {
        what: "local call, fresh instance · store, instantiate, call, drop".to_owned(),
        unit: "ns",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtMost(1.2),
    };
    Ok(vec![warm, fresh])
}
