//! How many relays may be opened in what time, whatever asks for it: a wrong rule or a wrong command reaches few homes
//! before somebody looks. Shares are of registered accounts and meters, in parts per million.
//!
//! In August 2020 one wrong command cut off more than 300,000 paid-up homes in Uttar Pradesh; of its 1.1 million smart meters
//! these budgets would have let 5,500 go in an hour.

use model::Ppm;

/// Cuts an hour that are never a surge.
const CALM: u64 = 10;
/// How often the usual number makes a surge.
const SURGE: u64 = 3;

/// How many relays may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Share of all accounts in an hour; one is always allowed.
    pub fleet_an_hour: Ppm,
    /// Share of all accounts in 24 hours; one is always allowed.
    pub fleet_a_day: Ppm,
    /// Share of the accounts of a transformer in an hour; one is always allowed.
    pub transformer_an_hour: Ppm,
    /// What goes out to one meter in 24 hours before it is cut again: reconnections count, and are never held back.
    pub meter_a_day: u64,
    /// Share of the meters that were heard in the last week and are silent for a day, above which nothing is cut.
    pub silent: Ppm,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            fleet_an_hour: Ppm(5_000),
            fleet_a_day: Ppm(20_000),
            transformer_an_hour: Ppm(50_000),
            meter_a_day: 2,
            silent: Ppm(10_000),
        }
    }
}

impl Budget {
    /// How many more of so many accounts may be cut, when so many were in the last hour and in the last 24.
    #[must_use]
    pub fn left(&self, accounts: u64, an_hour: u64, a_day: u64) -> u64 {
        let hour = share(accounts, self.fleet_an_hour).saturating_sub(an_hour);
        hour.min(share(accounts, self.fleet_a_day).saturating_sub(a_day))
    }

    /// How many more of the accounts of a transformer, when so many were in the last hour.
    #[must_use]
    pub fn left_of_transformer(&self, accounts: u64, an_hour: u64) -> u64 {
        share(accounts, self.transformer_an_hour).saturating_sub(an_hour)
    }

    /// Whether so many meters are silent that something is wrong with the network and not with them.
    #[must_use]
    pub fn are_too_many_silent(&self, heard_in_a_week: u64, of_them_silent: u64) -> bool {
        i128::from(of_them_silent) * 1_000_000 > i128::from(heard_in_a_week) * i128::from(self.silent.0)
            && of_them_silent > 1
    }
}

/// Whether the cuts of an hour are far more than those of the same hour of the last four weeks.
#[must_use]
pub(super) fn is_surge(an_hour: u64, mut weeks: [u64; 4]) -> bool {
    weeks.sort_unstable();
    // Twice the median of four.
    let twice = weeks[1] + weeks[2];
    an_hour > CALM && 2 * an_hour > SURGE * twice
}

fn share(of: u64, share: Ppm) -> u64 {
    let part = i128::from(of) * i128::from(share.0) / 1_000_000;
    u64::try_from(part).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_command_of_2020_would_have_reached_5500_homes_in_its_first_hour() {
        let budget = Budget::default();
        assert_eq!(budget.left(1_100_000, 0, 0), 5_500);
        assert_eq!(budget.left(1_100_000, 5_499, 5_499), 1);
        assert_eq!(budget.left(1_100_000, 5_500, 5_500), 0);
        assert_eq!(budget.left(1_100_000, 0, 22_000), 0, "2 % a day");
    }

    #[test]
    fn a_small_fleet_and_a_small_transformer_have_one_an_hour() {
        let budget = Budget::default();
        assert_eq!((budget.left(3, 0, 0), budget.left(3, 1, 1)), (1, 0));
        assert_eq!((budget.left_of_transformer(12, 0), budget.left_of_transformer(12, 1)), (1, 0));
        assert_eq!(budget.left_of_transformer(100, 2), 3);
    }

    #[test]
    fn a_surge_is_more_than_three_times_the_median_and_more_than_a_handful() {
        assert!(!is_surge(10, [0; 4]) && is_surge(11, [0; 4]));
        assert!(!is_surge(300, [100, 100, 100, 100]) && is_surge(301, [100, 100, 100, 100]));
        assert!(is_surge(301, [1, 100, 100, 9_000]) && !is_surge(300, [1, 100, 100, 9_000]), "the median");
    }

    #[test]
    fn a_network_in_which_many_fall_silent_at_once_cuts_nobody() {
        let budget = Budget::default();
        assert!(!budget.are_too_many_silent(1_000, 10) && budget.are_too_many_silent(1_000, 11));
        assert!(!budget.are_too_many_silent(5, 1), "one alone may be broken");
    }
}
