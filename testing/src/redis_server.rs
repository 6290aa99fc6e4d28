//! A real redis-server for one test: on a port of its own, to be paused, killed and restarted,
//! empty or with its persisted data.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest that a server may take to start, or to notice a signal.
const PATIENCE: Duration = Duration::from_secs(10);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(2);

/// What a server writes to its folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Persistence {
    #[default]
    None,
    /// An append-only file, synced to the disk every second.
    EverySecond,
    /// An append-only file, synced to the disk before each answer.
    Always,
}

impl Persistence {
    /// The options of redis-server.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::None => &["--appendonly", "no"],
            Self::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        }
    }
}

/// The server. Killed when dropped, and its folder is deleted.
pub struct RedisServer {
    process: Child,
    address: SocketAddr,
    options: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server. `None`, with a message, if redis-server is not installed: then the test
    /// cannot run. Under `CI` that is a failure, since nobody reads the output of a green run.
    pub fn start() -> Option<Self> {
        Self::start_with(Persistence::None, &[])
    }

    /// The same with a persistence and with further options, as on the command line:
    /// `["--maxmemory", "2mb"]`.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must know what was not tested")]
    pub fn start_with(persistence: Persistence, options: &[&str]) -> Option<Self> {
        if is_installed() {
            let options = persistence.options().iter().chain(options).map(|&option| option.to_owned());
            return Some(Self::start_somewhere(options.collect()));
        }
        assert!(std::env::var_os("CI").is_none(), "redis-server is not installed, and CI tests with it");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("NOT TESTED: {test} needs redis-server, which is not installed");
        None
    }

    /// The value of `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Stops its process (SIGSTOP): connections stay, and the kernel still takes new ones, but
    /// nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
        self.wait_for(|state| state.starts_with('T'));
    }

    /// Continues its process.
    pub fn resume(&self) {
        self.signal("-CONT");
        self.wait_for(|state| !state.starts_with('T'));
    }

    /// Kills it (SIGKILL). Its port is closed, and everything that is not persisted is gone.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with its persisted data, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.address, &self.options, self.folder.path());
        assert!(answers(&mut self.process, self.address), "redis-server does not start again");
    }

    fn start_somewhere(options: Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // Another process may take the port before the server does: then another one is chosen.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let mut process = spawn(free, &options, folder.path());
            if answers(&mut process, free) {
                return Self { process, address: free, options, folder };
            }
            process.kill().unwrap();
            process.wait().unwrap();
        }
        panic!("redis-server does not start")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Waits until the process is in the state (as shown by `ps`): a signal is asynchronous.
    fn wait_for(&self, reached: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let pid = self.process.id().to_string();
            let told = Command::new("ps").args(["-o", "state=", "-p", &pid]).output().unwrap();
            if reached(String::from_utf8_lossy(&told.stdout).trim()) {
                return;
            }
            pause();
        }
        panic!("the signal had no effect")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // A test may have killed it already; a paused process dies as well.
        let ended: std::io::Result<ExitStatus> = self.process.kill().and_then(|()| self.process.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "redis-server does not end");
    }
}

fn is_installed() -> bool {
    Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok()
}

fn spawn(address: SocketAddr, more: &[String], folder: &Path) -> Child {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let options = ["--bind", &ip, "--port", &port, "--save", "", "--daemonize", "no"];
    let mut server = Command::new("redis-server");
    server.args(options).args(more).arg("--dir").arg(folder);
    server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until it answers. `false` if it ended instead.
fn answers(process: &mut Child, address: SocketAddr) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if ping(address).is_ok_and(|answer| answer == *b"+PONG") {
            return true;
        }
        pause();
    }
    false
}

fn ping(address: SocketAddr) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[expect(clippy::disallowed_methods, reason = "a test's own thread waits for another process")]
fn pause() {
    std::thread::sleep(LOOK);
}
