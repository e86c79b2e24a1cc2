//! Who may connect: so many connections in all, and so many from one address, so that no single peer can fill a door.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds of one door; a clone counts for the same door.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    per_address: usize,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
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
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
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
        if *held >= self.per_address {
            return None;
        }
        *held += 1;
        drop(addresses);
        Some(Admitted { _place: place, addresses: Arc::clone(&self.addresses), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = lock(&self.addresses).entry(self.address) {
            *held.get_mut() = held.get().saturating_sub(1);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

fn lock(addresses: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
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
}
