//! Who may connect: so many connections in all, and so many from one address, so that no single peer can fill a door.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds of one door; a clone counts for the same door.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    per_address: usize,
    addresses: Addresses,
}

type Addresses = Arc<Mutex<HashMap<IpAddr, Held>>>;

/// What is known of an address that holds connections.
#[derive(Debug, Default)]
struct Held {
    connections: usize,
    /// Frames in a row, over all its connections, that proved nothing.
    unproven: Arc<AtomicU32>,
}

/// A place in a door, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A connection that was let in; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    _place: Place,
    addresses: Addresses,
    address: IpAddr,
    unproven: Arc<AtomicU32>,
}

impl Admission {
    /// A door for `connections` at once, at most `per_address` of them from one address.
    #[must_use]
    pub fn new(connections: usize, per_address: usize) -> Admission {
        let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Admission { places, per_address, addresses: Arc::default() }
    }

    /// Waits for a place. Taken before a connection is accepted, it leaves what cannot be served in the system's queue.
    pub async fn place(&self) -> Place {
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(permit) => Place { _permit: permit },
            // It is never closed; if it were, nobody could be let in.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives a place to a peer; `None` when its address has as many as it may.
    #[must_use]
    pub fn admit(&self, place: Place, address: IpAddr) -> Option<Admitted> {
        let address = address.to_canonical();
        let mut addresses = lock(&self.addresses);
        let held = addresses.entry(address).or_default();
        if held.connections >= self.per_address {
            return None;
        }
        held.connections += 1;
        let unproven = Arc::clone(&held.unproven);
        drop(addresses);
        Some(Admitted { _place: place, addresses: Arc::clone(&self.addresses), address, unproven })
    }
}

impl Admitted {
    /// Notes whether a frame from this address proved its meter; gives how many in a row did not.
    pub(crate) fn note(&self, proven: bool) -> u32 {
        if proven {
            // Most frames prove it, and all connections of an address would write to one place.
            if self.unproven.load(Ordering::Relaxed) != 0 {
                self.unproven.store(0, Ordering::Relaxed);
            }
            return 0;
        }
        self.unproven.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut addresses = lock(&self.addresses);
        if let Some(held) = addresses.get_mut(&self.address) {
            held.connections = held.connections.saturating_sub(1);
            if held.connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

fn lock(addresses: &Mutex<HashMap<IpAddr, Held>>) -> MutexGuard<'_, HashMap<IpAddr, Held>> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_no_more_places_than_it_may_and_gets_them_back() {
        let door = Admission::new(3, 2);
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = door.admit(door.place().await, one).unwrap();
        let _second = door.admit(door.place().await, one).unwrap();
        assert!(door.admit(door.place().await, one).is_none());
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001]);
        assert!(door.admit(door.place().await, mapped).is_none(), "the same address, written as IPv6");
        let third = door.admit(door.place().await, two).unwrap();
        assert_eq!(door.places.available_permits(), 0);
        drop((first, third));
        assert_eq!(door.places.available_permits(), 2);
        assert!(door.admit(door.place().await, one).is_some());
        assert_eq!(lock(&door.addresses).len(), 1, "nothing is kept of an address that is gone");
    }

    #[tokio::test]
    async fn frames_that_prove_nothing_count_over_the_connections_of_an_address_until_one_does() {
        let door = Admission::new(3, 3);
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = door.admit(door.place().await, one).unwrap();
        let second = door.admit(door.place().await, one).unwrap();
        let other = door.admit(door.place().await, two).unwrap();
        assert_eq!((first.note(false), second.note(false), other.note(false)), (1, 2, 1));
        assert_eq!((second.note(true), first.note(false)), (0, 1));
    }
}
