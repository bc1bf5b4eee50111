//! A blob from one node to its neighbour: asked for, verified group by group at both ends, written and synced; against a stream of
//! QUIC alone with the same bytes, which nobody looks at.
//!
//! The nodes' directories lie where temporary files do: `TMPDIR=/dev/shm` measures memory, anything else the disk.

use bytes::Bytes;
use midplane::clock::monotonic;
use midplane::node::fetch;
use midplane::words::Digest;
use midplane::words::objects::BlobRef;

use super::Failure;
use super::floors::quinn::Line;
use super::mesh::Mesh;
use super::table::{Aim, Row, Spread, in_turns_of};

/// Bytes of the blob unless `MIDPLANE_BENCH_BLOB` says otherwise.
const LENGTH: usize = 256 << 20;
/// Rounds that count. Each takes a second.
const ROUNDS: usize = 7;
/// What `statfs` says of a file system in memory.
const TMPFS: i64 = 0x0102_1994;

/// Measures the row.
pub async fn rows(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let length = match std::env::var("MIDPLANE_BENCH_BLOB") {
        Ok(length) => length.parse()?,
        Err(_) => LENGTH,
    };
    let bytes: Bytes =
        (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let blob = BlobRef { digest: Digest::of(&bytes), length: length as u64 };
    let (giver, taker) = (mesh.node(1), mesh.node(2));
    giver.blobs.put_all(&blob, &bytes)?;
    let place = mesh.directory(2).join("blobs");
    let text = blob.digest.to_string();
    let (shard, rest) = text.split_at(2);
    let kept = place.join(shard).join(rest);
    let line = Line::start(taker, 1, Bytes::from_static(b"blob"), bytes).await?;
    let (ours, floor) = in_turns_of(
        (1, ROUNDS),
        async || {
            let started = monotonic();
            fetch::blob(taker, &blob.digest, Some(blob.length), None).await.expect("the blob");
            let took = started.elapsed();
            std::fs::remove_file(&kept).expect("the blob is there");
            length as f64 / took.as_secs_f64() / 1e6
        },
        async || {
            let started = monotonic();
            line.ask().await;
            length as f64 / started.elapsed().as_secs_f64() / 1e6
        },
    )
    .await;
    let in_memory = rustix::fs::statfs(&place)?.f_type as i64 == TMPFS;
    let (whither, aim) = if in_memory { ("memory", 0.75) } else { ("disk", 0.3) };
    Ok(vec![Row {
        what: format!("blob of {} MiB, one link, to {whither} · a stream of quinn", length >> 20),
        unit: "MB/s",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtLeast(aim),
    }])
}
