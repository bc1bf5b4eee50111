//! The power goes, the disk fails, the disk is full: at each single operation, and what is left is the old or the new, whole.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::blobs::Blobs;
use super::blobs::tree::{GROUP, Walk};
use super::current::{Current, Past};
use super::directory::Directory;
use super::disk::Disk;
use super::disk::faults::{Faults, Plan};
use super::trust::{TrustFiles, TrustState};
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Outcome};

/// More operations than anything here takes.
const STEPS_MOST: usize = 200;

fn bytes() -> Vec<u8> {
    (0..3 * GROUP + 11).map(|at| (at * 3 + 1) as u8).collect()
}

fn blob_of(bytes: &[u8]) -> BlobRef {
    BlobRef { digest: Digest::of(bytes), length: bytes.len() as u64 }
}

fn read(blobs: &Arc<Blobs>, digest: &Digest) -> Outcome<Vec<u8>> {
    let mut reading = blobs.open_range(digest, 0..u64::MAX)?;
    let mut out = Vec::new();
    while reading.next(false, &mut out)? {}
    Ok(out)
}

/// Does something again and again, each time with the fault one operation later, until it works without meeting it. `prepare` makes
/// what was there before, `work` is what meets the fault, `check` looks at what is left and is told whether it was acknowledged.
#[track_caller]
fn at_every_step(
    plan: impl Fn(usize) -> Plan,
    prepare: impl Fn(&Path),
    work: impl Fn(&Disk, &Path) -> Outcome<()>,
    check: impl Fn(&Path, bool),
) {
    for step in 0..STEPS_MOST {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let (disk, faults) = Faults::disk(plan(step));
        let done = work(&disk, directory.path());
        if let Err(fault) = &done {
            assert!(matches!(fault.code, Code::Io | Code::StorageFull), "step {step}: {fault}");
        }
        // Whatever was acknowledged must survive the power, too.
        faults.power_off();
        check(directory.path(), done.is_ok());
        if faults.steps() <= step {
            assert!(done.is_ok(), "it failed without a fault: {done:?}");
            assert!(step > 3, "the faults were not met");
            return;
        }
    }
    panic!("it takes more than {STEPS_MOST} operations");
}

const PLANS: [fn(usize) -> Plan; 4] = [
    Plan::Crash,
    Plan::Full,
    |step| Plan::Fail(step, ErrorKind::Other),
    |step| Plan::Fail(step, ErrorKind::StorageFull),
];

#[test]
fn a_put_that_was_acknowledged_stays_and_any_other_is_there_whole_or_not_at_all() {
    let bytes = bytes();
    let blob = blob_of(&bytes);
    let put = |disk: &Disk, root: &Path| {
        let blobs = Blobs::on(disk.clone(), &root.join("blobs"))?;
        let mut put = blobs.put(super::blobs::put::Expected::default())?;
        bytes.chunks(10_000).try_for_each(|chunk| put.write(chunk))?;
        let kept = put.commit()?;
        blobs.pin(&kept.blob.digest).map(drop)
    };
    for plan in PLANS {
        at_every_step(
            plan,
            |_| {},
            put,
            |root, acknowledged| {
                let blobs = Blobs::open(&root.join("blobs")).unwrap();
                assert!(!acknowledged || blobs.has(&blob) && blobs.is_pinned(&blob.digest), "it is lost");
                if blobs.length(&blob.digest).is_some() {
                    assert_eq!(read(&blobs, &blob.digest).unwrap(), bytes);
                }
                assert_eq!(std::fs::read_dir(root.join("blobs/tmp")).unwrap().count(), 0);
                // And it can be put again.
                put(&Disk::default(), root).unwrap();
                assert_eq!(read(&blobs, &blob.digest).unwrap(), bytes);
            },
        );
    }
}

#[test]
fn a_fetch_keeps_what_is_verified_whatever_happens() {
    let (bytes, holder) = (bytes(), tempfile::tempdir().unwrap());
    let blob = blob_of(&bytes);
    let holder = Blobs::open(&holder.path().join("blobs")).unwrap();
    holder.put_all(&blob, &bytes).unwrap();
    let fetch = |disk: &Disk, root: &Path| {
        let blobs = Blobs::on(disk.clone(), &root.join("blobs"))?;
        let partial = blobs.partial(&blob)?;
        for range in partial.missing(u64::MAX) {
            let mut reading = holder.open_range(&blob.digest, range.clone())?;
            let mut walk = Walk::new(&blob.digest, blob.length, range);
            let mut piece = Vec::new();
            while reading.next(true, &mut piece)? {
                partial.take(&mut walk, &piece).map_err(|refused| match refused {
                    super::blobs::tree::Refused::Failed(fault) => fault,
                    super::blobs::tree::Refused::Wrong => panic!("a good piece was refused"),
                })?;
                piece.clear();
            }
        }
        partial.finish()
    };
    for plan in PLANS {
        at_every_step(
            plan,
            |_| {},
            fetch,
            |root, acknowledged| {
                let blobs = Blobs::open(&root.join("blobs")).unwrap();
                assert!(!acknowledged || blobs.has(&blob), "it is lost");
                if !blobs.has(&blob) {
                    fetch(&Disk::default(), root).unwrap();
                }
                assert_eq!(read(&blobs, &blob.digest).unwrap(), bytes);
            },
        );
    }
}

fn trust_files(disk: &Disk, root: &Path) -> TrustFiles {
    TrustFiles::on(disk.clone(), Directory::new(root), &SigningKey::from_bytes(&[1; 32]))
}

/// What applying does to the disk, after everything else has worked.
fn apply(disk: &Disk, root: &Path, version: u64) -> Outcome<()> {
    let files = trust_files(disk, root);
    let signed = format!("manifest {version}").into_bytes();
    files.keep_generation(version, &signed)?;
    files.save(&TrustState { manifest_floor: version, ..files.load()? })?;
    let (digest, change) = (Digest::of(&signed), String::new());
    let new = Past { version, digest, since: 0, signers: vec![], change, settled: true };
    files.publish(&Current::after(files.pointer()?.as_ref(), new))
}

#[test]
fn trust_is_the_old_or_the_new() {
    let state = |floor| TrustState {
        manifest_floor: floor,
        roots: vec![vec![7; 5_000].into()],
        ..Default::default()
    };
    for plan in PLANS {
        at_every_step(
            plan,
            |root| trust_files(&Disk::default(), root).save(&state(1)).unwrap(),
            |disk, root| (2..4).try_for_each(|floor| trust_files(disk, root).save(&state(floor))),
            |root, acknowledged| {
                let loaded = trust_files(&Disk::default(), root).load().unwrap();
                let expect = if acknowledged { 3..4 } else { 1..4 };
                assert!(expect.contains(&loaded.manifest_floor) && loaded == state(loaded.manifest_floor));
            },
        );
    }
}

#[test]
fn an_apply_leaves_the_old_generation_or_the_new_one_and_a_floor_that_holds() {
    for plan in PLANS {
        at_every_step(
            plan,
            |root| apply(&Disk::default(), root, 1).unwrap(),
            |disk, root| apply(disk, root, 2),
            |root, acknowledged| {
                let files = trust_files(&Disk::default(), root);
                let (current, signed) = files.current().unwrap().expect("a generation");
                assert!(current.version == 2 || current.version == 1 && !acknowledged);
                assert_eq!(signed, format!("manifest {}", current.version).into_bytes());
                assert!(files.load().unwrap().manifest_floor >= current.version, "the floor is below");
                // With room again, or after the restart, it goes on.
                apply(&Disk::default(), root, 3).unwrap();
                assert_eq!(files.current().unwrap().unwrap().0.version, 3);
            },
        );
    }
}

#[test]
fn a_rollback_leaves_what_ran_or_what_is_held_and_both_can_be_returned_to() {
    let back = |disk: &Disk, root: &Path, version| {
        let files = trust_files(disk, root);
        let held = files.pointer()?.and_then(|current| current.back_to(version, 0)).expect("it is kept");
        files.publish(&held)
    };
    for plan in PLANS {
        at_every_step(
            plan,
            |root| (1..=2).for_each(|version| apply(&Disk::default(), root, version).unwrap()),
            |disk, root| back(disk, root, 1),
            |root, acknowledged| {
                let files = trust_files(&Disk::default(), root);
                let (current, signed) = files.current().unwrap().expect("a generation");
                let held = (current.version, current.instead_of) == (1, Some(2));
                assert!(held || (current.version, current.instead_of) == (2, None) && !acknowledged);
                assert_eq!(signed, format!("manifest {}", current.version).into_bytes());
                assert_eq!(files.load().unwrap().manifest_floor, 2, "the floor is lower");
                // With room again, or after the restart, one can go to the other.
                back(&Disk::default(), root, if held { 2 } else { 1 }).unwrap();
                files.current().unwrap().expect("a whole generation");
            },
        );
    }
}

#[test]
fn a_full_disk_serves_what_it_has_refuses_clearly_and_collects() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, faults) = Faults::disk(Plan::Nothing);
    let blobs = Blobs::on(disk, &directory.path().join("blobs")).unwrap();
    let (old, gone, new) = (bytes(), b"nobody needs it".to_vec(), b"new".to_vec());
    for bytes in [&old, &gone] {
        blobs.put_all(&blob_of(bytes), bytes).unwrap();
    }
    faults.set_free(Some(super::blobs::RESERVE - 1));
    faults.plan(Plan::Full(0));
    let fault = blobs.put_all(&blob_of(&new), &new).unwrap_err();
    assert_eq!(fault.code, Code::StorageFull);
    assert!(fault.what.contains("kept back") && fault.fix.unwrap().contains("blob gc"), "{}", fault.what);
    let needed = HashSet::from([blob_of(&old).digest]);
    let collected = blobs.collect(&|digest| Ok(needed.contains(digest)), 0, false).unwrap();
    assert_eq!((collected.freed, collected.kept), (vec![blob_of(&gone)], 1));
    assert_eq!(read(&blobs, &blob_of(&old).digest).unwrap(), old);
    faults.set_free(None);
    faults.plan(Plan::Nothing);
    blobs.put_all(&blob_of(&new), &new).unwrap();
}

#[test]
fn a_collection_that_is_cut_takes_nothing_that_is_needed_and_can_be_done_again() {
    let (kept, pinned) = (bytes(), b"pinned".to_vec());
    let others: Vec<Vec<u8>> = (0..5_u8).map(|seed| vec![seed; GROUP + 5]).collect();
    let needed = HashSet::from([blob_of(&kept).digest]);
    at_every_step(
        Plan::Crash,
        |root| {
            let blobs = Blobs::open(&root.join("blobs")).unwrap();
            for bytes in others.iter().chain([&kept, &pinned]) {
                blobs.put_all(&blob_of(bytes), bytes).unwrap();
            }
            blobs.pin(&blob_of(&pinned).digest).unwrap();
        },
        |disk, root| {
            Blobs::on(disk.clone(), &root.join("blobs"))?
                .collect(&|digest| Ok(needed.contains(digest)), 0, false)
                .map(drop)
        },
        |root, _| {
            let blobs = Blobs::open(&root.join("blobs")).unwrap();
            blobs.collect(&|digest| Ok(needed.contains(digest)), 0, false).unwrap();
            let mut left = [blob_of(&kept), blob_of(&pinned)];
            left.sort_unstable_by_key(|blob| blob.digest);
            assert_eq!(blobs.all().unwrap(), left);
            assert_eq!(read(&blobs, &blob_of(&kept).digest).unwrap(), kept);
            assert_eq!(blobs.collect(&|digest| Ok(needed.contains(digest)), 0, false).unwrap().freed, []);
        },
    );
}
