//! The written bounds of the fold's state.
//!
//! What has no number here is bounded by what has: days of an account whose energy can still matter by `late_days` and
//! the month before them, months ahead by the days that are not closed, frames that wait by `max_contested`.

/// How much the fold keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Days after which data is stored but not charged any more.
    pub late_days: u16,
    /// Closed months kept per account; they can be charged again within `late_days`.
    pub months_kept: u8,
    /// Gap ranges per meter and profile. When full the oldest is forgotten: its slots become contested.
    pub max_gap_ranges_per_meter: usize,
    /// Contested readings that wait for an answer. The fold sheds nothing that is durable, so this bound is kept by
    /// who appends: see [`Fold::contested_is_full`](crate::Fold::contested_is_full).
    pub max_contested: usize,
    /// Highest meter id. Terms of a meter above it are refused.
    pub max_meters: u32,
    /// Highest account id. Terms of an account above it are refused.
    pub max_accounts: u32,
    /// Payment ids kept. When full, recharges are refused.
    pub max_payments: usize,
    /// Tariff versions kept. When full, further ones are refused.
    pub max_tariffs: usize,
    /// Policies of credit control kept. When full, further ones are refused.
    pub max_policies: usize,
    /// Later terms of an account that are not in force yet. When full, further ones are refused.
    pub max_pending_terms: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            late_days: 45,
            months_kept: 14,
            max_gap_ranges_per_meter: 64,
            max_contested: 1 << 20,
            max_meters: 1 << 24,
            max_accounts: 1 << 24,
            max_payments: 1 << 28,
            max_tariffs: 1 << 10,
            max_policies: 1 << 8,
            max_pending_terms: 4,
        }
    }
}
