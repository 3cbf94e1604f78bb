//! A network between two processes that can be cut, stall, refuse connections, and heal. The tests of `mesh` use this
//! file, too.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Forwards connections to one address, and simulates failures of the network.
pub struct Proxy {
    /// The address it listens on.
    pub address: SocketAddr,
    network: Arc<Network>,
}

struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    mode: Mode,
    /// Whether the port accepts connections.
    listening: bool,
    open: Vec<TcpStream>,
    accepted: usize,
    /// The first `forgotten` connections carry nothing any more.
    forgotten: usize,
    received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Forwarding,
    /// Connections are made and stay open, and no bytes pass.
    Stalled,
    /// Connections are refused.
    Refusing,
}

impl Proxy {
    /// Forwards to `target` from a free port.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (open, received) = (Vec::new(), Vec::new());
        let state =
            State { target, mode: Mode::Forwarding, listening: true, open, accepted: 0, forgotten: 0, received };
        let network = Arc::new(Network { state: Mutex::new(state), changed: Condvar::new() });
        let proxy = Self { address, network: Arc::clone(&network) };
        // The thread ends with the test's process.
        std::thread::spawn(move || network.serve(listener));
        proxy
    }

    /// Closes all connections; new ones are forwarded again.
    pub fn cut(&self) {
        self.network.lock().cut();
    }

    /// Accepts connections, and forwards no bytes, neither on new connections nor on existing ones.
    pub fn stall(&self) {
        self.network.turn(Mode::Stalled);
    }

    /// Never forwards another byte on the existing connections, as a firewall that has lost its state. New ones work.
    pub fn forget(&self) {
        let mut state = self.network.lock();
        state.forgotten = state.accepted;
    }

    /// Closes all connections and refuses new ones.
    pub fn refuse(&self) {
        self.network.turn(Mode::Refusing);
        self.cut();
        // Ends the pending `accept`.
        let _ = TcpStream::connect(self.address);
        self.network.wait(|state| !state.listening);
    }

    /// Forwards everything again, also the bytes that are held back.
    pub fn heal(&self) {
        self.network.turn(Mode::Forwarding);
        self.network.wait(|state| state.listening);
    }

    /// Closes all connections, and forwards new ones to another target.
    pub fn lead_to(&self, target: SocketAddr) {
        let mut state = self.network.lock();
        state.target = target;
        state.cut();
    }

    /// The number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.network.lock().accepted
    }

    /// How often the clients have sent these words.
    pub fn heard(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.network.lock().received).matches(words).count()
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn turn(&self, mode: Mode) {
        self.lock().mode = mode;
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        drop(self.changed.wait_while(self.lock(), |state| !until(state)).expect("no panic"));
    }

    fn serve(self: Arc<Self>, mut listener: TcpListener) {
        let address = listener.local_addr().expect("an address");
        loop {
            while let Ok((client, _)) = listener.accept() {
                if self.lock().mode == Mode::Refusing {
                    break;
                }
                self.connect(client);
            }
            drop(listener);
            self.listens(false);
            self.wait(|state| state.mode != Mode::Refusing);
            listener = TcpListener::bind(address).expect("the port is still free");
            self.listens(true);
        }
    }

    fn listens(&self, listening: bool) {
        self.lock().listening = listening;
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.lock();
        state.accepted += 1;
        // If the target is down, the client's connection closes at once.
        let Ok(server) = TcpStream::connect(state.target) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        state.open.extend([clone(&client), clone(&server)]);
        let number = state.accepted;
        drop(state);
        self.forward(number, clone(&client), clone(&server), true);
        self.forward(number, server, client, false);
    }

    fn forward(self: &Arc<Self>, number: usize, mut from: TcpStream, mut to: TcpStream, record: bool) {
        let network = Arc::clone(self);
        std::thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let mut state = network.lock();
                if record {
                    state.received.extend(&bytes[..length]);
                }
                drop(state);
                network.wait(|state| state.mode != Mode::Stalled && state.forgotten < number);
                if to.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
