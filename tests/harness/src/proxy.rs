//! A network between two processes that can be cut, stand still, refuse, and heal. The kit's own tests use this file, too.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Forwards connections to one address, as long as nothing is wrong with it.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    network: Arc<Network>,
}

struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    weather: Weather,
    /// Whether somebody can connect.
    listening: bool,
    open: Vec<TcpStream>,
    accepted: usize,
    /// So many of them carry nothing any more.
    forgotten: usize,
    said: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Weather {
    Fair,
    /// Connections are made and stay, and nothing passes.
    Still,
    /// There are no connections.
    Refusing,
}

impl Proxy {
    /// Forwards to `target` from a free port.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (open, said) = (Vec::new(), Vec::new());
        let state = State { target, weather: Weather::Fair, listening: true, open, accepted: 0, forgotten: 0, said };
        let network = Arc::new(Network { state: Mutex::new(state), changed: Condvar::new() });
        let proxy = Self { address, network: Arc::clone(&network) };
        // Ends with the test's process.
        std::thread::spawn(move || network.serve(listener));
        proxy
    }

    /// Ends all connections; new ones are forwarded again.
    pub fn cut(&self) {
        self.network.lock().cut();
    }

    /// Makes connections, and lets nothing through, neither on new ones nor on those there are.
    pub fn stall(&self) {
        self.network.turn(Weather::Still);
    }

    /// Lets nothing through for ever on the connections there are, as a firewall does that has lost its memory.
    pub fn forget(&self) {
        let mut state = self.network.lock();
        state.forgotten = state.accepted;
    }

    /// Ends all connections, and refuses new ones.
    pub fn refuse(&self) {
        self.network.turn(Weather::Refusing);
        self.cut();
        // Wakes who waits for a connection.
        let _ = TcpStream::connect(self.address);
        self.network.wait(|state| !state.listening);
    }

    /// Lets everything through, also what has waited.
    pub fn heal(&self) {
        self.network.turn(Weather::Fair);
        self.network.wait(|state| state.listening);
    }

    /// Leads elsewhere from now on, for those who connect anew; and they have to.
    pub fn lead_to(&self, target: SocketAddr) {
        let mut state = self.network.lock();
        state.target = target;
        state.cut();
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.network.lock().accepted
    }

    /// How often those who connected have said these words.
    pub fn heard(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.network.lock().said).matches(words).count()
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

    fn turn(&self, weather: Weather) {
        self.lock().weather = weather;
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        drop(self.changed.wait_while(self.lock(), |state| !until(state)).expect("no panic"));
    }

    fn serve(self: Arc<Self>, mut listener: TcpListener) {
        let address = listener.local_addr().expect("an address");
        loop {
            while let Ok((client, _)) = listener.accept() {
                if self.lock().weather == Weather::Refusing {
                    break;
                }
                self.connect(client);
            }
            drop(listener);
            self.listens(false);
            self.wait(|state| state.weather != Weather::Refusing);
            listener = TcpListener::bind(address).expect("nobody else takes it");
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
        // A target that is away is a connection that ends at once.
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
                    state.said.extend(&bytes[..length]);
                }
                drop(state);
                network.wait(|state| state.weather != Weather::Still && state.forgotten < number);
                if to.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
