//! A real MQTT broker: Mosquitto with persistence and an unlimited queue.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{skip, wait_for};

/// A broker on a free port of loopback; it keeps its data when stopped and started again.
pub struct Broker {
    child: Option<Child>,
    config: PathBuf,
    program: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Broker {
    /// Starts one with its files in `dir`; `None` where Mosquitto is not installed.
    pub fn start(dir: &Path) -> Option<Broker> {
        let Some(program) = find() else {
            skip("mosquitto");
            return None;
        };
        std::fs::create_dir_all(dir).unwrap();
        let address = free_port();
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval 1\n\
             autosave_on_changes false\nmax_queued_messages 0\nmax_inflight_messages 1000\nuser root\n",
            address.port(),
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut broker = Broker { child: None, config, program, address };
        broker.resume();
        Some(broker)
    }

    /// `mqtt://host:port`
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Stops it with SIGTERM, so that it saves what it holds.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        child.wait().unwrap();
    }

    /// Starts it again on the same port with the same data.
    pub fn resume(&mut self) {
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        wait_for("mosquitto listens", || TcpStream::connect(self.address).ok());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join("mosquitto")).find(|file| file.exists())
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
