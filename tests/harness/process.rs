//! The binary as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{shared_deadline, wait_for};

/// Among arguments of `urja serve`: a free port of the address that this one has for itself.
const ANY_PORT: &str = "127.0.0.1:0";

const BINARY: &str = env!("CARGO_BIN_EXE_urja");

/// Time stands still unless a test moves it: no day is closed behind its back.
const DRIVEN: (&str, &str) = ("URJA_TIME__CLOCK", "driven");

/// Runs one command to its end, under a driven clock.
pub fn urja(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("--data").arg(data).args(args).env(DRIVEN.0, DRIVEN.1).stdin(Stdio::null()).output().unwrap()
}

/// Starts one command under a driven clock; what it says is lost.
pub fn urja_begun(data: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.arg("--data").arg(data).args(args).env(DRIVEN.0, DRIVEN.1).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs one command with `--json`, which must succeed.
pub fn urja_ok(data: &Path, args: &[&str]) -> Value {
    let out = urja(data, &[&["--json"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// Runs one command, which must succeed, and writes what it prints into a file.
pub fn urja_into(data: &Path, args: &[&str], file: &Path) {
    let mut command = Command::new(BINARY);
    command.arg("--data").arg(data).args(args).env(DRIVEN.0, DRIVEN.1).stdin(Stdio::null());
    let out = command.stdout(std::fs::File::create(file).unwrap()).stderr(Stdio::piped()).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// `urja serve` on free ports of an address of its own.
pub struct Served {
    child: Child,
    /// The data directory.
    pub data: PathBuf,
    /// The `ready` line.
    pub ready: Value,
    log: PathBuf,
    /// Length of the log when it was started.
    logged: u64,
    /// Stops it at a system call.
    tracer: Option<Child>,
}

impl Served {
    /// Starts it with a driven clock and waits until it is ready.
    pub fn start(data: &Path, args: &[&str]) -> Served {
        Served::start_with(data, args, &[DRIVEN])
    }

    /// Starts it again after its end, at the meters' same addresses.
    pub fn again(data: &Path, args: &[&str], tcp: SocketAddr, udp: SocketAddr) -> Served {
        let (tcp, udp) = (tcp.to_string(), udp.to_string());
        let args = [args, &["--tcp", &tcp, "--udp", &udp]].concat();
        Served::start(data, &args)
    }

    /// Starts it with these variables and waits until it is ready.
    pub fn start_with(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Served {
        let mut served = Served::launch(data, args, env, &data.with_extension("log"));
        served.wait_ready();
        served
    }

    /// Starts it with a driven clock and waits for nothing; `log` may lie elsewhere than the data.
    pub fn begin(data: &Path, args: &[&str], log: &Path) -> Served {
        Served::launch(data, args, &[DRIVEN], log)
    }

    fn launch(data: &Path, args: &[&str], env: &[(&str, &str)], log: &Path) -> Served {
        let (child, logged) = spawn(data, args, env, log);
        let (data, log) = (data.to_owned(), log.to_owned());
        Served { child, data, ready: Value::Null, log, logged, tracer: None }
    }

    /// Waits until it is ready.
    pub fn wait_ready(&mut self) {
        assert!(self.try_ready(), "not ready");
    }

    /// Waits until it is ready or has ended; says whether it is ready.
    pub fn try_ready(&mut self) -> bool {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.ready = serde_json::from_str(&line).unwrap_or_default();
        !self.ready.is_null()
    }

    /// Starts it and kills it with -9 at that moment, ready or not; gives what it logged.
    pub fn start_and_kill(data: &Path, args: &[&str], moment: Duration) -> String {
        let log = data.with_extension("log");
        let (mut child, logged) = spawn(data, args, &[DRIVEN], &log);
        shared_deadline(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let log = std::fs::read(&log).unwrap_or_default();
        String::from_utf8_lossy(log.get(logged as usize..).unwrap_or_default()).into_owned()
    }

    /// Address of a door: `tcp`, `udp`, `http` or `health`.
    pub fn address(&self, door: &str) -> SocketAddr {
        self.ready[door].as_str().unwrap_or_else(|| panic!("no {door}")).parse().unwrap()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has logged since this start.
    pub fn log_of_this_start(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.logged as usize..).unwrap_or_default()).into_owned()
    }

    /// Rows of a statement, asked of the running process as `urja sql` does.
    pub fn sql(&self, statement: &str) -> Vec<Value> {
        urja_ok(&self.data, &["sql", statement]).as_array().cloned().unwrap_or_default()
    }

    /// The one number of a statement's one row.
    pub fn number(&self, statement: &str) -> i64 {
        let rows = self.sql(statement);
        let row = rows.first().and_then(Value::as_object).unwrap_or_else(|| panic!("no row: {statement}"));
        row.values().next().and_then(Value::as_i64).unwrap_or_else(|| panic!("no number in {row:?}"))
    }

    /// Waits until a statement's one number is this.
    pub fn wait_number(&self, statement: &str, expected: i64) {
        wait_for(&format!("{statement} = {expected}"), || (self.number(statement) == expected).then_some(()));
    }

    /// GET over plain HTTP: status and body.
    pub fn get(&self, door: &str, path: &str) -> (u16, String) {
        http(self.address(door), &format!("GET {path} HTTP/1.1\r\nhost: urja\r\nconnection: close\r\n\r\n"))
    }

    /// Commits the lake and publishes a checkpoint now.
    pub fn checkpoint(&self) {
        let mut stream = UnixStream::connect(self.data.join("admin.sock")).unwrap();
        let request =
            "POST /admin/checkpoint HTTP/1.1\r\nhost: urja\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "checkpoint: {answer}");
    }

    /// Highest resident memory so far, bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Stops every thread of it where it is, and waits until they stand.
    pub fn freeze(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
        wait_for("all threads stand still", || self.stands().then_some(()));
    }

    /// Stops every thread of it at the `count`-th call of a sync from now on, which never gets to the disk. Says
    /// whether that could be done.
    pub fn freeze_at_sync(&mut self, sync: &str, count: u64) -> bool {
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={sync}")]);
        command.args(["-e", &format!("inject={sync}:retval=0:signal=STOP:when={count}")]);
        command.args(["-p", &self.child.id().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(tracer) = command.spawn() else { return false };
        let tracer = self.tracer.insert(tracer);
        let mut gone = false;
        let pid = self.child.id();
        wait_for("all threads stand still at a sync", || {
            gone = matches!(tracer.try_wait(), Ok(Some(_)));
            (gone || stands(pid)).then_some(())
        });
        !gone
    }

    fn stands(&self) -> bool {
        stands(self.child.id())
    }

    /// kill -9.
    pub fn kill(mut self) -> PathBuf {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.let_tracer_go();
        self.data.clone()
    }

    /// Waits for its end, which nobody asks it for; gives the exit code.
    pub fn ended(mut self) -> i32 {
        let status = wait_for("the process ends", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }

    fn let_tracer_go(&mut self) {
        if let Some(mut tracer) = self.tracer.take() {
            let _ = tracer.kill();
            let _ = tracer.wait();
        }
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        if code != 0 {
            eprintln!("--- exit code {code}, log of {} ---\n{}", self.data.display(), self.log());
        }
        code
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.let_tracer_go();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.data.display(), self.log());
        }
    }
}

/// The binary as `urja serve` at free ports of an address of its own, and the length of its log before.
fn spawn(data: &Path, args: &[&str], env: &[(&str, &str)], log: &Path) -> (Child, u64) {
    let stderr = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let logged = stderr.metadata().unwrap().len();
    let free = format!("{}:0", address_of_its_own());
    let doors = ["--tcp", "--udp", "--http", "--health"];
    let doors = doors.into_iter().filter(|door| !args.contains(door)).flat_map(|door| [door, &free]);
    let child = Command::new(BINARY)
        .arg("--data")
        .arg(data)
        .arg("serve")
        .args(doors)
        .args(args.iter().map(|&arg| if arg == ANY_PORT { &free } else { arg }))
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    (child, logged)
}

/// A loopback address that no other head-end of these tests has or had: who still sends to one that has ended, as meters
/// do until they are answered, would else reach the next that is given its port.
fn address_of_its_own() -> Ipv4Addr {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let part = |number: u32| u8::try_from(1 + number % 254).unwrap();
    Ipv4Addr::new(127, part(std::process::id()), part(number / 254), part(number))
}

/// Whether all threads of a process are stopped.
fn stands(pid: u32) -> bool {
    let stands = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
        // The state follows the name, which is in parentheses; a thread that has just ended has none.
        let stat = stat.unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['T', 't']))
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|mut threads| threads.all(stands))
}

/// One request on a fresh connection.
pub fn http(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// `urja fleet` running beside a head-end.
pub struct FleetRun {
    child: Option<Child>,
}

impl FleetRun {
    /// Starts it; `data` is the head-end's data directory, for `--drive`.
    pub fn start(data: &Path, args: &[&str]) -> FleetRun {
        let child = Command::new(BINARY)
            .arg("--json")
            .arg("--data")
            .arg(data)
            .arg("fleet")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        FleetRun { child: Some(child) }
    }

    /// Whether it has come to its end.
    pub fn is_done(&mut self) -> bool {
        matches!(self.child().try_wait(), Ok(Some(_)))
    }

    /// Asks it to end once everything sent is confirmed.
    pub fn terminate(&mut self) {
        let pid = self.child().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }

    /// Waits for its end; gives its summary.
    pub fn finish(mut self) -> Value {
        let out = self.child.take().unwrap().wait_with_output().unwrap();
        assert!(out.status.success(), "fleet: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }
}

impl Drop for FleetRun {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
