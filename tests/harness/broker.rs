//! A real MQTT broker: Mosquitto with persistence and an unlimited queue, or the one embedded in `urja serve`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::process::Served;
use super::{skip, wait_for};

/// Topics that no meter publishes on: a head-end that listens there is a broker for others alone.
const NOT_ITS_OWN: (&str, &str) = ("URJA_MQTT__TOPICS", "nobody/publishes/here");

/// A broker on a free port of loopback; it keeps its data when stopped and started again.
pub struct Broker {
    kind: Kind,
    running: Option<Running>,
    /// Where it listens.
    pub address: SocketAddr,
}

enum Kind {
    Mosquitto { program: PathBuf, config: PathBuf },
    Embedded { data: PathBuf },
}

enum Running {
    Mosquitto(Child),
    Embedded(Served),
}

impl Broker {
    /// Starts Mosquitto with its files in `dir`; `None` where it is not installed.
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
        Some(Broker::new(Kind::Mosquitto { program, config }, address))
    }

    /// Starts a head-end that is a broker for others and takes no push itself, with its files in `dir`.
    pub fn embedded(dir: &Path) -> Broker {
        std::fs::create_dir_all(dir).unwrap();
        Broker::new(Kind::Embedded { data: dir.join("data") }, free_port())
    }

    fn new(kind: Kind, address: SocketAddr) -> Broker {
        let mut broker = Broker { kind, running: None, address };
        broker.resume();
        broker
    }

    /// `mqtt://host:port`
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Stops it with SIGTERM, so that it saves what it holds.
    pub fn stop(&mut self) {
        match self.running.take() {
            Some(Running::Mosquitto(mut child)) => {
                let pid = child.id().to_string();
                assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
                child.wait().unwrap();
            }
            Some(Running::Embedded(served)) => assert_eq!(served.terminate(), 0),
            None => {}
        }
    }

    /// Starts it again on the same port with the same data.
    pub fn resume(&mut self) {
        self.running = Some(match &self.kind {
            Kind::Mosquitto { program, config } => {
                let child = Command::new(program)
                    .arg("-c")
                    .arg(config)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                Running::Mosquitto(child.unwrap())
            }
            Kind::Embedded { data } => {
                let listen = self.address.to_string();
                Running::Embedded(Served::start_with(data, &["--broker", &listen], &[NOT_ITS_OWN]))
            }
        });
        wait_for("the broker listens", || TcpStream::connect(self.address).ok());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(Running::Mosquitto(child)) = &mut self.running {
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
