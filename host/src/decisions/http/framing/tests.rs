use super::*;

/// What a connection's bytes are: the pieces let through, and the refusal that ends it.
fn scan(bytes: &[u8], step: usize) -> (usize, usize, Option<Refusal>) {
    let mut scanner = Scanner::default();
    let (mut released, mut heads, mut have) = (0, 0, 0);
    while have < bytes.len() {
        have = (have + step).min(bytes.len());
        loop {
            match scanner.next(&bytes[released..have]) {
                Ok(Piece::More) => break,
                Ok(Piece::Head(length)) => {
                    heads += 1;
                    released += length;
                }
                Ok(Piece::Body(length)) => released += length,
                Err(refusal) => return (released, heads, Some(refusal)),
            }
        }
    }
    (released, heads, None)
}

/// Scans at once, and byte by byte: where the packets end must not matter.
#[track_caller]
fn check(bytes: &[u8], heads: usize, status: Option<u16>) {
    let shown = String::from_utf8_lossy(bytes);
    let whole = scan(bytes, usize::MAX / 2);
    for step in [1, 2, 7] {
        let (released, seen, refusal) = scan(bytes, step);
        assert_eq!(
            (released, seen, refusal.map(|r| r.status)),
            (whole.0, whole.1, whole.2.map(|r| r.status)),
            "{shown:?}"
        );
    }
    assert_eq!((whole.1, whole.2.map(|refusal| refusal.status)), (heads, status), "{shown:?} {:?}", whole.2);
    if status.is_none() {
        assert_eq!(whole.0, bytes.len(), "{shown:?}: everything goes on");
    }
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn plain_requests_go_through_whole() {
    check(&get(""), 1, None);
    check(&[get(""), get("X: y\r\n"), get("")].concat(), 3, None);
    check(&[get("Content-Length: 5\r\n"), b"hello".to_vec(), get("")].concat(), 2, None);
    check(&[chunked("5\r\nhello\r\n0\r\n\r\n"), get("")].concat(), 2, None);
    check(&chunked("5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-check: 1\r\n\r\n"), 1, None);
    check(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", 1, None);
    check(b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", 1, None);
    check(&get("X-Tab: a\tb\r\nX-Empty:\r\nX-Text: \u{e4}\r\n"), 1, None);
    check(&get("Expect: 100-continue\r\n"), 1, None);
}

/// Each of these is read differently by some pair of readers.
#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
        b"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET http://user@a.example/ HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a.example\n\n",
        b"GET / HTTP/1.1\r\nHost: a.example\n\r\n",
        b"GET / HTTP/1.1\rHost: a.example\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a.example\r\n\r\n",
        b"GET /\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a.example\r\n\r\n",
        b"GET / http/1.1\r\nHost: a.example\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"G\tT / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /#part HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for head in heads {
        check(head, 0, Some(400));
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5 \r\nContent-Length : 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X: a\x7fb\r\n",
        "X\r\n",
        ": x\r\n",
        "X Y: z\r\n",
        "X(Y): z\r\n",
    ] {
        check(&get(fields), 0, Some(400));
    }
    check(b"POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, Some(400));
    check(&get("Expect: 200-ok\r\n"), 0, Some(417));
    for method in ["CONNECT", "TRACE", "TRACK"] {
        check(format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes(), 0, Some(405));
    }
}

#[test]
fn bodies_end_exactly_where_they_say() {
    for body in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "123456789\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\x01\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nHost: b.example\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n\n",
    ] {
        check(&chunked(body), 1, Some(400));
    }
    // What follows a body is a new request, judged like the first.
    check(&[get("Content-Length: 5\r\n"), b"helloGET / HTTP/1.1\r\n\r\n".to_vec()].concat(), 1, Some(400));
}

#[test]
fn what_is_too_large_is_told_apart() {
    check(&get(&format!("X: {}\r\n", "y".repeat(20_000))), 0, Some(431));
    check(&get(&"X: y\r\n".repeat(200)), 0, Some(431));
    check(
        format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(70_000)).as_bytes(),
        0,
        Some(414),
    );
    check(format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(9_000)).as_bytes(), 0, Some(414));
    check(
        format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(TARGET_MAX - 1)).as_bytes(),
        1,
        None,
    );
    check(&chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(5_000))), 1, Some(431));
    check(&chunked(&format!("3;{}\r\nabc\r\n", "y".repeat(300))), 1, Some(431));
    check(&get(&"X: y\r\n".repeat(63)), 1, None);
    check(&get(&"X: y\r\n".repeat(64)), 0, Some(431));
}

mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_scanned_without_a_panic_and_in_any_pieces(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'0'), Just(b'a'), any::<u8>(),
            ], 0..400),
            chunked_body in any::<bool>(),
        ) {
            let bytes = if chunked_body { [chunked(""), bytes].concat() } else { bytes };
            let whole = scan(&bytes, usize::MAX / 2);
            let pieces = scan(&bytes, 1);
            prop_assert_eq!((whole.1, whole.2.is_some()), (pieces.1, pieces.2.is_some()));
            prop_assert!(whole.0 <= bytes.len());
        }
    }
}
