//! A TCP proxy that breaks connections in the ways in which networks do: reset, frozen, deaf in
//! one direction, slow. A connection that was frozen stays so for ever; new ones pass.
#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// What is done to the connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// RST to both ends.
    Reset,
    /// Nothing passes any more, and neither end hears of it.
    Freeze,
    /// What ferry sends gets lost on the way; what the node says arrives.
    StallUp,
    /// What the node says gets lost; what ferry sends arrives.
    StallDown,
}

const PASS: u8 = 0;
const RESET: u8 = 1;
const STOP: u8 = 2;

struct Link {
    near: TcpStream,
    far: TcpStream,
    up: AtomicU8,
    down: AtomicU8,
}

struct Shared {
    target: u16,
    links: Mutex<Vec<Weak<Link>>>,
    /// Bytes per second and direction; 0: as fast as it goes.
    rate: AtomicU64,
    /// Milliseconds that every piece is late.
    late: AtomicU64,
    /// Bytes that still pass towards ferry until every link is reset; 0: off.
    reset_after: AtomicU64,
    /// New connections are reset at once.
    closed: AtomicBool,
    over: AtomicBool,
}

/// The proxy before one port of this machine.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn before(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target,
            links: Mutex::default(),
            rate: AtomicU64::new(0),
            late: AtomicU64::new(0),
            reset_after: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if ours.over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(near) = near {
                    let _ = link(&ours, near);
                }
            }
        });
        Self { port, shared }
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.shared.links.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.links().len()
    }

    /// Breaks the connections that are open; returns how many that were.
    pub fn strike(&self, fault: Fault) -> usize {
        let links = self.links();
        for link in &links {
            let (up, down) = match fault {
                Fault::Reset => (RESET, RESET),
                Fault::Freeze => (STOP, STOP),
                Fault::StallUp => (STOP, PASS),
                Fault::StallDown => (PASS, STOP),
            };
            link.up.fetch_max(up, Ordering::SeqCst);
            link.down.fetch_max(down, Ordering::SeqCst);
        }
        links.len()
    }

    /// Resets everything once so many bytes more have gone towards ferry.
    pub fn reset_after(&self, bytes: u64) {
        self.shared.reset_after.store(bytes.max(1), Ordering::SeqCst);
    }

    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    pub fn delay(&self, milliseconds: u64) {
        self.shared.late.store(milliseconds, Ordering::SeqCst);
    }

    /// Whether new connections are turned away.
    pub fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.strike(Fault::Reset);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn link(shared: &Arc<Shared>, near: TcpStream) -> io::Result<()> {
    // With no linger the last close sends RST instead of FIN.
    if shared.closed.load(Ordering::SeqCst) {
        return socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO));
    }
    let far = TcpStream::connect(("127.0.0.1", shared.target))?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        stream.set_write_timeout(Some(Duration::from_millis(10)))?;
    }
    let link = Arc::new(Link { near, far, up: AtomicU8::new(PASS), down: AtomicU8::new(PASS) });
    {
        let mut links = shared.links.lock().unwrap();
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
    }
    for up in [true, false] {
        let (link, shared) = (Arc::clone(&link), Arc::clone(shared));
        std::thread::spawn(move || {
            let (from, to, state) =
                if up { (&link.near, &link.far, &link.up) } else { (&link.far, &link.near, &link.down) };
            if pump(&shared, from, to, state, up).is_err() {
                link.up.fetch_max(RESET, Ordering::SeqCst);
                link.down.fetch_max(RESET, Ordering::SeqCst);
                for stream in [&link.near, &link.far] {
                    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
            }
        });
    }
    Ok(())
}

/// Carries bytes one way until the end; an error means that both ends get a reset.
fn pump(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream, state: &AtomicU8, up: bool) -> io::Result<()> {
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let idle = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let mut buffer = [0; 16 << 10];
    let check = || match state.load(Ordering::SeqCst) {
        RESET => Err(reset()),
        // Held open and silent, until the proxy itself goes: also when one end has hung up.
        STOP => loop {
            if shared.over.load(Ordering::SeqCst) {
                return Err(reset());
            }
            std::thread::sleep(Duration::from_millis(50));
        },
        _ => Ok(()),
    };
    loop {
        check()?;
        let count = match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if idle(&error) => continue,
            Err(error) => return Err(error),
        };
        check()?;
        let late = shared.late.load(Ordering::SeqCst);
        if late > 0 {
            std::thread::sleep(Duration::from_millis(late));
        }
        let rate = shared.rate.load(Ordering::SeqCst);
        if rate > 0 {
            // Slept in short pieces, so that a fault that comes meanwhile is not late.
            let until = Instant::now() + Duration::from_secs_f64(count as f64 / rate as f64);
            while Instant::now() < until {
                check()?;
                std::thread::sleep((until - Instant::now().min(until)).min(Duration::from_millis(10)));
            }
        }
        if !up {
            let left = shared.reset_after.load(Ordering::SeqCst);
            if left > 0 {
                let then = left.saturating_sub(count as u64);
                shared.reset_after.store(then, Ordering::SeqCst);
                if then == 0 {
                    for link in shared.links.lock().unwrap().iter().filter_map(Weak::upgrade) {
                        link.up.fetch_max(RESET, Ordering::SeqCst);
                        link.down.fetch_max(RESET, Ordering::SeqCst);
                    }
                    return Err(reset());
                }
            }
        }
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            check()?;
            match to.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if idle(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
