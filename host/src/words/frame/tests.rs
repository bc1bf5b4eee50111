use super::*;
use proptest::prelude::*;

fn parse(mut parser: FrameParser, pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, Code> {
    let mut frames = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(frame) = parser.take(&mut input).map_err(|fault| fault.code)? {
            frames.push((frame.kind.byte(), frame.body.to_vec()));
        }
        assert!(input.is_empty(), "the parser left bytes although it wants more");
    }
    Ok(frames)
}

#[test]
fn frames_are_read_or_refused() {
    let cases: &[(&[u8], Result<usize, Code>)] = &[
        (&[], Ok(0)),
        (&[0, 0, 0, 1, 3], Ok(1)),
        (&[0, 0, 0, 3, 2, 9, 9, 0, 0, 0, 1, 3], Ok(2)),
        (&[0, 0, 0, 3, 2, 9], Ok(0)),
        (&[0, 0, 0, 0], Err(Code::Protocol)),
        (&[0, 0, 0, 0, 2], Err(Code::Protocol)),
        (&[0, 0, 0, 1, 0], Err(Code::Protocol)),
        (&[0, 0, 0, 1, 7], Err(Code::Protocol)),
        (&[0, 1, 0, 1, 2], Ok(0)),
        (&[0, 1, 0, 2], Err(Code::TooLarge)),
        (&[255, 255, 255, 255], Err(Code::TooLarge)),
    ];
    for (bytes, expect) in cases {
        let whole = parse(FrameParser::default(), &[bytes]).map(|frames| frames.len());
        assert_eq!(whole, *expect, "{bytes:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let split = parse(FrameParser::default(), &single).map(|frames| frames.len());
        assert_eq!(split, *expect, "{bytes:?} byte by byte");
    }
}

#[test]
fn unknown_bytes_are_refused_by_name() {
    assert_eq!(FrameKind::from_byte(9).unwrap_err().what, "frame kind 9 is not known to this version");
    assert_eq!(Exchange::from_byte(6).unwrap_err().what, "exchange 6 is not known to this version");
    for kind in FrameKind::ALL {
        assert_eq!(FrameKind::from_byte(kind.byte()).unwrap(), *kind);
    }
    for exchange in Exchange::ALL {
        assert_eq!(Exchange::from_byte(exchange.byte()).unwrap(), *exchange);
    }
}

#[test]
fn an_announced_length_sets_nothing_aside() {
    let mut parser = FrameParser::default();
    let mut input = Bytes::from_static(&[0, 1, 0, 1, 2, 7]);
    assert_eq!(parser.take(&mut input).unwrap(), None);
    assert!(parser.partial.capacity() < 1024);
    assert_eq!(parser.held(), 6);
    assert!(!parser.at_boundary());
    assert_eq!(parse(FrameParser::new(10), &[&[0, 0, 0, 12]]), Err(Code::TooLarge));
}

#[test]
fn a_failed_body_leaves_nothing_behind() {
    let mut out = vec![1, 2, 3];
    let long = vec![0; BODY_MAX + 1];
    assert_eq!(put_frame(&mut out, FrameKind::Item, &long).unwrap_err().code, Code::TooLarge);
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(&long);
        Ok(())
    };
    assert_eq!(put_frame_with(&mut out, FrameKind::Open, write).unwrap_err().code, Code::TooLarge);
    assert_eq!(out, [1, 2, 3]);
    put_frame_with(&mut out, FrameKind::Open, |out| {
        out.push(9);
        Ok(())
    })
    .unwrap();
    assert_eq!(out, [1, 2, 3, 0, 0, 0, 2, 1, 9]);
}

#[test]
fn items_are_cut_into_parts() {
    for (length, kinds) in
        [(0, "2"), (1, "2"), (BODY_MAX, "2"), (BODY_MAX + 1, "62"), (2 * BODY_MAX + 1, "662")]
    {
        let mut out = Vec::new();
        put_item(&mut out, &vec![5; length]);
        let frames = parse(FrameParser::default(), &[&out]).unwrap();
        let seen: String = frames.iter().map(|(kind, _)| kind.to_string()).collect();
        assert_eq!(seen, kinds, "{length}");
        assert_eq!(frames.iter().map(|(_, body)| body.len()).sum::<usize>(), length);
    }
}

#[test]
fn the_tracker_refuses_what_is_not_frames() {
    assert!(BoundaryTracker::new().track(&[0, 0, 0, 0, 2]).is_err());
    assert!(BoundaryTracker::new().track(&[0, 1, 0, 2, 2]).is_err());
    let mut tracker = BoundaryTracker::new();
    tracker.track(&[0, 0, 0, 2, 99, 1, 0, 0, 0, 1, 3]).unwrap();
    assert!(tracker.ended());
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        bodies in prop::collection::vec((1u8..=6, prop::collection::vec(any::<u8>(), 0..200)), 1..8),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let mut bytes = Vec::new();
        let mut boundaries = vec![0];
        for (kind, body) in &bodies {
            put_frame(&mut bytes, FrameKind::from_byte(*kind).unwrap(), body).unwrap();
            boundaries.push(bytes.len());
        }
        let (mut pieces, mut rest, mut at) = (Vec::new(), &bytes[..], 0);
        let mut tracker = BoundaryTracker::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
            at += piece.len();
            tracker.track(piece).unwrap();
            prop_assert_eq!(tracker.at_boundary(), boundaries.contains(&at));
        }
        prop_assert_eq!(parse(FrameParser::default(), &pieces).unwrap(), bodies);
    }

    #[test]
    fn no_bytes_make_the_parser_hold_more_than_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut parser = FrameParser::default();
        let mut input = Bytes::from(bytes.clone());
        while let Ok(Some(_)) = parser.take(&mut input) {}
        prop_assert!(parser.held() <= bytes.len());
        let _ = BoundaryTracker::new().track(&bytes);
    }
}
