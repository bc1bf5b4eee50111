//! Requests on connections that stay.

use midplane::clock;
use midplane::words::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::callers::{Said, Way};
use super::ledger::Place;
use super::stamps;
use super::versions::{GATEWAY, MOUNT};

/// More than an answer has.
const ANSWER_MAX: usize = 2_048;

/// A connection to the gateway of a node.
pub struct Client {
    stream: Option<TcpStream>,
    request: String,
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(way: &Way) -> Self {
        let address = way.load.nodes[way.server].http[0];
        let request = format!("GET {MOUNT} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        Self { stream: None, request }
    }

    /// Makes a request and judges the answer.
    pub async fn ask(&mut self, way: &Way) {
        let start = clock::monotonic();
        let answer = self.answer(way).await;
        let end = clock::monotonic();
        match answer {
            Ok(said) => {
                let place = Place { node: way.server, slot: GATEWAY };
                way.load.judge(way.kind, place, said, start, end);
            }
            Err(why) => {
                self.stream = None;
                way.failed(|| why);
            }
        }
    }

    async fn answer(&mut self, way: &Way) -> Result<Said, String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let address = way.load.nodes[way.server].http[0];
                let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                none.insert(stream)
            }
        };
        stream.write_all(self.request.as_bytes()).await.map_err(|error| error.to_string())?;
        let (mut bytes, mut have) = ([0; ANSWER_MAX], 0);
        loop {
            let read = stream.read(&mut bytes[have..]).await.map_err(|error| error.to_string())?;
            have += read;
            let text = String::from_utf8_lossy(&bytes[..have]).to_ascii_lowercase();
            if read == 0 {
                return Err(format!("closed after {text:?}"));
            }
            if let Some(answer) = Answer::of(&text) {
                return answer.said();
            }
        }
    }
}

/// A whole answer.
struct Answer<'a> {
    head: &'a str,
    body: &'a str,
}

impl<'a> Answer<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let answer = Self { head, body };
        let length: usize = answer.field("content-length")?.parse().ok()?;
        (body.len() >= length).then_some(answer)
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    fn said(&self) -> Result<Said, String> {
        if !self.head.starts_with("http/1.1 200 ") {
            return Err(format!("{} {}", self.head, self.body));
        }
        let digest = self.field("midplane-served-by").and_then(|digest| digest.parse::<Digest>().ok());
        Ok(Said { digest, stamp: stamps::number(self.body.as_bytes()) })
    }
}
