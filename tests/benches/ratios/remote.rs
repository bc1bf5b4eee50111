//! Calls over links, against QUIC alone.

use bytes::Bytes;
use midplane::clock;
use midplane::node::NodeInner;
use midplane::node::call::Invocation;
use midplane::words::envelope::{Fixed, encode_open};
use midplane::words::frame::{Exchange, FrameKind, put_frame, put_frame_with};
use midplane::words::hop::Hop;

use super::Failure;
use super::floors::quinn::Line;
use super::mesh::{ANSWER, Mesh, addition, call};
use super::table::{Aim, Latency, Row, Spread, in_turns, latency};

/// Calls of one round.
const CALLS: u32 = 500;
/// Calls of one round when many are in flight.
const MANY: u32 = 1_600;
/// How many.
const IN_FLIGHT: u32 = 64;

/// Measures the rows.
pub async fn rows(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (node, links, what) in
        [(2, 1, "one link · echo of the same bytes"), (3, 2, "two links · relayed echo of the same bytes")]
    {
        let node = mesh.node(node);
        let invocation = addition("warm@bench");
        let (request, answer) = bytes_of(node, &invocation)?;
        let line = Line::start(node, links, request, answer).await?;
        let (ours, floor) = in_turns(
            async || latency(CALLS, async || call(node, &invocation).await).await,
            async || latency(CALLS, async || line.ask().await).await,
        )
        .await;
        rows.push(row(format!("remote call, {what}, p50"), &ours, &floor, |latency| latency.p50));
        rows.push(row(format!("remote call, {what}, p99"), &ours, &floor, |latency| latency.p99));
    }
    rows.push(throughput(mesh).await?);
    Ok(rows)
}

fn row(what: String, ours: &[Latency], floor: &[Latency], which: fn(&Latency) -> f64) -> Row {
    Row {
        what,
        unit: "µs",
        ours: Spread::of(ours.iter().map(which)),
        floor: Some(Spread::of(floor.iter().map(which))),
        aim: Aim::TimesAtMost(1.2),
    }
}

async fn throughput(mesh: &Mesh) -> Result<Row, Failure> {
    let node = mesh.node(2);
    let (request, answer) = bytes_of(node, &addition("warm@bench"))?;
    let line = Line::start(node, 1, request, answer).await?;
    let asker = line.asker();
    let caller = {
        let node = node.clone();
        async move || call(&node, &addition("warm@bench")).await
    };
    let (ours, floor) =
        in_turns(async || per_second(caller.clone()).await, async || per_second(asker.clone()).await).await;
    Ok(Row {
        what: format!("remote calls, one link, {IN_FLIGHT} in flight · streams of quinn"),
        unit: "1/s",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtLeast(0.7),
    })
}

/// How many goes there are per second when so many are in flight.
async fn per_second(go: impl AsyncFn() + Clone + 'static) -> f64 {
    let tasks = tokio::task::LocalSet::new();
    let started = clock::monotonic();
    for _ in 0..IN_FLIGHT {
        let go = go.clone();
        tasks.spawn_local(async move {
            for _ in 0..MANY / IN_FLIGHT {
                go().await;
            }
        });
    }
    tasks.await;
    f64::from(MANY) / started.elapsed().as_secs_f64()
}

/// What the call puts on the wire, and what comes back.
fn bytes_of(node: &NodeInner, call: &Invocation) -> Result<(Bytes, Bytes), Failure> {
    let fixed = Fixed {
        id: [7; 16],
        from: node.identity.id,
        name: call.name.clone(),
        to: Some(node.identity.id),
        function: call.function.clone(),
        form: call.form.number(),
        arguments: call.arguments.clone(),
        more: false,
        idempotent: call.idempotent,
        created: clock::now_ms(),
    };
    let mut encoded = Vec::new();
    fixed.as_ref().encode(&mut encoded)?;
    let hop = Hop::start(u32::try_from(clock::left_ms(call.deadline))?);
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    put_frame_with(&mut request, FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &encoded, &hop))?;
    put_frame(&mut answer, FrameKind::Item, ANSWER)?;
    put_frame(&mut answer, FrameKind::End, &[])?;
    Ok((request.into(), answer.into()))
}
