//! The counter windows of all meters, by meter id, in columns: 14 bytes a meter, where a window alone takes 16.

use ledger::CounterWindow;
use model::MeterId;

const PAGE: usize = 256;

/// Windows in pages, which are made when a meter on them is first heard.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    pages: Vec<Option<Box<Page>>>,
}

#[derive(Debug)]
struct Page {
    high: [u32; PAGE],
    seen: [u64; PAGE],
    key_epoch: [u16; PAGE],
}

impl Windows {
    /// The window of a meter; an empty one where none was put.
    pub(crate) fn get(&self, meter: MeterId) -> CounterWindow {
        let (page, place) = place_of(meter);
        let Some(page) = self.pages.get(page).and_then(Option::as_ref) else {
            return CounterWindow::default();
        };
        CounterWindow { key_epoch: page.key_epoch[place], high: page.high[place], seen: page.seen[place] }
    }

    pub(crate) fn put(&mut self, meter: MeterId, window: CounterWindow) {
        let (page, place) = place_of(meter);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new(Page { high: [0; PAGE], seen: [0; PAGE], key_epoch: [0; PAGE] });
        let page = self.pages[page].get_or_insert_with(empty);
        let CounterWindow { key_epoch, high, seen } = window;
        (page.high[place], page.seen[place], page.key_epoch[place]) = (high, seen, key_epoch);
    }
}

fn place_of(meter: MeterId) -> (usize, usize) {
    (meter.0 as usize / PAGE, meter.0 as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

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
