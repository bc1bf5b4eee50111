//! `wasi:keyvalue`: what a slot keeps on its node. Needs the grant `keyvalue`.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, Resource};

use crate::store::keyvalue;
use crate::store::state::Store;
use crate::wasm::guest::{Ended, Guest, Plugin};
use crate::words::Outcome;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/keyvalue.wit",
        world: "wasi:keyvalue/imports",
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        imports: { default: async | trappable },
    });
}

use bindings::wasi::keyvalue::{atomics, batch, store};

/// A bucket that the guest has opened; the grant was checked then.
pub struct Bucket {
    plugin: Arc<Plugin>,
    store: Arc<Store>,
    name: Arc<str>,
}

/// What looking for a key costs beside its bytes, so that a million empty ones are not free: the threads that look do not see deadlines.
const KEY_BYTES: usize = 64;

type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

/// Links the interfaces.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    atomics::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)?;
    batch::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)
}

impl Guest {
    /// Counts keys before anybody looks for them.
    fn spend_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a String>) -> Result<(), Ended> {
        self.spend_bytes(keys.into_iter().map(|key| key.len() + KEY_BYTES).sum())
    }

    /// Works on the bucket away from the threads that run guests: each change waits for the disk.
    async fn on_bucket<T: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        work: impl FnOnce(keyvalue::Bucket<'_>) -> Outcome<T> + Send + 'static,
    ) -> Answer<T> {
        let Bucket { plugin, store, name } = self.table.get(bucket)?;
        let (plugin, store, name) = (plugin.clone(), store.clone(), name.clone());
        let done = tokio::task::spawn_blocking(move || {
            work(keyvalue::Bucket { store: &store, slot: &plugin.slot, name: &name })
        });
        let outcome = done.await.map_err(|_| wasmtime::Error::msg("the host panicked in this call"))?;
        Ok(outcome.map_err(|fault| store::Error::Other(fault.to_string())))
    }
}

impl store::Host for Guest {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if !self.plugin.grants.keyvalue.contains(&identifier) {
            return Ok(Err(store::Error::AccessDenied));
        }
        let Some(store) = self.plugin.given.store.clone() else {
            return Ok(Err(store::Error::NoSuchStore));
        };
        let bucket = Bucket { plugin: self.plugin.clone(), store, name: identifier.into() };
        Ok(Ok(self.table.push(bucket)?))
    }
}

impl store::HostBucket for Guest {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        self.spend_keys([&key])?;
        let left = self.bytes_left();
        let values = self.on_bucket(&bucket, move |bucket| bucket.get(&[key], left)).await?;
        let value = values.map(|values| values.into_iter().next().flatten());
        self.spend_bytes(value.as_ref().ok().and_then(Option::as_ref).map_or(0, Vec::len))?;
        Ok(value)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        self.spend_bytes(value.len())?;
        self.spend_keys([&key])?;
        self.on_bucket(&bucket, move |bucket| bucket.set(&[(key, value)])).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        self.spend_keys([&key])?;
        self.on_bucket(&bucket, move |bucket| bucket.delete(&[key])).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        self.spend_keys([&key])?;
        let values = self.on_bucket(&bucket, move |bucket| bucket.get(&[key], 0)).await?;
        Ok(values.map(|values| values.iter().any(Option::is_some)))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Answer<store::KeyResponse> {
        let page = self.on_bucket(&bucket, move |bucket| bucket.keys(cursor.unwrap_or(0))).await?;
        if let Ok((keys, _)) = &page {
            self.spend_bytes(keys.iter().map(String::len).sum())?;
        }
        Ok(page.map(|(keys, cursor)| store::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Guest {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        self.spend_keys([&key])?;
        self.on_bucket(&bucket, move |bucket| bucket.increment(&key, delta)).await
    }
}

impl batch::Host for Guest {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        self.spend_keys(&keys)?;
        let (asked, left) = (keys.clone(), self.bytes_left());
        let values = self.on_bucket(&bucket, move |bucket| bucket.get(&asked, left)).await?;
        if let Ok(values) = &values {
            self.spend_bytes(values.iter().flatten().map(Vec::len).sum())?;
        }
        Ok(values.map(|values| {
            keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect()
        }))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Answer<()> {
        self.spend_bytes(entries.iter().map(|(_, value)| value.len()).sum())?;
        self.spend_keys(entries.iter().map(|(key, _)| key))?;
        self.on_bucket(&bucket, move |bucket| bucket.set(&entries)).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        self.spend_keys(&keys)?;
        self.on_bucket(&bucket, move |bucket| bucket.delete(&keys)).await
    }
}
