//! Streams: limits before and after admission, frames, and passing streams on.

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};

use super::*;
use crate::words::frame::{BODY_MAX, FrameKind};
use crate::words::note::decode_fault;
use crate::words::{Code, Fault};

/// Larger than anything that is sent here in one item.
const ITEM_MAX: usize = 2 * 1024 * 1024;

#[tokio::test]
async fn a_stranger_has_one_stream_and_a_member_many() {
    let (a, b) = (node(1), node(2));
    let (at_a, at_b) = soon(link(&a, &b)).await;
    let hello = soon(at_a.open_bi()).await.unwrap();
    let mut second = Box::pin(at_a.open_bi());
    let mut uni = Box::pin(at_a.open_uni());
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert!(futures::poll!(uni.as_mut()).is_pending());
    admit(&at_b);
    let mut held = vec![hello, soon(second).await.unwrap()];
    let mut held_uni = vec![soon(uni).await.unwrap()];
    while held.len() < windows::MEMBER.bidi_streams as usize {
        held.push(soon(at_a.open_bi()).await.unwrap());
    }
    while held_uni.len() < windows::MEMBER.uni_streams as usize {
        held_uni.push(soon(at_a.open_uni()).await.unwrap());
    }
    assert!(futures::poll!(std::pin::pin!(at_a.open_bi())).is_pending());
    assert!(futures::poll!(std::pin::pin!(at_a.open_uni())).is_pending());
}

/// Writes until the other side takes nothing more; returns how much it took.
async fn fill(send: &mut SendStream, most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        let mut write = Box::pin(send.write(&[0; 4096]));
        match futures::poll!(write.as_mut()) {
            std::task::Poll::Ready(written) => taken += written.unwrap(),
            std::task::Poll::Pending => break,
        }
    }
    taken
}

#[tokio::test]
async fn a_stranger_can_send_little_until_it_is_admitted() {
    let (a, b) = (node(1), node(2));
    let (at_a, at_b) = soon(link(&a, &b)).await;
    // Only the receiver's windows are to bound this.
    at_a.set_send_window(64 * 1024 * 1024);
    let (mut send, _recv) = soon(at_a.open_bi()).await.unwrap();
    let taken = fill(&mut send, 16 * 1024 * 1024).await;
    assert_eq!(taken, windows::STRANGER.receive as usize);
    admit(&at_b);
    let (_, mut recv) = soon(at_b.accept_bi()).await.unwrap();
    soon(send.write(&[0; 10])).await.unwrap();
    let more = fill(&mut send, 16 * 1024 * 1024).await;
    assert_eq!(taken + 10 + more, windows::STREAM_RECEIVE as usize, "the stream's own window bounds it now");
    soon(recv.read(&mut [0; 10])).await.unwrap();
}

/// A stream from `a` to `b` with both ends; `a` has spoken first.
async fn stream(a: &Connection, b: &Connection) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    admit(a);
    admit(b);
    let mut near = soon(a.open_bi()).await.unwrap();
    near.0.write_all(&[0, 0, 0, 1, 5]).await.unwrap();
    let mut far = soon(b.accept_bi()).await.unwrap();
    soon(far.1.read_exact(&mut [0; 5])).await.unwrap();
    (near, far)
}

#[tokio::test]
async fn a_call_and_its_answer_over_quic() {
    let (a, b) = (node(1), node(2));
    let (at_a, at_b) = soon(link(&a, &b)).await;
    let ((send, recv), (far_send, far_recv)) = soon(stream(&at_a, &at_b)).await;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv, ITEM_MAX));
    let (mut far_writer, mut far_reader) = (FrameWriter::new(far_send), FrameReader::new(far_recv, ITEM_MAX));
    let open = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"open");
        Ok(())
    };
    let long = vec![7; 3 * BODY_MAX + 5];
    let (wrote, served) = tokio::join!(
        async {
            writer.open(open, Some(b"first")).await?;
            writer.item(&long).await?;
            writer.end().await
        },
        async {
            assert_eq!(far_reader.open().await?, &b"open"[..]);
            assert_eq!(far_reader.piece().await?, Piece::Item(Bytes::from_static(b"first")));
            assert_eq!(far_reader.piece().await?, Piece::Item(Bytes::from(long.clone())));
            assert_eq!(far_reader.piece().await?, Piece::End);
            far_writer.push(FrameKind::Note, b"note")?;
            far_writer.last(b"answer").await
        }
    );
    wrote.unwrap();
    served.unwrap();
    assert_eq!(soon(reader.piece()).await.unwrap(), Piece::Note(Bytes::from_static(b"note")));
    assert_eq!(soon(reader.piece()).await.unwrap(), Piece::Item(Bytes::from_static(b"answer")));
    assert_eq!(soon(reader.piece()).await.unwrap(), Piece::End);
    assert!(soon(reader.next()).await.unwrap().is_none());
}

/// Reads what was written to a pipe in pieces of `cut` bytes: the texts of the pieces, and the code at the end.
async fn read_all(bytes: &[u8], cut: usize, item_max: usize) -> (Vec<String>, Code) {
    let pieces: Vec<_> = bytes.chunks(cut.max(1)).collect();
    let mut pipe = tokio_test_pipe(&pieces);
    let mut reader = FrameReader::over(&mut pipe, item_max);
    let mut seen = Vec::new();
    loop {
        match reader.piece().await {
            Ok(Piece::Open(body)) => seen.push(format!("open {}", body.len())),
            Ok(Piece::Item(body)) => seen.push(format!("item {}", body.len())),
            Ok(Piece::Note(body)) => seen.push(format!("note {}", body.len())),
            Ok(Piece::Error(body)) => seen.push(format!("error {}", decode_fault(&body).code)),
            Ok(Piece::End) => seen.push("end".to_owned()),
            Err(fault) => return (seen, fault.code),
        }
    }
}

/// A reader that gives one piece per read.
fn tokio_test_pipe(pieces: &[&[u8]]) -> impl tokio::io::AsyncRead + Unpin + Send {
    use tokio::io::AsyncReadExt;
    let mut pipe: Box<dyn tokio::io::AsyncRead + Unpin + Send> = Box::new(tokio::io::empty());
    for piece in pieces.iter().rev() {
        pipe = Box::new(std::io::Cursor::new(piece.to_vec()).chain(pipe));
    }
    pipe
}

#[tokio::test]
async fn pieces_are_read_or_refused_over_any_reader() {
    let frame = |kind: u8, length: usize| {
        [&(length as u32 + 1).to_be_bytes()[..], &[kind], &vec![0; length]].concat()
    };
    let mut failed = Vec::new();
    let fault = Fault::new(Code::NoRoute, "x@y is not served");
    crate::words::frame::put_frame(&mut failed, FrameKind::Error, &crate::words::note::encode_fault(&fault))
        .unwrap();
    let (open, item, part, note, end) = (frame(1, 3), frame(2, 4), frame(6, 5), frame(5, 2), frame(3, 0));
    let cases: &[(&[&[u8]], &str, Code)] = &[
        (&[], "", Code::LinkLost),
        (&[&open, &item, &end], "open 3,item 4,end", Code::Protocol),
        (&[&open, &part, &part, &item, &end], "open 3,item 14,end", Code::Protocol),
        (&[&part, &note, &item, &end], "note 2,item 9,end", Code::Protocol),
        (&[&part, &failed], "error no-route", Code::Protocol),
        (&[&item], "item 4", Code::LinkLost),
        (&[&item, &end[..4]], "item 4", Code::LinkLost),
        (&[&part, &end], "", Code::Protocol),
        (&[&part, &open], "", Code::Protocol),
        (&[&frame(6, 0)], "", Code::Protocol),
        (&[&frame(3, 1)], "", Code::Protocol),
        (&[&end, &item], "end", Code::Protocol),
        (&[&frame(2, 16), &frame(2, 17)], "item 16", Code::TooLarge),
        (&[&part, &part, &part, &item], "", Code::TooLarge),
        (&[&frame(9, 0)], "", Code::Protocol),
        (&[&[255; 4]], "", Code::TooLarge),
    ];
    for (frames, expect, code) in cases {
        for cut in [1, 3, 1000] {
            let (seen, end) = read_all(&frames.concat(), cut, 16).await;
            assert_eq!((seen.join(","), end), ((*expect).to_owned(), *code), "{frames:?} cut into {cut}");
        }
    }
}

#[tokio::test]
async fn what_belongs_together_leaves_in_one_write() {
    let writes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut writer = FrameWriter::new(Counting(writes.clone()));
    let open = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"open");
        Ok(())
    };
    writer.open(open, Some(b"first")).await.unwrap();
    writer.last(b"answer").await.unwrap();
    assert_eq!(*writes.lock().unwrap(), [9 + 10, 11 + 5]);
}

/// Notes the length of each write.
struct Counting(std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

impl tokio::io::AsyncWrite for Counting {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.lock().unwrap().push(bytes.len());
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// A caller, a node in the middle that passes the caller's requests on, and a node that serves.
struct Path {
    caller: (SendStream, RecvStream),
    server: (SendStream, RecvStream),
    request: tokio::task::JoinHandle<SpliceEnd>,
    answer: tokio::task::JoinHandle<SpliceEnd>,
    links: [Connection; 4],
    _nodes: [Endpoint; 3],
}

async fn path() -> Path {
    let nodes = [node(1), node(2), node(3)];
    let (caller_link, in_link) = link(&nodes[0], &nodes[1]).await;
    let (out_link, server_link) = link(&nodes[1], &nodes[2]).await;
    let (caller, middle_in) = stream(&caller_link, &in_link).await;
    let (middle_out, server) = stream(&out_link, &server_link).await;
    let request = tokio::spawn(splice(middle_in.1, middle_out.0));
    let answer = tokio::spawn(splice(middle_out.1, middle_in.0));
    Path {
        caller,
        server,
        request,
        answer,
        links: [caller_link, in_link, out_link, server_link],
        _nodes: nodes,
    }
}

#[tokio::test]
async fn a_mebibyte_goes_through_the_middle_unchanged() {
    let Path { caller, server, request, answer, links: _links, _nodes } = soon(path()).await;
    let item: Vec<u8> = (0..1024 * 1024).map(|index: u32| (index % 251) as u8).collect();
    let (mut writer, mut reader) = (FrameWriter::new(caller.0), FrameReader::new(caller.1, ITEM_MAX));
    let (mut far_writer, mut far_reader) = (FrameWriter::new(server.0), FrameReader::new(server.1, ITEM_MAX));
    let echo = async {
        let Piece::Item(got) = far_reader.piece().await? else { panic!("no item came") };
        assert_eq!(far_reader.piece().await?, Piece::End);
        far_writer.last(&got).await
    };
    let call = async {
        writer.last(&item).await?;
        reader.piece().await
    };
    let (sent, served) = soon(async { tokio::join!(call, echo) }).await;
    served.unwrap();
    assert_eq!(sent.unwrap(), Piece::Item(Bytes::from(item.clone())));
    for task in [request, answer] {
        let end = soon(task).await.unwrap();
        assert!(matches!(end.cause, Cause::Finished), "{end:?}");
        assert!(end.at_boundary && end.ended && end.bytes as usize > item.len());
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_to_the_end_of_the_path() {
    let Path { mut caller, mut server, request, answer, links: _links, _nodes } = soon(path()).await;
    caller.0.reset(VarInt::from_u32(2)).unwrap();
    caller.1.stop(VarInt::from_u32(2)).unwrap();
    let read = soon(FrameReader::new(server.1, 1).next()).await;
    assert_eq!(read.unwrap_err().code, Code::Deadline);
    assert_eq!(soon(server.0.stopped()).await.unwrap(), Some(VarInt::from_u32(2)));
    let _ = server.0.reset(VarInt::from_u32(0));
    assert!(matches!(soon(request).await.unwrap().cause, Cause::Reset(2)));
    assert!(matches!(soon(answer).await.unwrap().cause, Cause::Stopped(2)));
}

#[tokio::test]
async fn a_server_that_gives_up_reaches_the_caller() {
    let Path { caller, mut server, request, answer, links: _links, _nodes } = soon(path()).await;
    server.0.write_all(&[0, 0, 0, 9, 2, 1]).await.unwrap();
    let mut reader = FrameReader::new(caller.1, 100);
    server.0.reset(VarInt::from_u32(35)).unwrap();
    server.1.stop(VarInt::from_u32(35)).unwrap();
    assert_eq!(soon(reader.next()).await.unwrap_err().code, Code::Trap);
    assert_eq!(soon(caller.0.stopped()).await.unwrap(), Some(VarInt::from_u32(35)));
    assert!(matches!(soon(request).await.unwrap().cause, Cause::Stopped(35)));
    assert!(matches!(soon(answer).await.unwrap().cause, Cause::Reset(35)));
}

#[tokio::test]
async fn a_reset_overtakes_bytes_that_nobody_reads() {
    let (a, b, c) = (node(1), node(2), node(3));
    let (caller_link, in_link) = soon(link(&a, &b)).await;
    let (out_link, server_link) = soon(link(&b, &c)).await;
    let (mut caller, middle_in) = soon(stream(&caller_link, &in_link)).await;
    let (middle_out, mut server) = soon(stream(&out_link, &server_link)).await;
    // More than the windows of the last link together hold: the splice cannot get past it.
    let mut head = Vec::new();
    crate::words::frame::put_item(&mut head, &vec![0; 4 * windows::STREAM_RECEIVE as usize]);
    let splice = tokio::spawn(splice_after(head.into(), middle_in.1, middle_out.0));
    caller.0.reset(VarInt::from_u32(0)).unwrap();
    assert!(matches!(soon(splice).await.unwrap().cause, Cause::Reset(0)));
    assert_eq!(soon(server.1.received_reset()).await.unwrap(), Some(VarInt::from_u32(0)));
}

#[tokio::test]
async fn a_lost_link_leaves_room_for_an_error_frame_only_between_frames() {
    for (sent, whole) in [(&[0, 0, 0, 2, 2, 7][..], true), (&[0, 0, 0, 9, 2, 7][..], false)] {
        let Path { mut caller, mut server, answer, links, .. } = soon(path()).await;
        server.0.write_all(sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        soon(caller.1.read_exact(&mut got)).await.unwrap();
        close(&links[3], Code::Internal, "");
        let end = soon(answer).await.unwrap();
        let Cause::SourceLost(_, handed_back) = end.cause else { panic!("{:?}", end.cause) };
        assert_eq!((end.at_boundary, handed_back.is_some(), end.ended), (whole, whole, false));
        let mut reader = FrameReader::new(caller.1, 100);
        match handed_back {
            Some(send) => {
                FrameWriter::new(send).fail(&Fault::new(Code::LinkLost, "next link is gone")).await.unwrap();
                let Piece::Error(body) = soon(reader.piece()).await.unwrap() else {
                    panic!("no error frame")
                };
                assert_eq!(decode_fault(&body).code, Code::LinkLost);
            }
            None => assert_eq!(soon(reader.piece()).await.unwrap_err().code, Code::LinkLost),
        }
    }
}

#[tokio::test]
async fn what_is_no_frame_is_not_passed_on() {
    let Path { mut caller, server, request, links: _links, _nodes, .. } = soon(path()).await;
    caller.0.write_all(&[255; 8]).await.unwrap();
    let end = soon(request).await.unwrap();
    assert!(matches!(&end.cause, Cause::Broken(fault) if fault.code == Code::TooLarge), "{:?}", end.cause);
    assert_eq!(soon(FrameReader::new(server.1, 1).next()).await.unwrap_err().code, Code::TooLarge);
    assert_eq!(end.bytes, 0);
}
