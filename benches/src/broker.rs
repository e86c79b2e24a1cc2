//! Mosquitto for a benchmark, and the least of an MQTT 3.1.1 client: what publishes and what subscribes must cost as
//! little as possible beside what is measured.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ingest::BoxError;

/// Publishes of a client that may be without their PUBACK.
const WINDOW: usize = 500;
const START: Duration = Duration::from_secs(60);

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;

/// A running broker; it is killed when this is dropped.
#[derive(Debug)]
pub struct Mosquitto {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Mosquitto {
    /// Starts one on a free port with its files in `dir`; `None` where it is not installed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(dir: &Path) -> Result<Option<Mosquitto>, BoxError> {
        let Some(program) = find() else { return Ok(None) };
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
             max_inflight_messages 1000\nset_tcp_nodelay true\nuser root\n",
            address.port()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Mosquitto { child: command.spawn()?, address };
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err("mosquitto does not listen".into());
            }
            std::thread::yield_now();
        }
        Ok(Some(broker))
    }

    /// CPU time it took so far, ns.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        crate::process::cpu_of(self.child.id())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It is gone either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join("mosquitto")).find(|file| file.exists())
}

/// Publishes all of it with quality of service 1 and waits for every PUBACK.
///
/// # Errors
/// When the connection fails or the broker answers something else.
pub fn publish(
    address: SocketAddr,
    client_id: &str,
    topic: &str,
    payloads: impl Iterator<Item = Vec<u8>>,
) -> io::Result<usize> {
    let mut client = Client::connect(address, client_id)?;
    let mut payloads = payloads.peekable();
    let mut out = Vec::new();
    let (mut sent, mut acknowledged) = (0, 0);
    while payloads.peek().is_some() || acknowledged < sent {
        out.clear();
        while sent - acknowledged < WINDOW {
            let Some(payload) = payloads.next() else { break };
            sent += 1;
            let id = (sent % 65_535 + 1) as u16;
            packet(PUBLISH | 2, &[&text(topic), &id.to_be_bytes(), &payload], &mut out);
        }
        client.stream.write_all(&out)?;
        loop {
            let (kind, _) = client.packet()?;
            acknowledged += usize::from(kind & 0xf0 == PUBACK);
            if client.input.len() < 4 {
                break;
            }
        }
    }
    Ok(acknowledged)
}

/// Subscribes with quality of service 1 and acknowledges `count` publishes without looking at them. Says when it is
/// subscribed.
///
/// # Errors
/// When the connection fails or the broker answers something else.
pub fn throw_away(
    address: SocketAddr,
    topic: &str,
    count: usize,
    subscribed: impl FnOnce(),
) -> io::Result<()> {
    let mut client = Client::connect(address, "throws-away")?;
    let mut out = Vec::new();
    packet(0x82, &[&[0, 1], &text(topic), &[1]], &mut out);
    client.stream.write_all(&out)?;
    while client.packet()?.0 & 0xf0 != SUBACK {}
    subscribed();
    out.clear();
    let mut taken = 0;
    while taken < count {
        let (kind, body) = client.packet()?;
        if kind & 0xf0 == PUBLISH {
            let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
            packet(PUBACK, &[&body[2 + topic_len..4 + topic_len]], &mut out);
            taken += 1;
        }
        if client.input.len() < 4 || taken == count {
            client.stream.write_all(&out)?;
            out.clear();
        }
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    input: VecDeque<u8>,
}

impl Client {
    fn connect(address: SocketAddr, client_id: &str) -> io::Result<Client> {
        let mut client = Client { stream: TcpStream::connect(address)?, input: VecDeque::new() };
        client.stream.set_nodelay(true)?;
        let mut out = Vec::new();
        packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text(client_id)], &mut out);
        client.stream.write_all(&out)?;
        match client.packet()? {
            (CONNACK, body) if body[1] == 0 => Ok(client),
            (kind, _) => Err(io::Error::other(format!("the broker answered {kind:#x}"))),
        }
    }

    /// The next packet: its first byte and what follows the length.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        self.fill(2)?;
        let kind = self.input[0];
        let (mut length, mut head) = (0, 1);
        loop {
            self.fill(head + 1)?;
            let byte = self.input[head];
            length |= usize::from(byte & 0x7f) << (7 * (head - 1));
            head += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.fill(head + length)?;
        self.input.drain(..head);
        Ok((kind, self.input.drain(..length).collect()))
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let mut buffer = [0; 1 << 16];
        while self.input.len() < bytes {
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.input.extend(&buffer[..read]),
            }
        }
        Ok(())
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

fn packet(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let more = length >= 128;
        out.push((length % 128) as u8 | if more { 0x80 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
