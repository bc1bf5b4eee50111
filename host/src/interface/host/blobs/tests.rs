use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::store::blobs::RESERVE;
use crate::store::disk::faults::{Faults, Plan};
use crate::store::state::Store;
use crate::wasm::outward::{Nested, Peer, Pieces};
use crate::words::Trust;

const MOST: u64 = 1 << 30;

/// Nobody is around.
struct Alone;

impl Outward for Alone {
    fn call(&self, _: Nested) -> BoxFuture<'static, Outcome<Pieces>> {
        std::future::ready(Err(panicked())).boxed()
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Outcome<()>> {
        std::future::ready(Err(missing(&digest))).boxed()
    }

    fn let_go(&self, _: String, _: Digest) -> BoxFuture<'static, Outcome<bool>> {
        std::future::ready(Ok(false)).boxed()
    }

    fn sweep(&self, _: String) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

fn access(shelf: &Shelf) -> Access {
    Access {
        slot: "skill/a".into(),
        grant: BlobGrant { read: Some(BlobAccess::Mesh), write: Some(MOST) },
        shelf: shelf.clone(),
        rights: Rights { trust: Trust::Trusted, ..Rights::own([1; 32].into()) },
        deadline: clock::deadline_in(10_000),
        outward: Arc::new(Alone),
    }
}

#[tokio::test]
async fn a_full_disk_refuses_clearly_and_gives_the_room_back() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, faults) = Faults::disk(Plan::Nothing);
    let blobs = Blobs::on(disk, &directory.path().join("blobs")).unwrap();
    let store = Arc::new(Store::open(&directory.path().join("state.redb")).unwrap());
    let shelf = Shelf::new(blobs.clone(), Holdings::new(store));
    let used = || shelf.holdings.used("skill/a").unwrap();

    faults.set_free(Some(RESERVE + 1_000));
    let fault = access(&shelf).put(Some(1_001)).await.map(drop).unwrap_err();
    assert_eq!((fault.code, used()), (Code::StorageFull, 0), "{fault}");
    assert!(fault.what.contains("no room") && fault.fix.unwrap().contains("blob gc"));
    assert!(access(&shelf).put(Some(1_000)).await.is_ok());

    // It fills while the blob is being written.
    let mut writer = access(&shelf).put(None).await.unwrap();
    let mut writing = writer.writing.take().unwrap();
    let piece = vec![1; PIECE_MAX];
    add(&mut writing, &piece).unwrap();
    faults.set_free(Some(RESERVE - 1));
    let fault = (0..64).find_map(|_| add(&mut writing, &piece).err()).unwrap();
    assert_eq!(fault.code, Code::StorageFull);
    assert!(used() > 0);
    drop(writing);
    assert_eq!((used(), blobs.all().unwrap()), (0, vec![]));
    let left = std::fs::read_dir(directory.path().join("blobs/tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[tokio::test]
async fn who_asks_decides_what_may_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
    let store = Arc::new(Store::open(&directory.path().join("state.redb")).unwrap());
    let shelf = Shelf::new(blobs.clone(), Holdings::new(store));
    let foreign = BlobRef { digest: Digest::of(b"hello"), length: 5 };
    blobs.put_all(&foreign, b"hello").unwrap();
    let own = BlobRef { digest: Digest::of(b"own"), length: 3 };
    blobs.put_all(&own, b"own").unwrap();
    shelf.holdings.room("skill/a", MOST).unwrap().keep(&own).unwrap();
    let node = Some(BlobAccess::Node);
    for (read, trust, expect) in [
        (None, Trust::Full, Err(Code::MissingGrant)),
        (node, Trust::Unknown, Err(Code::NotAdmitted)),
        (node, Trust::Basic, Err(Code::NotAllowed)),
        (node, Trust::Trusted, Ok(5)),
        (Some(BlobAccess::Mesh), Trust::Full, Ok(5)),
    ] {
        let with = || {
            let all = access(&shelf);
            let rights = Rights { trust, ..all.rights };
            Access { grant: BlobGrant { read, ..all.grant }, rights, ..all }
        };
        let read = with().get(&foreign.digest.to_string(), 0, None).await;
        assert_eq!(read.map(|reader| reader.blob.length).map_err(|fault| fault.code), expect);
        assert_eq!(with().find(&foreign.digest), expect.ok());
        assert_eq!(with().find(&own.digest), Some(3), "its own it reads for everybody");
    }
}

#[test]
fn a_reader_that_waits_holds_less_than_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
    let bytes: Vec<u8> = (0..3 * PIECE_MAX + 5).map(|at| (at % 251) as u8).collect();
    let blob = BlobRef { digest: Digest::of(&bytes), length: bytes.len() as u64 };
    blobs.put_all(&blob, &bytes).unwrap();
    for most in [PIECE_MAX, PIECE_MAX - 1, GROUP + 1, 100_000] {
        let start = 10_000;
        let mut rest = rest(&blobs, &blob.digest, start as u64, blob.length - start as u64).unwrap();
        let mut read = Vec::new();
        while rest.left > 0 {
            read.extend(rest.take(most).unwrap());
            assert!(rest.ready.capacity() <= GROUP, "{} after {}", rest.ready.capacity(), read.len());
        }
        assert!(read == bytes[start..], "{most}");
    }
}
