use super::tree::{GROUP, Refused, Walk};
use super::*;

fn blob(bytes: &[u8]) -> BlobRef {
    BlobRef { digest: Digest::of(bytes), length: bytes.len() as u64 }
}

fn opened() -> (tempfile::TempDir, Arc<Blobs>) {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
    (directory, blobs)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 1000 + 1) as u8).collect()
}

/// Reads all of it, group by group.
fn read(blobs: &Arc<Blobs>, digest: &Digest) -> Outcome<Vec<u8>> {
    let mut reading = blobs.open_range(digest, 0..u64::MAX)?;
    let mut out = Vec::new();
    while reading.next(false, &mut out)? {}
    Ok(out)
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).unwrap().count() == 0
}

#[test]
fn a_blob_is_there_only_after_commit_and_only_whole() {
    let (_directory, blobs) = opened();
    let wanted = blob(b"hello");
    let mut put = blobs.put(wanted).unwrap();
    put.write(b"hel").unwrap();
    drop(put);
    assert!(!blobs.has(&wanted));
    for (bytes, word) in [(&b"hell"[..], "4 bytes"), (b"hallo", "another digest"), (b"hello!", "longer")] {
        let mut put = blobs.put(wanted).unwrap();
        let fault = put.write(bytes).and_then(|()| put.commit().map(drop)).unwrap_err();
        assert_eq!(fault.code, Code::DigestMismatch);
        assert!(fault.what.contains(word), "{fault}");
    }
    assert_eq!(blobs.read(&wanted).unwrap_err().code, Code::BlobMissing);
    blobs.put_all(&wanted, b"hello").unwrap();
    blobs.put_all(&wanted, b"hello").unwrap();
    assert_eq!(blobs.read(&wanted).unwrap(), b"hello");
    assert!(is_empty(&blobs.root.join("tmp")));
}

#[test]
fn nobody_writes_more_than_was_declared() {
    let (_directory, blobs) = opened();
    for declared in [0, 5] {
        let mut put = blobs.put(put::Expected { length: Some(declared), digest: None }).unwrap();
        let fault = put.write(b"hello!").unwrap_err();
        assert!(fault.what.contains(&format!("longer than the {declared} bytes")), "{fault}");
    }
    assert!(is_empty(&blobs.root.join("tmp")));
}

#[test]
fn a_range_behind_the_end_is_the_last_group_and_nothing_is_hashed_anew() {
    let (_directory, blobs) = opened();
    let bytes = bytes(3 * GROUP + 1);
    let wanted = blob(&bytes);
    blobs.put_all(&wanted, &bytes).unwrap();
    let tree = beside(&blobs.place(&wanted.digest));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&tree).unwrap());
    let before = inode();
    for start in [wanted.length, wanted.length + GROUP as u64, u64::MAX - 1] {
        let mut reading = blobs.open_range(&wanted.digest, start..u64::MAX).unwrap();
        let mut out = Vec::new();
        while reading.next(false, &mut out).unwrap() {}
        assert_eq!(out, bytes[3 * GROUP..], "{start}");
    }
    assert_eq!(inode(), before, "the tree was made again");
}

#[test]
fn a_blob_of_unknown_length_gets_its_name_at_the_end() {
    let (_directory, blobs) = opened();
    for length in [0, 1, GROUP, 3 * GROUP + 1] {
        let bytes = bytes(length);
        let mut put = blobs.put(put::Expected::default()).unwrap();
        bytes.chunks(1000).for_each(|chunk| put.write(chunk).unwrap());
        let kept = put.commit().unwrap();
        assert_eq!((kept.blob, kept.new), (blob(&bytes), true));
        assert_eq!(read(&blobs, &kept.blob.digest).unwrap(), bytes);
    }
    assert!(is_empty(&blobs.root.join("tmp")));
}

#[test]
fn a_blob_that_rots_is_found_and_taken_away() {
    let (_directory, blobs) = opened();
    let small = blob(b"hello");
    blobs.put_all(&small, b"hello").unwrap();
    std::fs::write(blobs.place(&small.digest), b"hellO").unwrap();
    assert_eq!(blobs.read(&small).unwrap_err().code, Code::DigestMismatch);
    assert!(!blobs.has(&small));

    let good = bytes(4 * GROUP + 9);
    for at in [0, GROUP, 4 * GROUP + 8] {
        let large = blob(&good);
        blobs.put_all(&large, &good).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(blobs.place(&large.digest), &bad).unwrap();
        let mut reading = blobs.open_range(&large.digest, 0..u64::MAX).unwrap();
        let mut out = Vec::new();
        let fault = loop {
            match reading.next(false, &mut out) {
                Ok(more) => assert!(more, "the rot was not found"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.code, Code::DigestMismatch);
        assert_eq!(out, good[..at / GROUP * GROUP], "nothing of the rotten group was given");
        assert!(!blobs.has(&large));
    }
}

#[test]
fn what_is_put_again_takes_the_place_of_what_rotted() {
    let (_directory, blobs) = opened();
    for length in [5, 3 * GROUP] {
        let good = bytes(length);
        let kept = blob(&good);
        blobs.put_all(&kept, &good).unwrap();
        let place = blobs.place(&kept.digest);
        let mut bad = good.clone();
        bad[1] ^= 4;
        for declared in [put::Expected::default(), kept.into()] {
            std::fs::write(&place, &bad).unwrap();
            let rotten = std::fs::File::open(&place).unwrap();
            let mut put = blobs.put(declared).unwrap();
            put.write(&good).unwrap();
            assert!(!put.commit().unwrap().new);
            assert_eq!(read(&blobs, &kept.digest).unwrap(), good);
            // Who found the rot before the good bytes came does not take those away.
            blobs.remove_rotten(&kept.digest, &rotten);
            assert!(blobs.has(&kept));
        }
        blobs.remove_rotten(&kept.digest, &std::fs::File::open(&place).unwrap());
        assert!(!blobs.has(&kept));
    }
}

#[test]
fn a_tree_that_is_lost_or_damaged_is_made_again() {
    let (_directory, blobs) = opened();
    let bytes = bytes(9 * GROUP + 5);
    let kept = blob(&bytes);
    blobs.put_all(&kept, &bytes).unwrap();
    let path = beside(&blobs.place(&kept.digest));
    let tree = std::fs::read(&path).unwrap();
    for damaged in [None, Some(vec![]), Some(tree[..100].to_vec()), Some(vec![0; tree.len()])] {
        match damaged {
            None => std::fs::remove_file(&path).unwrap(),
            Some(damaged) => std::fs::write(&path, damaged).unwrap(),
        }
        assert_eq!(read(&blobs, &kept.digest).unwrap(), bytes);
        assert_eq!(std::fs::read(&path).unwrap(), tree);
    }
}

#[test]
fn pins_stay_and_beginnings_of_digests_are_enough() {
    let (directory, blobs) = opened();
    let (one, two) = (blob(b"one"), blob(b"two"));
    blobs.put_all(&one, b"one").unwrap();
    blobs.put_all(&two, b"two").unwrap();
    assert!(blobs.pin(&one.digest).unwrap() && !blobs.pin(&one.digest).unwrap());
    drop(blobs);
    let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
    assert!(blobs.is_pinned(&one.digest) && !blobs.is_pinned(&two.digest));
    assert_eq!(blobs.pins().unwrap(), [one.digest]);
    let mut both = [one, two];
    both.sort_unstable_by_key(|blob| blob.digest);
    assert_eq!(blobs.all().unwrap(), both);

    let whole = one.digest.to_string();
    let begin = |length: usize| whole.get(..length).unwrap();
    assert_eq!(blobs.resolve(begin(4)).unwrap(), one.digest);
    assert_eq!(blobs.resolve(&"0".repeat(64)).unwrap(), Digest::from([0; 32]), "it need not be here");
    for (text, code) in
        [("abc", Code::Usage), ("ABCD", Code::Usage), ("wxyz", Code::Usage), ("", Code::Usage)]
    {
        assert_eq!(blobs.resolve(text).unwrap_err().code, code, "{text}");
    }
    let typo = format!("{}{}", begin(7), if begin(8).ends_with('0') { '1' } else { '0' });
    let fault = blobs.resolve(&typo).unwrap_err();
    assert_eq!(fault.code, Code::NotFound);
    assert!(fault.fix.unwrap().contains(begin(8)));
    assert!(blobs.unpin(&one.digest).unwrap() && !blobs.unpin(&one.digest).unwrap());
}

#[test]
fn a_blob_above_the_limit_is_refused_before_it_is_written() {
    let (_directory, blobs) = opened();
    let huge = BlobRef { digest: Digest::of(b""), length: BLOB_MAX + 1 };
    assert_eq!(blobs.put(huge).err().unwrap().code, Code::TooLarge);
    assert!(is_empty(&blobs.root.join("tmp")));
}

/// The pieces that another node would send for a range.
fn pieces(blobs: &Arc<Blobs>, blob: &BlobRef, range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let mut reading = blobs.open_range(&blob.digest, range).unwrap();
    let mut pieces = Vec::new();
    loop {
        let mut piece = Vec::new();
        if !reading.next(true, &mut piece).unwrap() {
            return pieces;
        }
        pieces.push(piece);
    }
}

#[test]
fn what_was_verified_of_a_fetch_stays_after_a_restart() {
    let (_holder_directory, holder) = opened();
    for length in [0, 1, GROUP, GROUP + 1, 10 * GROUP + 77] {
        let (directory, blobs) = opened();
        let bytes = bytes(length);
        let wanted = blob(&bytes);
        holder.put_all(&wanted, &bytes).unwrap();
        let all = pieces(&holder, &wanted, 0..u64::MAX);
        let half = all.len() / 2;
        let partial = blobs.partial(&wanted).unwrap();
        let mut walk = Walk::new(&wanted.digest, wanted.length, 0..u64::MAX);
        for piece in &all[..half] {
            partial.take(&mut walk, piece).unwrap_or_else(|_| panic!("a good piece was refused"));
        }
        assert!(partial.finish().is_err() && !blobs.has(&wanted));
        drop((partial, blobs));

        let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
        let partial = blobs.partial(&wanted).unwrap();
        let group = GROUP as u64;
        assert_eq!(partial.done(), half as u64 * group);
        for range in partial.missing(3 * group) {
            assert!(range.end - range.start <= 3 * group && range.start >= half as u64 * group);
            let mut walk = Walk::new(&wanted.digest, wanted.length, range.clone());
            for piece in pieces(&holder, &wanted, range) {
                partial.take(&mut walk, &piece).unwrap_or_else(|_| panic!("a good piece was refused"));
            }
        }
        partial.finish().unwrap();
        assert!(blobs.has(&wanted), "{length}");
        assert_eq!(read(&blobs, &wanted.digest).unwrap(), bytes);
        assert!(is_empty(&blobs.root.join("partial")));
    }
}

#[test]
fn a_byte_that_changed_in_an_unfinished_fetch_is_asked_for_again() {
    let (_holder_directory, holder) = opened();
    let (directory, blobs) = opened();
    let bytes = bytes(8 * GROUP);
    let wanted = blob(&bytes);
    holder.put_all(&wanted, &bytes).unwrap();
    let partial = blobs.partial(&wanted).unwrap();
    let mut walk = Walk::new(&wanted.digest, wanted.length, 0..u64::MAX);
    for piece in &pieces(&holder, &wanted, 0..u64::MAX)[..6] {
        partial.take(&mut walk, piece).unwrap_or_else(|_| panic!("a good piece was refused"));
    }
    drop(partial);
    let path = blobs.partial_place(&wanted.digest);
    let mut on_disk = std::fs::read(&path).unwrap();
    on_disk[2 * GROUP + 5] ^= 1;
    std::fs::write(&path, on_disk).unwrap();
    drop(blobs);
    let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
    let group = GROUP as u64;
    let missing = blobs.partial(&wanted).unwrap().missing(u64::MAX);
    assert_eq!(missing, [2 * group..3 * group, 6 * group..8 * group]);
}

#[test]
fn pieces_of_anything_else_are_refused() {
    let (_holder_directory, holder) = opened();
    let (_directory, blobs) = opened();
    let bytes = bytes(4 * GROUP);
    let wanted = blob(&bytes);
    holder.put_all(&wanted, &bytes).unwrap();
    let good = pieces(&holder, &wanted, 0..u64::MAX);
    let partial = blobs.partial(&wanted).unwrap();
    let refused = |piece: &[u8]| {
        let mut walk = Walk::new(&wanted.digest, wanted.length, 0..u64::MAX);
        matches!(partial.take(&mut walk, piece), Err(Refused::Wrong))
    };
    for at in (0..good[0].len()).step_by(999) {
        let mut bad = good[0].clone();
        bad[at] ^= 0x80;
        assert!(refused(&bad), "{at}");
    }
    assert!(refused(&good[1]) && refused(&good[0][..100]) && refused(&vec![0; 70_000]));
    assert_eq!(partial.done(), 0);
}

#[test]
fn leases_hold_a_blob_and_what_is_left_of_a_fetch_goes() {
    let (_directory, blobs) = opened();
    let [used, soon, free, half] = [b"used", b"soon", b"free", b"half"].map(|bytes| (blob(bytes), bytes));
    for (blob, bytes) in [used, soon, free] {
        blobs.put_all(&blob, bytes).unwrap();
    }
    drop(blobs.partial(&half.0).unwrap());
    let lease = blobs.lease(used.0.digest);
    blobs.lease_until(soon.0.digest, 1_000);
    let fetching = blobs.partial(&blob(b"fetching")).unwrap();
    let dry = blobs.collect(&|_| Ok(false), 999, true).unwrap();
    let collected = blobs.collect(&|_| Ok(false), 999, false).unwrap();
    assert_eq!(collected, dry, "a dry run says what would go");
    assert_eq!((collected.freed, collected.leased), (vec![free.0], 2));
    assert_eq!(collected.unfinished.len(), 1);
    assert_eq!(collected.unfinished[0].digest, half.0.digest);
    drop((lease, fetching));
    let collected = blobs.collect(&|_| Ok(false), 1_000, false).unwrap();
    assert_eq!((collected.freed.len(), collected.unfinished.len(), collected.leased), (2, 1, 0));
    assert!(blobs.all().unwrap().is_empty() && is_empty(&blobs.root.join("partial")));
}
