//! `copyist`: blobs from streams and into streams.

use midplane_sdk::host::{Error, blobs};
use midplane_sdk::wit_bindgen::{StreamReader, spawn_local};

midplane_sdk::skill!(Copyist);

struct Copyist;

/// Bytes of an item.
const PIECE: u32 = 64 << 10;

fn text(error: impl Into<Error>) -> String {
    error.into().to_string()
}

impl Guest for Copyist {
    async fn take(mut pieces: StreamReader<Vec<u8>>) -> Result<String, String> {
        let writer = blobs::put(None).map_err(text)?;
        while let Some(piece) = pieces.next().await {
            writer.write(&piece).map_err(text)?;
        }
        Ok(writer.finish().map_err(text)?.digest)
    }

    async fn give(digest: String) -> Result<StreamReader<Vec<u8>>, String> {
        let reader = blobs::get(&digest, 0, None).map_err(text)?;
        let (mut writer, given) = wit_stream::new();
        spawn_local(async move {
            while let Ok(Some(piece)) = reader.next(PIECE) {
                if writer.write_one(piece).await.is_some() {
                    return;
                }
            }
        });
        Ok(given)
    }
}
