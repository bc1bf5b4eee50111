use super::*;
use crate::words::trust::Trust;
use proptest::prelude::*;

fn fixed() -> Fixed {
    Fixed {
        id: [7; 16],
        from: [1; 32].into(),
        name: "math1@fabric".parse().unwrap(),
        to: Some([2; 32].into()),
        function: "add".to_owned(),
        form: 0,
        arguments: vec![9; 64],
        more: false,
        idempotent: true,
        created: 1_790_000_000_000,
    }
}

fn encoded(fixed: &Fixed) -> Vec<u8> {
    let mut out = Vec::new();
    fixed.as_ref().encode(&mut out).unwrap();
    out
}

fn code<T>(outcome: Outcome<T>) -> Option<Code> {
    outcome.err().map(|fault| fault.code)
}

#[test]
fn calls_round_trip_and_are_small() {
    let full = Hop {
        hops_left: 3,
        time_left_ms: u32::MAX,
        trust: Trust::Basic,
        chain: (0..HOPS_MAX).map(|byte| [byte; 32].into()).collect(),
        trace: true,
        priority: 0,
        depth: 8,
    };
    let bare =
        Fixed { to: None, arguments: Vec::new(), more: true, idempotent: false, created: 0, ..fixed() };
    let large = Fixed { arguments: vec![1; ARGUMENTS_MAX], function: "f".repeat(FUNCTION_MAX), ..fixed() };
    for fixed in [fixed(), bare, large] {
        for hop in [Hop::start(30_000), full.clone()] {
            let bytes = encoded(&fixed);
            let mut body = Vec::new();
            encode_open(&mut body, Exchange::Invoke, &bytes, &hop).unwrap();
            assert_eq!(exchange_of(&body).unwrap(), Exchange::Invoke);
            let open = decode_open(&body).unwrap();
            assert_eq!((open.exchange, open.fixed, &open.hop), (Exchange::Invoke, &bytes[..], &hop));
            assert_eq!(FixedRef::decode(open.fixed).unwrap().to_fixed().unwrap(), fixed);
            assert!(body.len() <= crate::words::frame::BODY_MAX);
        }
    }
    let mut body = Vec::new();
    encode_open(&mut body, Exchange::Invoke, &encoded(&fixed()), &Hop::start(30_000)).unwrap();
    assert!(body.len() < 64 + 160, "{} bytes around 64 of arguments", body.len());
}

#[test]
fn every_truncation_and_addition_is_refused() {
    let bytes = encoded(&fixed());
    let mut body = Vec::new();
    encode_open(&mut body, Exchange::Invoke, &bytes, &Hop::start(1)).unwrap();
    for cut in 0..bytes.len() {
        assert_eq!(code(FixedRef::decode(&bytes[..cut])), Some(Code::Protocol), "fixed cut at {cut}");
    }
    for cut in 0..body.len() {
        assert_eq!(code(decode_open(&body[..cut])), Some(Code::Protocol), "open cut at {cut}");
    }
    assert_eq!(code(FixedRef::decode(&[&bytes[..], &[0]].concat())), Some(Code::Protocol));
    assert_eq!(code(decode_open(&[&body[..], &[0]].concat())), Some(Code::Protocol));
}

#[test]
fn limits_are_kept_on_both_sides() {
    for long in [
        Fixed { arguments: vec![0; ARGUMENTS_MAX + 1], ..fixed() },
        Fixed { function: "f".repeat(FUNCTION_MAX + 1), ..fixed() },
    ] {
        assert_eq!(code(long.as_ref().encode(&mut Vec::new())), Some(Code::TooLarge));
    }
    let name = "n".repeat(NAME_MAX + 1);
    let long = fixed();
    let long = FixedRef { name: &name, ..long.as_ref() };
    assert_eq!(code(long.encode(&mut Vec::new())), Some(Code::TooLarge));
    assert_eq!(code(FixedRef::decode(&vec![0; FIXED_MAX + 1])), Some(Code::TooLarge));
    let hop = Hop { chain: vec![[1; 32].into(); 9], ..Hop::start(1) };
    assert_eq!(code(encode_open(&mut Vec::new(), Exchange::Invoke, &[], &hop)), Some(Code::TooLarge));
    assert_eq!(
        code(encode_start(&mut Vec::new(), Exchange::Blob, &vec![0; DETAILS_MAX + 1])),
        Some(Code::TooLarge)
    );
    let other = fixed();
    let other = FixedRef { name: "Not a name", ..other.as_ref() };
    assert_eq!(code(other.name()), Some(Code::Protocol));
}

/// An open whose hop is written by `hop`.
fn open_with(hop: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encoder = Encoder::new(&mut body);
    encoder.array(3).unwrap().u8(1).unwrap().bytes(&[]).unwrap();
    hop(&mut encoder);
    body
}

fn hop_of(entries: &[(u64, u64)]) -> Vec<u8> {
    open_with(|encoder| {
        encoder.map(entries.len() as u64).unwrap();
        for (key, value) in entries {
            encoder.u64(*key).unwrap().u64(*value).unwrap();
        }
    })
}

#[test]
fn hops_are_lenient_where_they_may_be() {
    type Entries = &'static [(u64, u64)];
    let cases: &[(Entries, Option<Trust>)] = &[
        (&[(0, 8), (1, 5), (2, 100)], Some(Trust::Full)),
        (&[(2, 60), (1, 5), (0, 0)], Some(Trust::Basic)),
        (&[(0, 8), (1, 5), (2, 255)], Some(Trust::Full)),
        (&[(0, 8), (1, 5), (2, 9)], Some(Trust::Unknown)),
        (&[(0, 8), (1, 5), (2, 10), (77, 1), (300, 2)], Some(Trust::Pending)),
        (&[(0, 9), (1, 5), (2, 100)], None),
        (&[(0, 8), (1, 5)], None),
        (&[(0, 8), (2, 100)], None),
        (&[(1, 5), (2, 100)], None),
        (&[(0, 8), (1, 5), (2, 100), (0, 7)], None),
        (&[(0, 8), (1, 1 << 32), (2, 100)], None),
        (&[(9, 0); 17], None),
    ];
    for (entries, expect) in cases {
        let body = hop_of(entries);
        let got = decode_open(&body);
        match expect {
            Some(trust) => assert_eq!(got.unwrap().hop.trust, *trust, "{entries:?}"),
            None => assert_eq!(code(got), Some(Code::Protocol), "{entries:?}"),
        }
    }
    let nested = open_with(|encoder| {
        encoder.map(4).unwrap().u8(0).unwrap().u8(1).unwrap().u8(1).unwrap().u8(1).unwrap();
        encoder.u8(2).unwrap().u8(50).unwrap();
        encoder.str("later").err();
    });
    assert_eq!(code(decode_open(&nested)), Some(Code::Protocol));
    let chain = open_with(|encoder| {
        encoder.map(1).unwrap().u8(3).unwrap().array(9).unwrap();
    });
    assert_eq!(code(decode_open(&chain)), Some(Code::Protocol));
}

#[test]
fn deep_and_huge_values_of_unknown_keys_are_skipped_without_harm() {
    let deep = open_with(|encoder| {
        encoder.map(4).unwrap().u8(0).unwrap().u8(1).unwrap().u8(1).unwrap().u8(1).unwrap();
        encoder.u8(2).unwrap().u8(50).unwrap().u8(99).unwrap();
        for _ in 0..50_000 {
            encoder.array(1).unwrap();
        }
        encoder.null().unwrap();
    });
    assert!(decode_open(&deep).is_ok());
    let mut huge = hop_of(&[(0, 8), (1, 5), (2, 100)]);
    *huge.iter_mut().find(|byte| **byte == 0xa3).unwrap() = 0xa4;
    huge.extend_from_slice(&[0x18, 99, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(code(decode_open(&huge)), Some(Code::Protocol));
}

#[test]
fn other_exchanges_have_their_own_form() {
    for exchange in [Exchange::Hello, Exchange::Blob, Exchange::Channel] {
        let mut body = Vec::new();
        encode_start(&mut body, exchange, b"details").unwrap();
        assert_eq!(decode_start(&body).unwrap(), (exchange, &b"details"[..]));
        assert_eq!(exchange_of(&body).unwrap(), exchange);
        assert_eq!(code(decode_open(&body)), Some(Code::Protocol));
        assert_eq!(code(decode_start(&body[..body.len() - 1])), Some(Code::Protocol));
    }
    let mut call = Vec::new();
    encode_open(&mut call, Exchange::Invoke, &[], &Hop::start(1)).unwrap();
    assert_eq!(code(decode_start(&call)), Some(Code::Protocol));
    let unknown = exchange_of(&[0x82, 9, 0x40]).unwrap_err();
    assert_eq!((unknown.code, &*unknown.what), (Code::Protocol, "exchange 9 is not known to this version"));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_read_the_same_again(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(open) = decode_open(&bytes) {
            let mut again = Vec::new();
            encode_open(&mut again, open.exchange, open.fixed, &open.hop).unwrap();
            prop_assert_eq!(decode_open(&again).unwrap(), open);
        }
        let _ = FixedRef::decode(&bytes);
        let _ = decode_start(&bytes);
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..300, to in any::<u8>()) {
        let mut body = Vec::new();
        let hop = Hop { chain: vec![[1; 32].into(); 2], trace: true, ..Hop::start(9) };
        encode_open(&mut body, Exchange::Invoke, &encoded(&fixed()), &hop).unwrap();
        let length = body.len();
        body[at % length] = to;
        if let Ok(open) = decode_open(&body) {
            let _ = FixedRef::decode(open.fixed).and_then(|fixed| fixed.to_fixed());
        }
    }
}
