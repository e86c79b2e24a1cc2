//! System calls of a running process that fail on purpose, by strace.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{skip, wait_for};

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// Name of the threads; every thread of the process, also later ones, where there is none.
    pub thread: Option<&'a str>,
    /// The system calls, as strace names a set of them.
    pub calls: &'a str,
    /// The error, or `retval=…`, as strace names them.
    pub error: &'a str,
    /// First call of a thread that fails, counted from 1.
    pub first: u32,
    /// Last call of a thread that fails.
    pub last: u32,
    /// Only calls on these files and directories, unless there are none.
    pub paths: &'a [PathBuf],
}

/// strace beside a process. It ends with the process.
pub struct Strace {
    child: Child,
    trace: PathBuf,
}

impl Strace {
    /// Whether it is there and may look at other processes.
    pub fn is_there() -> bool {
        let target = Command::new("sleep").arg("60").spawn();
        let Ok(mut target) = target else { return false };
        let pid = target.id();
        let strace = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn();
        let there = strace.is_ok_and(|mut strace| {
            let there = wait_for("strace attaches or ends", || match strace.try_wait() {
                Ok(None) => is_traced(pid, pid).then_some(true),
                _ => Some(false),
            });
            let _ = strace.kill();
            let _ = strace.wait();
            there
        });
        let _ = target.kill();
        let _ = target.wait();
        if !there {
            skip("strace with leave to look at other processes");
        }
        there
    }

    /// Attaches to a process; when this returns the calls are being counted. The trace goes to a file.
    pub fn attach(pid: u32, fault: &Fault<'_>, trace: &Path) -> Strace {
        let threads = threads(pid, fault.thread);
        assert!(!threads.is_empty(), "process {pid} has no thread {:?}", fault.thread);
        let mut command = Command::new("strace");
        command.args(["-qq", "-y", "-e", "signal=none", "-o"]).arg(trace);
        command.args(["-e", &format!("trace={}", fault.calls), "-e", &fault.inject()]);
        for path in fault.paths {
            command.arg("-P").arg(path);
        }
        match fault.thread {
            None => command.args(["-f", "-p", &pid.to_string()]),
            Some(_) => command.args(threads.iter().flat_map(|thread| ["-p".to_owned(), thread.to_string()])),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut strace = Strace { child, trace: trace.to_owned() };
        wait_for("strace attached", || {
            let is_under_way = matches!(strace.child.try_wait(), Ok(None));
            // The fault may have come, and ended the process, before anybody looked.
            let is_over = !is_under_way && !strace.injected().is_empty();
            assert!(is_under_way || is_over, "strace ended");
            (is_over || threads.iter().all(|thread| is_traced(pid, *thread))).then_some(())
        });
        strace
    }

    /// Lines of the trace that a process was lied to in.
    pub fn injected(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains("(INJECTED)")).collect()
    }

    /// All calls so far.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.trace).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Lets the process go on without.
    pub fn detach(mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fault<'_> {
    fn inject(&self) -> String {
        let mut text = format!("inject={}:error={}:when={}", self.calls, self.error, self.first);
        if self.last > self.first {
            let _ = write!(text, "..{}", self.last);
        }
        text
    }
}

/// The file of a call, as `strace -y` writes it after the descriptor.
pub fn file_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once('<')?;
    rest.split_once('>').map(|(path, _)| path)
}

/// Threads of a process with that name, or all.
fn threads(pid: u32, name: Option<&str>) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ids = tasks.filter_map(|task| task.unwrap().file_name().to_str()?.parse().ok());
    let called = |thread: &u32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).unwrap_or_default();
        name.is_none_or(|name| comm.trim_end() == name)
    };
    ids.filter(called).collect()
}

/// A thread that has ended meanwhile needs no tracer.
fn is_traced(pid: u32, thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"));
    status.map_or(true, |text| !text.contains("TracerPid:\t0\n"))
}
