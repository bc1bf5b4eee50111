use super::*;

const MOST: u64 = 20_000;

fn with(check: impl FnOnce(&dyn Fn() -> Arc<Holdings>)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    check(&|| Holdings::new(Arc::new(Store::open(&path).unwrap())));
}

fn blob(seed: u8, length: u64) -> BlobRef {
    BlobRef { digest: [seed; 32].into(), length }
}

fn keep(holdings: &Arc<Holdings>, slot: &str, blob: &BlobRef) -> Outcome<()> {
    let mut room = holdings.room(slot, MOST)?;
    room.grow_to(blob.length)?;
    room.keep(blob)
}

/// Lets go of what is then gone at once.
fn let_go(holdings: &Holdings, slot: &str, digest: &Digest) -> bool {
    let left = holdings.let_go(slot, digest).unwrap();
    holdings.settle(left.as_slice(), &|_| true).unwrap();
    left.is_some()
}

#[test]
fn what_is_let_go_of_counts_until_it_is_gone() {
    with(|open| {
        let (one, two) = (blob(1, MOST - BLOB_COST), blob(2, 0));
        let left = Left { slot: "a".into(), blob: one };
        {
            let holdings = open();
            keep(&holdings, "a", &one).unwrap();
            assert_eq!(holdings.let_go("a", &one.digest).unwrap(), Some(left.clone()));
            assert_eq!(holdings.holders(&one.digest).unwrap(), Vec::<String>::new());
            assert_eq!(holdings.let_go("a", &one.digest).unwrap(), None);
        }
        let holdings = open();
        assert_eq!(holdings.left(None, 9).unwrap(), std::slice::from_ref(&left));
        assert_eq!(holdings.left(Some(&left), 9).unwrap(), []);
        assert_eq!(holdings.left_by("a", 9).unwrap(), std::slice::from_ref(&left));
        assert_eq!(holdings.left_by("b", 9).unwrap(), []);
        holdings.settle(std::slice::from_ref(&left), &|_| false).unwrap();
        assert_eq!(keep(&holdings, "a", &two).unwrap_err().code, Code::StorageFull);
        // Kept again it counts once, and is nothing that could go.
        holdings.keep("a", MOST, &one).unwrap();
        assert_eq!((holdings.used("a").unwrap(), holdings.left(None, 9).unwrap()), (MOST, vec![]));
        holdings.settle(std::slice::from_ref(&left), &|_| true).unwrap();
        assert_eq!(holdings.used("a").unwrap(), MOST);
        assert!(let_go(&holdings, "a", &one.digest));
        assert_eq!((holdings.used("a").unwrap(), holdings.left(None, 9).unwrap()), (0, vec![]));
        keep(&holdings, "a", &two).unwrap();
        holdings.let_go("a", &two.digest).unwrap();
        holdings.forget("a").unwrap();
        assert_eq!((holdings.used("a").unwrap(), holdings.left(None, 9).unwrap()), (0, vec![]));
    });
}

#[test]
fn slots_are_apart_and_what_they_keep_lasts() {
    with(|open| {
        let (one, two) = (blob(1, 100), blob(2, 0));
        {
            let holdings = open();
            assert_eq!(holdings.slots().unwrap(), Vec::<String>::new());
            for (slot, blob) in [("a", &one), ("b", &one), ("a", &two), ("a", &two), ("a/b", &two)] {
                keep(&holdings, slot, blob).unwrap();
            }
            assert_eq!(holdings.used("a").unwrap(), 100 + 2 * BLOB_COST, "one blob counts once");
        }
        let holdings = open();
        assert_eq!(holdings.slots().unwrap(), ["a", "a/b", "b"]);
        assert_eq!(holdings.of("a", None, 9).unwrap(), [one, two]);
        assert_eq!(holdings.of("a", None, 1).unwrap(), [one]);
        assert_eq!(holdings.of("a", Some(&one.digest), 9).unwrap(), [two]);
        assert_eq!(holdings.of("", None, 9).unwrap(), []);
        assert_eq!(holdings.holders(&one.digest).unwrap(), ["a", "b"]);
        assert!(let_go(&holdings, "a", &one.digest));
        assert!(!let_go(&holdings, "a", &one.digest));
        assert!(!let_go(&holdings, "c", &one.digest));
        assert!(holdings.has("b", &one.digest).unwrap() && !holdings.has("a", &one.digest).unwrap());
        assert_eq!(holdings.used("a").unwrap(), BLOB_COST);
        holdings.forget("a").unwrap();
        assert_eq!(holdings.slots().unwrap(), ["a/b", "b"]);
        assert_eq!(holdings.holders(&two.digest).unwrap(), ["a/b"]);
    });
}

#[test]
fn what_is_being_put_counts_until_it_is_kept_or_dropped() {
    with(|open| {
        let holdings = open();
        let mut first = holdings.room("a", MOST).unwrap();
        first.grow_to(MOST - 2 * BLOB_COST).unwrap();
        first.grow_to(1).unwrap();
        let second = holdings.room("a", MOST).unwrap();
        assert_eq!(holdings.used("a").unwrap(), MOST);
        let fault = holdings.room("a", MOST).map(drop).unwrap_err();
        assert_eq!(fault.code, Code::StorageFull);
        assert!(first.grow_to(MOST - 2 * BLOB_COST + 1).is_err());
        holdings.room("b", MOST).unwrap();
        drop(second);
        first.grow_to(MOST - BLOB_COST).unwrap();
        first.keep(&blob(1, MOST - BLOB_COST)).unwrap();
        assert_eq!(holdings.used("a").unwrap(), MOST);
        assert!(keep(&holdings, "a", &blob(2, 0)).is_err());
        assert_eq!(holdings.of("a", None, 9).unwrap().len(), 1);
        assert!(let_go(&holdings, "a", &blob(1, 0).digest));
        keep(&holdings, "a", &blob(2, 0)).unwrap();
    });
}

#[test]
fn a_grant_that_shrank_keeps_what_is_there_and_takes_no_more() {
    with(|open| {
        let holdings = open();
        keep(&holdings, "a", &blob(1, 4_000)).unwrap();
        assert!(holdings.room("a", 5_000).is_err());
        assert!(holdings.has("a", &blob(1, 0).digest).unwrap());
    });
}

#[test]
fn what_is_kept_while_a_slot_is_forgotten_is_kept_or_forgotten_whole() {
    with(|open| {
        let holdings = open();
        for seed in 1..100 {
            let one = blob(seed, 0);
            std::thread::scope(|scope| {
                scope.spawn(|| holdings.keep("a", u64::MAX, &one).unwrap());
                scope.spawn(|| holdings.forget("a").unwrap());
            });
            let kept = holdings.of("a", None, 9).unwrap().len() as u64;
            assert_eq!(holdings.used("a").unwrap(), kept * BLOB_COST, "{seed}");
            assert_eq!(holdings.holders(&one.digest).unwrap().len() as u64, kept);
            holdings.forget("a").unwrap();
        }
    });
}
