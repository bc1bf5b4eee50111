//! What is kept, held and gone back to, as tables.

use super::*;

fn past(version: u64) -> Past {
    let digest = Digest::of(&version.to_be_bytes());
    let change = format!("adds {version}");
    Past { version, digest, since: version * 10, signers: vec![], change, settled: true }
}

fn applied(versions: &[u64]) -> Current {
    let mut current: Option<Current> = None;
    for version in versions {
        current = Some(Current::after(current.as_ref(), past(*version)));
    }
    current.unwrap()
}

fn versions(current: &Current) -> Vec<u64> {
    current.versions().collect()
}

#[test]
fn what_ran_before_is_kept_and_nothing_older() {
    assert_eq!(versions(&applied(&[1])), [1]);
    assert_eq!(versions(&applied(&[1, 2, 7])), [7, 2]);
}

#[test]
fn the_last_one_that_was_good_is_kept_as_well() {
    let unsettled =
        |current: &Current, version| Current::after(Some(current), Past { settled: false, ..past(version) });
    let two = unsettled(&applied(&[1]), 2);
    assert_eq!((versions(&two), two.last_good()), (vec![2, 1], Some(1)));
    let four = unsettled(&unsettled(&two, 3), 4);
    assert_eq!((versions(&four), four.last_good()), (vec![4, 3, 1], Some(1)));
    let settled = Current { settled: true, ..four };
    let five = unsettled(&settled, 5);
    assert_eq!((versions(&five), five.last_good()), (vec![5, 4], Some(4)));
    let never = unsettled(&Current { settled: false, ..applied(&[1]) }, 2);
    assert_eq!((versions(&never), never.last_good()), (vec![2, 1], Some(1)));
    assert_eq!(applied(&[1]).last_good(), None);
}

#[test]
fn a_hold_forgets_nothing_and_ends_by_returning_or_by_the_next_version() {
    let current = applied(&[1, 2]);
    let held = current.back_to(1, 99).unwrap();
    assert_eq!((held.version, held.instead_of, held.since), (1, Some(2), 99));
    assert_eq!((held.digest, held.change.as_str()), (past(1).digest, "adds 1"));
    assert_eq!(versions(&held), [1, 2]);
    assert_eq!(held.all().iter().map(|past| past.version).collect::<Vec<_>>(), [2, 1]);
    let returned = held.back_to(2, 100).unwrap();
    assert_eq!((returned.version, returned.instead_of), (2, None));
    assert_eq!(versions(&returned), [2, 1]);
    let next = Current::after(Some(&held), past(3));
    assert_eq!((next.version, next.instead_of), (3, None));
    assert_eq!(versions(&next), [3, 1], "the one that was run away from is not the one to return to");
    assert_eq!(next.back_to(1, 0).unwrap().instead_of, Some(3));
}

#[test]
fn what_is_kept_back_is_not_passed_on_until_somebody_says_so() {
    let newest = |current: &Current| current.newest_passed_on().map(|past| past.version);
    let tried = applied(&[1, 2]).keep_back();
    assert_eq!((newest(&applied(&[1, 2])), newest(&tried)), (Some(2), Some(1)));
    // Running away from it, and back, changes nothing of that; nor does trying another one.
    let held = tried.back_to(1, 0).unwrap();
    assert_eq!((newest(&held), newest(&held.back_to(2, 0).unwrap())), (Some(1), Some(1)));
    assert_eq!(newest(&Current::after(Some(&held), past(3)).keep_back()), Some(1));
    assert_eq!(newest(&Current::after(Some(&tried), past(3)).keep_back()), None);
    assert_eq!(newest(&Current::after(Some(&tried), past(3))), Some(3));
    // What was passed on is so no more once it was no good.
    let returned = applied(&[1, 2]).back_to(1, 0).unwrap().went_back(2, "it was no good");
    assert_eq!((newest(&returned), returned.returned.as_deref()), (Some(1), Some("it was no good")));
    let released = tried.pass_on(2).unwrap();
    assert_eq!((newest(&released), released.pass_on(2)), (Some(2), None));
    assert_eq!(released, applied(&[1, 2]));
}

#[test]
fn a_rollback_goes_to_the_one_before_or_to_the_one_that_is_named() {
    let current = applied(&[1, 3]);
    let held = current.back_to(1, 0).unwrap();
    for (current, wanted, expect) in [
        (&current, None, Ok(1)),
        (&current, Some(1), Ok(1)),
        (&current, Some(2), Err((Code::NotFound, "generation 2 is not kept"))),
        (&current, Some(3), Err((Code::Usage, "generation 3 is the one that runs"))),
        (&applied(&[1]), None, Err((Code::NotFound, "nothing from before generation 1"))),
        (&held, None, Err((Code::NotFound, "nothing from before generation 1"))),
        (&held, Some(1), Err((Code::Usage, "generation 1 is the one that runs"))),
        (&held, Some(3), Ok(3)),
    ] {
        match (current.target(wanted), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(fault), Err((code, what))) => {
                assert!(fault.code == code && fault.what.starts_with(what), "{fault}");
            }
            (found, expect) => panic!("{wanted:?}: {found:?}, not {expect:?}"),
        }
    }
    assert_eq!(held.target(None).unwrap_err().fix.unwrap(), "`midplane rollback 3` ends the hold");
}

#[test]
fn a_swap_ends_by_going_back_to_what_was_signed_and_by_every_other_generation() {
    let swapped = |slot: &str, seed: u8| Swapped {
        slot: slot.into(),
        component: BlobRef { digest: Digest::of(&[seed]), length: 1 },
        since: 5,
        signers: vec![],
        signed: vec![seed],
    };
    let slots = |current: &Current| -> Vec<(String, u8)> {
        current.swaps.iter().map(|swap| (swap.slot.clone(), swap.signed[0])).collect()
    };
    let plain = applied(&[1, 2]);
    let current = plain.swap("a", Some(swapped("a", 1))).swap("b", Some(swapped("b", 2)));
    assert_eq!(slots(&current), [("a".into(), 1), ("b".into(), 2)]);
    let again = current.swap("a", Some(swapped("a", 3)));
    assert_eq!(slots(&again), [("b".into(), 2), ("a".into(), 3)]);
    assert_eq!(slots(&again.swap("b", None)), [("a".into(), 3)]);
    assert_eq!(Current { swaps: vec![], ..again.clone() }, plain, "nothing else changes");

    assert_eq!((again.target(None), again.target(Some(2)), again.target(Some(1))), (Ok(2), Ok(2), Ok(1)));
    assert_eq!(again.back_to(2, 99), Some(plain.clone()));
    assert_eq!(again.back_to(1, 99), plain.back_to(1, 99));
    assert_eq!(Current::after(Some(&again), past(3)), Current::after(Some(&plain), past(3)));
    assert_eq!(plain.target(None), Ok(1), "then the one before it");
}

#[test]
fn there_is_no_way_to_what_is_not_kept_or_runs_already() {
    let current = applied(&[1, 2, 3]);
    for version in [0, 1, 3, 4] {
        assert_eq!(current.back_to(version, 0), None, "{version}");
    }
}

#[test]
fn a_file_of_before_there_was_a_history_is_read() {
    #[derive(Serialize)]
    struct Old {
        version: u64,
        digest: Digest,
        since: u64,
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&Old { version: 4, digest: Digest::of(b"x"), since: 5 }, &mut bytes).unwrap();
    let current: Current = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert_eq!((current.version, current.instead_of, current.others), (4, None, vec![]));
}
