//! Sending counters over kill -9: one that went out under a key never goes out again under it, or whoever listens learns
//! what was sent and can forge what comes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use codec::apdu::ciphered::Scope;
use codec::apdu::{self, Apdu};
use codec::wrapper::Wrapper;

use crate::harness::{evidence, full, seeded, shared_deadline, urja_begun, wait_for};
use crate::sessions::{Meters, address, serve};

fn kills() -> u32 {
    if full() { 200 } else { 12 }
}

/// Somebody on the line to a meter who writes down the counters of what it is sent under its global key, before passing it on.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u32>>>,
    /// The meter hears nothing: it does not know of counters that were used meanwhile.
    cut: Arc<AtomicBool>,
}

impl Tap {
    fn start(meter: SocketAddr) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u32>>>::default());
        let cut = Arc::<AtomicBool>::default();
        let (all, is_cut) = (Arc::clone(&seen), Arc::clone(&cut));
        thread::spawn(move || {
            for asking in listener.incoming() {
                let (asking, seen, cut) = (asking.unwrap(), Arc::clone(&all), Arc::clone(&is_cut));
                let asked = TcpStream::connect(meter).unwrap();
                let (answers, answered) = (asked.try_clone().unwrap(), asking.try_clone().unwrap());
                thread::spawn(move || {
                    pass(asking, asked, |bytes| {
                        note(bytes, &seen);
                        !cut.load(Ordering::Relaxed)
                    });
                });
                thread::spawn(move || pass(answers, answered, |_| true));
            }
        });
        Tap { address, seen, cut }
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// Passes on what `look` lets through, until either side is gone; `look` drains what it has seen.
fn pass(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&mut Vec<u8>) -> bool) {
    let (mut unseen, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        unseen.extend_from_slice(&bytes[..length]);
        if look(&mut unseen) && to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn note(bytes: &mut Vec<u8>, seen: &Mutex<Vec<u32>>) {
    while let Ok(frame) = Wrapper::new_checked(bytes) {
        let (length, counter) = (frame.total_len(), counter_of(frame.apdu()));
        seen.lock().unwrap().extend(counter);
        bytes.drain(..length);
    }
}

fn counter_of(bytes: &[u8]) -> Option<u32> {
    match apdu::parse(bytes).ok()? {
        Apdu::Ciphered(ciphered) if ciphered.scope() == Scope::Global => Some(ciphered.invocation_counter()),
        Apdu::GeneralGlo(glo) => Some(glo.invocation_counter()),
        // In it lies the ciphered initiate-request.
        Apdu::AssociationRequest(request) => counter_of(request.user_information?),
        _ => None,
    }
}

#[test]
fn no_sending_counter_goes_out_twice_however_often_the_head_end_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, mut random) = seeded("counters");
    let mut served = serve(dir.path(), &[]);
    let to = served.address("tcp").to_string();
    let meters =
        Meters::start(dir.path(), &served.data, &["--meters", "1", "--to", &to, "--serve", "127.0.0.1:0"]);
    let tap = Tap::start(address(dir.path()).parse().unwrap());
    meters.register_first_at(dir.path(), &tap.address.to_string());
    meters.read(0, &["block"]);
    let mut cut_short = 0;
    for kill in 0..kills() {
        let before = tap.count();
        let mut command = urja_begun(&served.data, &["read", &meters.serials[0], "block"]);
        // At any time of it in some rounds, in the others once something was sent.
        if kill % 3 > 0 {
            wait_for("the meter is asked", || (tap.count() > before).then_some(()));
        }
        shared_deadline(Duration::from_millis(random() % if kill % 3 > 0 { 50 } else { 250 }));
        tap.cut.store(true, Ordering::Relaxed);
        shared_deadline(Duration::from_millis(50));
        served.kill();
        tap.cut.store(false, Ordering::Relaxed);
        let failed = !command.wait().unwrap().success();
        cut_short += u32::from(failed && tap.count() > before);
        served = serve(dir.path(), &[]);
    }
    meters.read(0, &["serial"]);
    assert_eq!(served.terminate(), 0);
    let seen = tap.seen.lock().unwrap();
    let once: BTreeSet<u32> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "a counter went out twice: {seen:?}");
    assert!(cut_short > 0, "void: no kill fell into a session");
    let result = format!("{} counters, each once; {cut_short} kills cut a session short", seen.len());
    evidence("a sending counter never goes out twice over kill -9", seed, kills(), &result);
}
