//! Requests to a gateway, against hyper alone and against hyper with the same component behind it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use midplane::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Failure;
use super::floors;
use super::mesh::Mesh;
use super::table::{Aim, Row, Spread, in_turns};

/// Requests of one round, over all connections.
const REQUESTS: usize = 320;
/// Connections at a time.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Measures the rows.
pub async fn rows(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let tasks = tokio::task::LocalSet::new();
    tasks.run_until(measure(mesh)).await
}

async fn measure(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let node = *mesh.node(1).http.first().ok_or("n1 does not answer HTTP")?;
    let hyper = floors::http::hyper().await?;
    let wasmtime = floors::http::wasmtime(&floors::component("gateway/hello")?).await?;
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        for (path, floor, what, aim) in [
            ("/hello", hyper, "fresh instance · hyper alone", None),
            ("/hello", wasmtime, "fresh instance · hyper and wasmtime, fresh", Some(1.0)),
            ("/warm", hyper, "kept instance · hyper alone", Some(0.4)),
        ] {
            let ours = Clients::connect(node, path, connections).await?;
            let floor = Clients::connect(floor, path, connections).await?;
            let (ours, floor) =
                in_turns(async || ours.per_second().await, async || floor.per_second().await).await;
            rows.push(Row {
                what: format!("requests, {connections} connections, {what}"),
                unit: "1/s",
                ours: Spread::of(ours),
                floor: Some(Spread::of(floor)),
                aim: aim.map_or(Aim::None, Aim::TimesAtLeast),
            });
        }
    }
    Ok(rows)
}

/// Connections that stay open, and the request that each sends.
struct Clients {
    streams: Vec<Rc<RefCell<Option<TcpStream>>>>,
    request: String,
}

impl Clients {
    async fn connect(address: SocketAddr, path: &str, connections: usize) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            streams.push(Rc::new(RefCell::new(Some(stream))));
        }
        Ok(Self { streams, request: format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n") })
    }

    /// Requests per second, on all connections at a time.
    async fn per_second(&self) -> f64 {
        let each = REQUESTS / self.streams.len();
        let started = clock::monotonic();
        let tasks: Vec<_> = self
            .streams
            .iter()
            .map(|place| {
                let (place, request) = (place.clone(), self.request.clone());
                tokio::task::spawn_local(async move {
                    let mut stream = place.borrow_mut().take().expect("one round at a time");
                    for _ in 0..each {
                        ask(&mut stream, &request).await;
                    }
                    place.replace(Some(stream));
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a client does not panic");
        }
        (each * self.streams.len()) as f64 / started.elapsed().as_secs_f64()
    }
}

/// One request and its whole answer, with a length or in chunks.
async fn ask(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    let (mut bytes, mut have) = ([0; 2_048], 0);
    loop {
        let read = stream.read(&mut bytes[have..]).await.expect("the server answers");
        assert!(read > 0, "the server closed after {:?}", String::from_utf8_lossy(&bytes[..have]));
        have += read;
        let answer = &bytes[..have];
        if answer.ends_with(b"hello, world\n") || answer.ends_with(b"\r\n0\r\n\r\n") {
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(answer));
            return;
        }
    }
}
