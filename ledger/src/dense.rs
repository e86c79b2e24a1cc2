//! Records by dense id: pages of an array that are made when an id on them is first used, so that one stray id costs a
//! page and not an array up to it.
//!
//! A clone shares its pages with what it was made of; whoever changes one first copies it. So a state of millions can be
//! given out whole in a moment, and read while the original goes on.

use std::sync::Arc;

const PAGE: usize = 256;

/// Values by id, visited in the order of the ids.
#[derive(Clone, Debug)]
pub(crate) struct Dense<T> {
    pages: Vec<Option<Arc<[Option<T>]>>>,
}

impl<T> Default for Dense<T> {
    fn default() -> Dense<T> {
        Dense { pages: Vec::new() }
    }
}

impl<T: Clone> Dense<T> {
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (page, place) = place_of(id);
        self.pages.get(page)?.as_ref()?.get(place)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (page, place) = place_of(id);
        Arc::make_mut(self.pages.get_mut(page)?.as_mut()?).get_mut(place)?.as_mut()
    }

    /// Puts a value in; the one it replaces is dropped.
    pub(crate) fn insert(&mut self, id: u32, value: T) {
        let (page, place) = place_of(id);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let values =
            self.pages[page].get_or_insert_with(|| std::iter::repeat_with(|| None).take(PAGE).collect());
        Arc::make_mut(values)[place] = Some(value);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &T)> {
        self.pages.iter().enumerate().filter_map(|(page, values)| Some((page, values.as_ref()?))).flat_map(
            |(page, values)| {
                values
                    .iter()
                    .enumerate()
                    .filter_map(move |(place, value)| Some((id_of(page, place), value.as_ref()?)))
            },
        )
    }

    /// The values whose ids lie between both, ends included.
    pub(crate) fn range_mut(&mut self, first: u32, last: u32) -> impl Iterator<Item = (u32, &mut T)> {
        let first_page = place_of(first).0;
        self.pages
            .iter_mut()
            .enumerate()
            .skip(first_page)
            .filter_map(|(page, values)| Some((page, values.as_mut()?)))
            .flat_map(|(page, values)| {
                Arc::make_mut(values)
                    .iter_mut()
                    .enumerate()
                    .filter_map(move |(place, value)| Some((id_of(page, place), value.as_mut()?)))
            })
            .skip_while(move |(id, _)| *id < first)
            .take_while(move |(id, _)| *id <= last)
    }

    pub(crate) fn first_id(&self) -> Option<u32> {
        self.iter().next().map(|(id, _)| id)
    }

    pub(crate) fn last_id(&self) -> Option<u32> {
        self.iter().next_back().map(|(id, _)| id)
    }

    /// The lowest id from `id` on.
    pub(crate) fn id_from(&self, id: u32) -> Option<u32> {
        let skipped = place_of(id).0;
        self.pages.iter().enumerate().skip(skipped).find_map(|(page, values)| {
            let values = values.as_ref()?;
            (0..PAGE)
                .filter(|place| values[*place].is_some())
                .map(|place| id_of(page, place))
                .find(|found| *found >= id)
        })
    }
}

fn place_of(id: u32) -> (usize, usize) {
    let id = id as usize;
    (id / PAGE, id % PAGE)
}

fn id_of(page: usize, place: usize) -> u32 {
    u32::try_from(page * PAGE + place).expect("made from an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_id_and_visited_in_order() {
        let mut dense = Dense::default();
        for id in [700, 3, 255, 256, 1_000_000] {
            dense.insert(id, id * 2);
        }
        dense.insert(3, 7);
        assert_eq!((dense.get(3), dense.get(4), dense.get(u32::MAX)), (Some(&7), None, None));
        assert_eq!(dense.iter().map(|(id, _)| id).collect::<Vec<_>>(), [3, 255, 256, 700, 1_000_000]);
        assert_eq!(dense.range_mut(4, 700).map(|(id, _)| id).collect::<Vec<_>>(), [255, 256, 700]);
        assert_eq!((dense.first_id(), dense.last_id()), (Some(3), Some(1_000_000)));
        assert_eq!(
            (dense.id_from(257), dense.id_from(700), dense.id_from(1_000_001)),
            (Some(700), Some(700), None)
        );
        *dense.get_mut(256).unwrap() = 1;
        assert_eq!(
            dense.range_mut(0, u32::MAX).map(|(_, value)| *value).sum::<u32>(),
            7 + 510 + 1 + 1400 + 2_000_000
        );
    }

    #[test]
    fn a_clone_keeps_what_its_original_changes() {
        let mut dense = Dense::default();
        for id in [1, 2, 300] {
            dense.insert(id, id);
        }
        let before = dense.clone();
        *dense.get_mut(1).unwrap() = 7;
        dense.insert(3, 3);
        dense.range_mut(300, 300).for_each(|(_, value)| *value = 8);
        assert_eq!(before.iter().collect::<Vec<_>>(), [(1, &1), (2, &2), (300, &300)]);
        assert_eq!(dense.iter().collect::<Vec<_>>(), [(1, &7), (2, &2), (3, &3), (300, &8)]);
    }
}
