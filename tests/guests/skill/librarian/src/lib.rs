//! `librarian`: what a skill can do with blobs.

use midplane_sdk::host::blobs::{self, Writer};
use midplane_sdk::host::{Error, get_blob, put_blob};

midplane_sdk::skill!(Librarian);

struct Librarian;

/// Bytes of one read, where nothing else is said.
const PIECE: u32 = 1 << 20;

fn text(error: impl Into<Error>) -> String {
    error.into().to_string()
}

fn fill(writer: &Writer, size: u64, piece: u32, byte: u8) -> Result<(), String> {
    let mut left = size;
    while left > 0 {
        let now = left.min(u64::from(piece));
        writer.write(&vec![byte; now as usize]).map_err(text)?;
        left -= now;
    }
    Ok(())
}

impl Guest for Librarian {
    fn put(bytes: Vec<u8>) -> Result<String, String> {
        let digest = put_blob(&bytes).map_err(text)?;
        assert_eq!(get_blob(&digest).map_err(text)?, bytes);
        Ok(digest)
    }

    fn fill(size: u64, piece: u32, byte: u8, declared: Option<u64>) -> Result<String, String> {
        let writer = blobs::put(declared).map_err(text)?;
        self::fill(&writer, size, piece, byte)?;
        let blob = writer.finish().map_err(text)?;
        assert_eq!(blob.length, size);
        Ok(blob.digest)
    }

    fn abandon(size: u32) -> Result<(), String> {
        let writer = blobs::put(None).map_err(text)?;
        self::fill(&writer, size.into(), 1000, 1)
    }

    fn hoard(count: u32, length: u64) -> Result<(), String> {
        let writers: Result<Vec<Writer>, _> = (0..count).map(|_| blobs::put(Some(length))).collect();
        writers.map(drop).map_err(text)
    }

    fn insist(size: u32) -> Vec<String> {
        let writer = blobs::put(None).expect("there is room");
        let first = writer.write(&vec![1; size as usize]).err();
        let then = writer.write(&[1]).err();
        let finished = writer.finish().err();
        let again = writer.finish().err();
        [first, then, finished, again].into_iter().flatten().map(text).collect()
    }

    fn copy(digest: String, start: u64, length: Option<u64>, piece: u32) -> Result<String, String> {
        let reader = blobs::get(&digest, start, length).map_err(text)?;
        assert_eq!(reader.blob().digest, digest);
        let mut bytes = Vec::new();
        while let Some(more) = reader.next(piece).map_err(text)? {
            assert!(!more.is_empty() && more.len() <= piece.max(1) as usize);
            bytes.extend(more);
        }
        assert_eq!(reader.next(piece).map_err(text)?, None);
        put_blob(&bytes).map_err(text)
    }

    fn sum(digest: String) -> Result<(u64, u64), String> {
        let reader = blobs::get(&digest, 0, None).map_err(text)?;
        let (mut count, mut sum) = (0, 0);
        while let Some(more) = reader.next(PIECE).map_err(text)? {
            count += more.len() as u64;
            sum += more.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
        assert_eq!(count, reader.blob().length);
        Ok((count, sum))
    }

    fn find(digest: String) -> Result<Option<u64>, String> {
        blobs::find(&digest).map_err(text)
    }

    fn kept() -> Result<Vec<(String, u64)>, String> {
        let mut all: Vec<(String, u64)> = Vec::new();
        loop {
            let after = all.last().map(|(digest, _)| digest.clone());
            let page = blobs::kept(after.as_deref()).map_err(text)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page.into_iter().map(|blob| (blob.digest, blob.length)));
        }
    }

    fn let_go(digest: String) -> Result<bool, String> {
        blobs::let_go(&digest).map_err(text)
    }

    fn cling(digest: String, size: u64) -> (Result<String, String>, Result<String, String>) {
        let reader = blobs::get(&digest, 0, None).expect("it is here");
        assert!(reader.next(1).expect("it is read").is_some());
        blobs::let_go(&digest).expect("it is kept");
        let held = <Self as Guest>::fill(size, PIECE, 2, None);
        drop(reader);
        (held, <Self as Guest>::fill(size, PIECE, 2, None))
    }

    fn leave(digest: String) -> Result<bool, String> {
        let _reader = blobs::get(&digest, 0, None).map_err(text)?;
        blobs::let_go(&digest).map_err(text)
    }

    fn room() -> Result<(u64, u64), String> {
        blobs::room().map(|usage| (usage.used, usage.most)).map_err(text)
    }
}
