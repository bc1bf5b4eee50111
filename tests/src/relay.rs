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
    cut: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Passes on what comes to `address`, and back what the target says.
    pub fn to(target: SocketAddr) -> Self {
        Self::for_bytes(target, usize::MAX)
    }

    /// The same, but after so many bytes from the target the wire is cut.
    pub fn for_bytes(target: SocketAddr, most: usize) -> Self {
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
        let cut = Arc::new(AtomicBool::new(false));
        let forth = {
            let (front, back, dialler) = (front.clone(), back.clone(), dialler.clone());
            let (ending, cut) = (ending.clone(), cut.clone());
            std::thread::spawn(move || {
                let mut datagram = vec![0; DATAGRAM];
                while !ending.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = front.recv_from(&mut datagram)
                        && !cut.load(Ordering::Relaxed)
                    {
                        *dialler.lock().unwrap() = Some(from);
                        let _ = back.send(&datagram[..length]);
                    }
                }
            })
        };
        let (until, gap) = (ending.clone(), cut.clone());
        let back = std::thread::spawn(move || {
            let (mut datagram, mut passed) = (vec![0; DATAGRAM], 0);
            while !until.load(Ordering::Relaxed) {
                if let (Ok(length), Some(to)) = (back.recv(&mut datagram), *dialler.lock().unwrap())
                    && !gap.load(Ordering::Relaxed)
                {
                    passed += length;
                    if passed <= most {
                        let _ = front.send_to(&datagram[..length], to);
                    }
                }
            }
        });
        Self { address, ending, cut, threads: vec![forth, back] }
    }

    /// Loses everything from now on.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Loses everything for a time, then passes on again: how long a cut lasts is all that there is to it.
    pub fn lose_for(&self, time: Duration) {
        self.cut();
        std::thread::sleep(time);
        self.heal();
    }

    /// Passes on again.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
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
