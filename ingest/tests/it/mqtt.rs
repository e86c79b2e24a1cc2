//! Pushes through a real broker, where Mosquitto is installed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ingest::{MqttOptions, serve_mqtt};
use model::Source;
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, PublishOptions};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::frames::{Meter, june};
use crate::lake::first_values;
use crate::world::{World, assert_conserved, within};

/// Mosquitto on a free port, with persistence and an unlimited queue.
struct Broker {
    dir: TempDir,
    program: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Broker {
    fn start() -> Option<Broker> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let Some(program) = dirs.map(|dir| dir.join("mosquitto")).find(|file| file.exists()) else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not there: mosquitto");
            println!("skipped: not there: mosquitto");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nuser root\n",
            address.port(),
            dir.path().display()
        );
        std::fs::write(config_of(dir.path()), config).unwrap();
        let mut broker = Broker { dir, program, address, child: None };
        broker.resume();
        Some(broker)
    }

    fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Stops it with SIGTERM, so that it saves what it holds.
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        child.wait().unwrap();
    }

    fn resume(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(config_of(self.dir.path())).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn config_of(dir: &Path) -> PathBuf {
    dir.join("mosquitto.conf")
}

struct Served {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ingest::MqttError>>,
}

impl Served {
    fn new(world: &World, broker: &Broker) -> Served {
        let shutdown = CancellationToken::new();
        let options = MqttOptions { url: broker.url(), receive_maximum: 16, ..MqttOptions::default() };
        let task = tokio::spawn(serve_mqtt(world.pipeline.clone(), options, shutdown.clone()));
        Served { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap().unwrap();
    }
}

/// A meter's NIC: publishes at QoS 1 and keeps what the broker has not acknowledged.
struct Nic {
    client: AsyncClient,
    task: JoinHandle<()>,
}

impl Nic {
    fn new(broker: &Broker) -> Nic {
        let address = broker.address;
        let mut options = rumqttc::MqttOptions::new("nic", (address.ip().to_string(), address.port()));
        options.set_clean_start(false).set_session_expiry_interval(Some(3600)).set_keep_alive(5);
        let (client, mut events) = AsyncClient::builder(options).capacity(100).build();
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => {}
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        Nic { client, task }
    }

    /// Publishes a block, and returns when the broker has it.
    async fn push(&self, meter: &Meter, counter: u32) {
        let block = meter.block(june(5, 11, 30).plus_seconds(-1800 * i64::from(counter)), counter);
        self.publish(meter, meter.frame(counter, &block), PublishOptions::new(QoS::AtLeastOnce)).await;
    }

    /// Publishes, and returns when the broker has it.
    async fn publish(&self, meter: &Meter, frame: Vec<u8>, options: PublishOptions) {
        let topic = format!("Normal_Push/{}", meter.serial());
        let published = async {
            self.client.publish_tracked(topic, frame, options).await.unwrap().wait_async().await.unwrap();
        };
        within(published).await;
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes from the broker, and waits until the subscription exists: until what was retained for it came.
async fn subscribed(world: &World, nic: &Nic, broker: &Broker, probe: &Meter) -> Served {
    let frame = probe.frame(1, &probe.event(june(5, 12, 0), 0));
    nic.publish(probe, frame, PublishOptions::new(QoS::AtLeastOnce).retained()).await;
    let served = Served::new(world, broker);
    world.until("subscribed", |fold| fold.tallies()[Source::Mqtt.index()].received == 1).await;
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_took_is_stored_once_however_often_it_restarts() {
    let Some(mut broker) = Broker::start() else { return };
    let (meter, probe) = (Meter::new(1), Meter::new(2));
    let world = World::of(&[&meter, &probe]).await;
    let nic = Nic::new(&broker);
    let served = subscribed(&world, &nic, &broker, &probe).await;
    for counter in 1..=90 {
        if counter % 30 == 0 {
            broker.stop();
            broker.resume();
        }
        nic.push(&meter, counter).await;
    }
    world.until("all are stored", |fold| fold.meter(model::MeterId(1)).unwrap().counter == Some(90)).await;
    let all = async {
        while first_values(&world.rows().await).len() < 90 {
            tokio::task::yield_now().await;
        }
    };
    within(all).await;
    served.stop().await;
    assert_eq!(first_values(&world.rows().await).len(), 90);
    assert_conserved(&world.tally(Source::Mqtt).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_is_not_acknowledged_and_comes_again() {
    let Some(broker) = Broker::start() else { return };
    let meter = Meter::new(1);
    let probe = Meter::new(2);
    let world = World::of(&[&meter, &probe]).await;
    let nic = Nic::new(&broker);
    let served = subscribed(&world, &nic, &broker, &probe).await;
    // The pipeline takes no frames: publishes stay in its queue, without a sync and so without a PUBACK.
    world.hold_frames().await;
    for counter in 1..=3 {
        nic.push(&meter, counter).await;
    }
    let queued = async {
        while world.pipeline.stats().queue_frames < 3 {
            tokio::task::yield_now().await;
        }
    };
    within(queued).await;
    served.stop().await;
    // A stop makes durable what was queued, but nobody is there to acknowledge it any more.
    let world = world.crash().await;
    assert_eq!(first_values(&world.rows().await).len(), 3);
    assert_eq!(world.tally(Source::Mqtt).await.repeated, 0);
    let served = Served::new(&world, &broker);
    nic.push(&meter, 4).await;
    world.until("the fourth came", |fold| fold.meter(model::MeterId(1)).unwrap().counter == Some(4)).await;
    served.stop().await;
    let tally = world.tally(Source::Mqtt).await;
    assert_eq!((tally.received, tally.repeated), (8, 3), "the three came again before the fourth");
    assert_eq!(first_values(&world.rows().await).len(), 4);
    assert_conserved(&tally);
}
