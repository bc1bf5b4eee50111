//! WASI 0.2 and 0.3: always linked, and empty. No variable, no argument, no socket, and no directory but those that manifest and
//! node both allow; standard output and standard error are lines in the node's log. Components of other toolchains import all
//! of it even for a pure function.

use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use crate::log::{LINE_MAX, Level};
use crate::wasm::engine::Kind;
use crate::wasm::guest::{GivenDir, Guest, LastLines, Plugin};

/// Bytes of one request for randomness.
const RANDOM_MAX: u64 = 64 << 10;
/// Bytes that a guest may write to its standard streams at once.
const WRITE_MAX: usize = 64 << 10;

/// Links the interfaces of WASI that an engine can have.
pub fn add_to_linker(linker: &mut Linker<Guest>, kind: Kind) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    if kind == Kind::Concurrent {
        wasmtime_wasi::p3::add_to_linker(linker)?;
    }
    Ok(())
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (plugin, last_lines) = (&self.plugin, &self.last_lines);
        let ctx = self.wasi.get_or_insert_with(|| context(plugin, last_lines));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

fn context(plugin: &Arc<Plugin>, last_lines: &LastLines) -> WasiCtx {
    let lines = |level| Lines {
        plugin: plugin.clone(),
        last_lines: last_lines.clone(),
        level,
        partial: Arc::default(),
    };
    let mut context = WasiCtx::builder();
    for GivenDir { grant, dir } in &plugin.given.dirs {
        let rights = if grant.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        // The directory that is held, by the one name that it keeps.
        let held = format!("/proc/self/fd/{}", dir.as_raw_fd());
        if let Err(error) = context.preopened_dir(held, &grant.seen, rights) {
            let path = &grant.path;
            plugin.log.plugin(&plugin.slot, Level::Warn, &format!("{path} cannot be opened: {error:#}"));
        }
    }
    context
        .stdout(lines(Level::Info))
        .stderr(lines(Level::Warn))
        .max_random_size(RANDOM_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// A standard stream that becomes lines in the log.
#[derive(Clone)]
struct Lines {
    plugin: Arc<Plugin>,
    last_lines: LastLines,
    level: Level,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= LINE_MAX {
                let line = String::from_utf8_lossy(&partial).trim_end().to_owned();
                partial.clear();
                if !line.is_empty() {
                    self.last_lines.push(&line);
                    self.plugin.log.plugin(&self.plugin.slot, self.level, &line);
                }
            }
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Who does not ask first has its lines taken apart on a thread that others wait for.
        if bytes.len() > WRITE_MAX {
            return Err(StreamError::trap("more than `check-write` allows"));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let bytes = bytes.get(..WRITE_MAX).unwrap_or(bytes);
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
