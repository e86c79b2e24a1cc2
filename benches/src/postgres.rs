//! A PostgreSQL cluster of its own in a temporary directory, to measure against.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ingest::BoxError;

/// Where Debian puts the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The server does not run as root; Debian makes this user for it.
const USER: &str = "postgres";

/// A running cluster; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: tempfile::TempDir,
    postmaster: u32,
}

impl Postgres {
    /// Whether it is installed here.
    #[must_use]
    pub fn is_installed() -> bool {
        Path::new(PROGRAMS).join("initdb").exists()
    }

    /// Makes a cluster in `parent` and starts it with the settings of a server that loads much: durable, with room for
    /// its log.
    ///
    /// # Errors
    /// When one of its programs fails.
    pub fn start(parent: &Path) -> Result<Postgres, BoxError> {
        let dir = tempfile::tempdir_in(parent)?;
        run(Command::new("chown").arg(USER).arg(dir.path()))?;
        let data = dir.path().join("data");
        let arguments = ["--no-locale", "--encoding=UTF8", "--auth=trust", "-D"];
        run(as_server("initdb").args(arguments).arg(&data))?;
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c synchronous_commit=on -c fsync=on \
             -c shared_buffers=512MB -c max_wal_size=8GB -c wal_compression=off -c checkpoint_timeout=30min \
             -c autovacuum=off",
            dir.path().display()
        );
        let log = dir.path().join("log");
        run(as_server("pg_ctl")
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(log)
            .args(["-o", &options]))?;
        let pid = std::fs::read_to_string(data.join("postmaster.pid"))?;
        let postmaster = pid.lines().next().unwrap_or_default().trim().parse()?;
        Ok(Postgres { dir, postmaster })
    }

    /// Directory of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Runs a statement and gives what it answers, as text without a head.
    ///
    /// # Errors
    /// When it fails.
    pub fn query(&self, statement: &str) -> Result<String, BoxError> {
        let output = self.psql(statement).stdout(Stdio::piped()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a `COPY … FROM STDIN` on these bytes.
    ///
    /// # Errors
    /// When it fails.
    pub fn copy(&self, statement: &str, bytes: &[u8]) -> Result<(), BoxError> {
        let mut child = self.psql(statement).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().ok_or("psql has no input")?.write_all(bytes)?;
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("psql: {status}").into()) }
    }

    /// CPU time of the server and all that it started, ns. What a connection took counts once it is closed.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        let own = crate::process::cpu_with_reaped(self.postmaster);
        let children = crate::process::children(self.postmaster);
        own + children.into_iter().map(crate::process::cpu_with_reaped).sum::<f64>()
    }

    fn psql(&self, statement: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", "postgres", "-h"]);
        command.arg(self.dir.path()).args(["-c", statement]).stderr(Stdio::piped());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        // What is left of it goes with its directory.
        let _ = run(as_server("pg_ctl").args(["stop", "-m", "immediate", "-w", "-D"]).arg(data));
    }
}

fn as_server(program: &str) -> Command {
    let program = Path::new(PROGRAMS).join(program);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
    command
}

fn run(command: &mut Command) -> Result<(), BoxError> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
