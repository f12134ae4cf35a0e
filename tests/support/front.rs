//! Stands between the API server and the gate's replicas, like a Service: one address, and any number of backends. On
//! demand it is down, slow or garbled, which no real Service can be.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It is passed to the next backend that accepts it.
    Open,
    /// It is closed at once.
    Down,
    /// It is passed to a backend, but nothing comes back before this time.
    Slow(Duration),
    /// It is answered with something that is not TLS.
    Noise,
}

#[derive(Debug)]
struct Shared {
    mode: Mode,
    backends: Vec<SocketAddr>,
    next: usize,
    open: Vec<TcpStream>,
}

/// One address in front of several backends.
#[derive(Debug)]
pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Front {
    pub fn start(backends: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let backends = backends.iter().map(|backend| backend.parse().unwrap()).collect();
        let shared = Shared { mode: Mode::Open, backends, next: 0, open: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let common = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let common = Arc::clone(&common);
                thread::spawn(move || lead(stream, &common));
            }
        });
        Self { address, shared }
    }

    /// Changes the mode, and closes open connections, since the API server reuses one for all its requests.
    pub fn set(&self, mode: Mode) {
        let mut shared = self.shared.lock().unwrap();
        shared.mode = mode;
        for stream in shared.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Passes new connections to other backends; open ones stay.
    pub fn lead_to(&self, backends: &[SocketAddr]) {
        self.shared.lock().unwrap().backends = backends.to_vec();
    }
}

fn lead(mut client: TcpStream, shared: &Arc<Mutex<Shared>>) -> Option<()> {
    let mode = shared.lock().unwrap().mode.clone();
    match mode {
        Mode::Down => return None,
        Mode::Noise => {
            let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            return None;
        }
        Mode::Open | Mode::Slow(_) => {}
    }
    let backend = connect(shared)?;
    {
        let mut shared = shared.lock().unwrap();
        // The mode may have changed while a backend was being selected.
        if shared.mode != mode {
            return None;
        }
        shared.open.extend([client.try_clone().ok()?, backend.try_clone().ok()?]);
    }
    let delay = if let Mode::Slow(delay) = mode { delay } else { Duration::ZERO };
    let (from_client, to_backend) = (client.try_clone().ok()?, backend.try_clone().ok()?);
    thread::spawn(move || carry(from_client, to_backend, Duration::ZERO));
    carry(backend, client, delay);
    Some(())
}

/// The next backend that accepts a connection, as a Service leaves out the ones that are gone.
fn connect(shared: &Arc<Mutex<Shared>>) -> Option<TcpStream> {
    let (backends, first) = {
        let mut shared = shared.lock().unwrap();
        shared.next += 1;
        (shared.backends.clone(), shared.next)
    };
    let turn = backends.iter().cycle().skip(first % backends.len()).take(backends.len());
    turn.copied().find_map(|backend| TcpStream::connect_timeout(&backend, Duration::from_secs(2)).ok())
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let _ = to.set_nodelay(true);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // The way to the backend is this long.
        thread::sleep(delay);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
