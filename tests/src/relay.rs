//! A wire that can be cut: passes datagrams on between a dialler and an address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Largest UDP payload.
const DATAGRAM: usize = 65_536;
/// How soon a relay notices that it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A relay for one dialler. Dropping it is the cut.
pub struct Relay {
    /// Where to dial.
    pub address: SocketAddr,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Passes on what comes to `address`, and back what the target says.
    pub fn to(target: SocketAddr) -> Self {
        let bind = || {
            let socket = UdpSocket::bind((target.ip(), 0)).expect("a free port");
            socket.set_read_timeout(Some(LOOK)).expect("a time");
            Arc::new(socket)
        };
        let (front, back) = (bind(), bind());
        let address = front.local_addr().expect("it is bound");
        back.connect(target).expect("a loopback address");
        let dialler = Arc::new(std::sync::Mutex::new(None));
        let ending = Arc::new(AtomicBool::new(false));
        let forth = {
            let (front, back, dialler, ending) =
                (front.clone(), back.clone(), dialler.clone(), ending.clone());
            std::thread::spawn(move || {
                let mut datagram = vec![0; DATAGRAM];
                while !ending.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = front.recv_from(&mut datagram) {
                        *dialler.lock().unwrap() = Some(from);
                        let _ = back.send(&datagram[..length]);
                    }
                }
            })
        };
        let until = ending.clone();
        let back = std::thread::spawn(move || {
            let mut datagram = vec![0; DATAGRAM];
            while !until.load(Ordering::Relaxed) {
                if let (Ok(length), Some(to)) = (back.recv(&mut datagram), *dialler.lock().unwrap()) {
                    let _ = front.send_to(&datagram[..length], to);
                }
            }
        });
        Self { address, ending, threads: vec![forth, back] }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
