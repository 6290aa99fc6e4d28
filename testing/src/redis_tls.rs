//! A redis-server with TLS only, with a certificate of an authority that is created for one test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server. Killed when dropped; its certificates are deleted.
pub struct TlsServer {
    process: Child,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl TlsServer {
    /// Starts a server on a free port. redis-server is installed: the caller has started one.
    pub async fn start() -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let folder =
            std::env::temp_dir().join(format!("sojourn-tls-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir(&folder).unwrap();
        let process = serve(&folder, address);
        let server = Self { process, address, folder };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not start with TLS");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait()).map(drop);
        let deleted = std::fs::remove_dir_all(&self.folder);
        assert!(ended.and(deleted).is_ok() || std::thread::panicking(), "the server does not end");
    }
}

fn serve(folder: &Path, address: SocketAddr) -> Child {
    openssl(folder, &["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=an authority of one test"]);
    let leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem"];
    let names = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"];
    let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(folder, &[leaf.as_slice(), &names, &no_authority].concat());
    let port = address.port().to_string();
    let options = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
    let files =
        ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem"];
    let mut server = Command::new("redis-server");
    server.args(options).args(files).args(["--save", "", "--appendonly", "no"]).current_dir(folder);
    server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Makes a key and a certificate for it.
fn openssl(folder: &Path, what: &[&str]) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let mut request = Command::new("openssl");
    request.args(["req", "-x509", "-days", "1"]).args(key).args(what).current_dir(folder);
    let made = request.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(made.is_ok_and(|status| status.success()), "openssl makes no certificate");
}
