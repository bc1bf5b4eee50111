use super::*;

fn second<'a>(
    method: &'a str,
    target: &'a str,
    authority: Option<&'a str>,
    host: Option<&'a str>,
) -> Head<'a> {
    Head {
        version: Version::Http2,
        method: method.as_bytes(),
        target: target.as_bytes(),
        authority: authority.map(str::as_bytes),
        fields: host.into_iter().map(|host| (&b"host"[..], host.as_bytes())).collect(),
    }
}

#[test]
fn http2_has_one_host_too() {
    for (authority, host, expect) in [
        (Some("a.example"), None, true),
        (Some("a.example"), Some("a.example"), true),
        (Some("A.example"), Some("a.EXAMPLE"), true),
        (None, Some("a.example"), true),
        (None, None, false),
        (Some("a.example"), Some("b.example"), false),
        (Some("a.example:80"), Some("a.example"), false),
        (Some("user@a.example"), None, false),
        (Some(""), None, false),
    ] {
        let judged = judge(&second("GET", "/", authority, host));
        assert_eq!(judged.is_ok(), expect, "{authority:?} {host:?}: {judged:?}");
    }
    assert_eq!(judge(&second("CONNECT", "/", Some("a.example"), None)).unwrap_err().status, 405);
    let mut coded = second("POST", "/", Some("a.example"), None);
    coded.fields.push((b"transfer-encoding", b"chunked"));
    assert_eq!(judge(&coded).unwrap_err().status, 400);
    let mut many = second("GET", "/", Some("a.example"), None);
    many.fields = vec![(b"x", b"y"); FIELDS_MAX + 1];
    assert_eq!(judge(&many).unwrap_err().status, 431);
}

#[test]
fn paths_show_where_they_lead() {
    for (target, expect) in [
        ("/", true),
        ("/a/b.c/~d/..e/f..", true),
        ("/a%20b/%2F/%e4", true),
        ("/a?x=[1]&y={2}|`^", true),
        ("/a?..", true),
        ("/a;b=c,d!$&'()*+@:|", true),
        ("//a", true),
        ("/.", false),
        ("/..", false),
        ("/a/../b", false),
        ("/a/%2e%2E/b", false),
        ("/a/.%2e", false),
        ("/a/%2e", false),
        ("/%", false),
        ("/%2", false),
        ("/%zz", false),
        ("/%00", false),
        ("/a\\b", false),
        ("/a\"b", false),
        ("/a<b", false),
        ("/a?<", false),
        ("/a?x#y", false),
        ("/\u{e4}", false),
    ] {
        let judged = judge(&second("GET", target, Some("a.example"), None));
        assert_eq!(judged.is_ok(), expect, "{target}: {judged:?}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address_with_a_port() {
    for (host, expect) in [
        ("a.example", true),
        ("a.example:8080", true),
        ("127.0.0.1:1", true),
        ("[::1]", true),
        ("[::1]:8080", true),
        ("a_b.example", true),
        ("a.example.", true),
        ("", false),
        (":80", false),
        ("a.example:", false),
        ("a.example:x", false),
        ("a.example:65536", false),
        ("a.example:+80", false),
        ("a.example:000080", false),
        ("[::1", false),
        ("[::1]x", false),
        ("[x]", false),
        ("a b", false),
        ("a%41", false),
        ("a,b", false),
    ] {
        let judged = judge(&second("GET", "/", Some(host), None));
        assert_eq!(judged.is_ok(), expect, "{host:?}: {judged:?}");
    }
}

#[test]
fn host_names_are_compared_in_one_spelling() {
    for (authority, name) in [
        ("A.Example:80", "a.example"),
        ("a.example.", "a.example"),
        ("a.example.:80", "a.example"),
        ("[::1]:80", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ] {
        assert_eq!(host_name(authority), name);
    }
}
