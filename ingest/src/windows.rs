//! The counter windows of all meters, by meter id: 14 bytes a meter, where a window alone takes 16. They lie in blocks of
//! four, so that what is read of a meter lies together.

use ledger::CounterWindow;
use model::MeterId;

const PAGE: usize = 256;
const BLOCK: usize = 4;

/// Windows in pages, which are made when a meter on them is first heard.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    pages: Vec<Option<Box<Page>>>,
}

type Page = [Block; PAGE / BLOCK];

/// The windows of some meters, in columns, because one alone would be filled up to 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    seen: [u64; BLOCK],
    high: [u32; BLOCK],
    key_epoch: [u16; BLOCK],
}

impl Windows {
    /// The window of a meter; an empty one where none was put.
    pub(crate) fn get(&self, meter: MeterId) -> CounterWindow {
        let (page, block, place) = place_of(meter);
        let Some(page) = self.pages.get(page).and_then(Option::as_ref) else {
            return CounterWindow::default();
        };
        let block = &page[block];
        CounterWindow { key_epoch: block.key_epoch[place], high: block.high[place], seen: block.seen[place] }
    }

    pub(crate) fn put(&mut self, meter: MeterId, window: CounterWindow) {
        let (page, block, place) = place_of(meter);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([Block::default(); PAGE / BLOCK]));
        let block = &mut page[block];
        let CounterWindow { key_epoch, high, seen } = window;
        (block.high[place], block.seen[place], block.key_epoch[place]) = (high, seen, key_epoch);
    }
}

fn place_of(meter: MeterId) -> (usize, usize, usize) {
    let id = meter.0 as usize;
    (id / PAGE, id % PAGE / BLOCK, id % BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_windows_take_56_bytes() {
        assert_eq!(size_of::<Block>(), 56);
    }

    #[test]
    fn a_window_stays_with_its_meter() {
        let mut windows = Windows::default();
        for id in [0, 255, 256, 70_000] {
            windows.put(MeterId(id), CounterWindow { key_epoch: 2, high: id + 1, seen: u64::from(id) });
        }
        for id in [0, 255, 256, 70_000] {
            let expected = CounterWindow { key_epoch: 2, high: id + 1, seen: u64::from(id) };
            assert_eq!(windows.get(MeterId(id)), expected);
        }
        assert_eq!(windows.get(MeterId(1)), CounterWindow::default());
        assert_eq!(windows.get(MeterId(u32::MAX)), CounterWindow::default());
    }
}
