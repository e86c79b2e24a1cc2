//! A vector of one word, for lists that are mostly empty.

use std::ops::{Deref, DerefMut, RangeTo};

/// Values in order; none take no memory but a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thin<T>(
    #[expect(clippy::box_collection, reason = "a pointer instead of three words, in each of millions")]
    Option<Box<Vec<T>>>,
);

impl<T> Default for Thin<T> {
    fn default() -> Thin<T> {
        Thin(None)
    }
}

impl<T> Deref for Thin<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl<T> DerefMut for Thin<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

impl<T> Thin<T> {
    pub(crate) fn push(&mut self, value: T) {
        self.insert(self.len(), value);
    }

    pub(crate) fn insert(&mut self, place: usize, value: T) {
        let values = self.0.get_or_insert_default();
        if values.len() == values.capacity() {
            values.reserve_exact(1 + values.len() / 2);
        }
        values.insert(place, value);
    }

    /// Takes a value out; the place has to be there.
    pub(crate) fn remove(&mut self, place: usize) -> T {
        let values = self.0.as_mut().expect("a place in it means that it is not empty");
        let value = values.remove(place);
        self.forget_when_empty();
        value
    }

    pub(crate) fn drop_first(&mut self, range: RangeTo<usize>) {
        if let Some(values) = &mut self.0 {
            values.drain(range);
        }
        self.forget_when_empty();
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(values) = &mut self.0 {
            values.retain(keep);
        }
        self.forget_when_empty();
    }

    fn forget_when_empty(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go_in_order() {
        let mut thin = Thin::default();
        assert!(thin.is_empty());
        for value in [1, 2, 4] {
            thin.push(value);
        }
        thin.insert(2, 3);
        assert_eq!(thin[..], [1, 2, 3, 4]);
        assert_eq!(thin.remove(0), 1);
        thin.drop_first(..1);
        thin.retain(|value| *value != 4);
        assert_eq!(thin[..], [3]);
        thin[0] = 5;
        assert_eq!(thin.remove(0), 5);
        assert_eq!(thin, Thin::default());
    }
}
