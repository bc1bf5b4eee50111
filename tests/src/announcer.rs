//! A member of the mesh that announces manifests, and gives whatever it likes when it is asked for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use midplane::net::{FrameReader, FrameWriter};
use midplane::store::directory::Directory;
use midplane::store::keys;
use midplane::store::trust::TrustFiles;
use midplane::words::envelope::exchange_of;
use midplane::words::frame::Exchange;
use midplane::words::hello::{Announced, GREETING_MAX, Greeting, Welcome};
use midplane::words::{Code, Fault};

use crate::forge::{self, Unadmitted};
use crate::node::Node;

/// A link under the identity of a node that does not run. Dropping it ends it.
pub struct Announcer {
    greeted: Unadmitted,
    asked: Arc<AtomicUsize>,
    runtime: tokio::runtime::Runtime,
}

impl Announcer {
    /// Dials `to` as `member`, which announces nothing yet, and answers with these bytes whoever asks for a manifest.
    pub fn start(member: &Node, to: &Node, bytes: Vec<u8>) -> Self {
        let directory = Directory::new(member.directory());
        let key = keys::load(&directory.node_key()).expect("the member's key");
        let trust = TrustFiles::new(directory, &key).load().expect("the member's trust files");
        let membership = trust.membership.map(|signed| signed.into_vec());
        let from = SocketAddr::new(member.address().ip(), 0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mesh = forge::mesh_id(to);
        let greeted = runtime
            .block_on(forge::greeted(&key, membership, from, to.address(), mesh, 7))
            .expect("it is greeted");
        assert!(matches!(greeted.told, Greeting::Welcome(_)), "{:?}", greeted.told);
        let asked = Arc::new(AtomicUsize::new(0));
        runtime.spawn(serve(greeted.connection.clone(), Arc::new(bytes), asked.clone()));
        let mut announcer = Self { greeted, asked, runtime };
        announcer.say(Greeting::Welcome(welcome(None)));
        announcer
    }

    /// Announces a manifest.
    pub fn announce(&mut self, announced: Announced) {
        self.say(Greeting::Changed(welcome(Some(announced))));
    }

    /// How often it was asked for a manifest.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn say(&mut self, greeting: Greeting) {
        self.runtime.block_on(self.greeted.say(&greeting)).expect("it is said");
    }
}

fn welcome(newest: Option<Announced>) -> Welcome {
    Welcome {
        label: "announcer".to_owned(),
        tags: Vec::new(),
        slots: Vec::new(),
        generation: 0,
        manifest: 0,
        root: 1,
        newest,
        version: String::new(),
        observed: String::new(),
    }
}

async fn serve(connection: quinn::Connection, bytes: Arc<Vec<u8>>, asked: Arc<AtomicUsize>) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        let (mut reader, mut writer) = (FrameReader::new(recv, GREETING_MAX), FrameWriter::new(send));
        let (bytes, asked) = (bytes.clone(), asked.clone());
        tokio::spawn(async move {
            let open = reader.open().await?;
            if exchange_of(&open)? == Exchange::Manifest {
                asked.fetch_add(1, Ordering::Relaxed);
                return writer.last(&bytes).await;
            }
            writer.fail(&Fault::new(Code::BlobMissing, "it has nothing else")).await
        });
    }
}
