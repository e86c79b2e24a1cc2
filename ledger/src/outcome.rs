//! What became of a fact: an exhaustive list, because a fact in the journal always gets an answer.

use model::{AccountId, CivilDay, CivilMonth, Digest, OutboxId, Paise, Position};

/// The answer to one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A frame or the answer to a contested reading was taken in.
    Applied,
    /// An answer to a reading that is not open or not the first of its meter: kept as a row, without effect.
    NotOpen,
    /// The recharge was booked; the balance with it.
    RechargePosted {
        /// Booked less accrued.
        balance: Paise,
        /// What of it paid old dues off.
        arrears: Paise,
    },
    /// The payment is taken back.
    PaymentReversed {
        /// The account it was booked to.
        account: AccountId,
        /// Its amount.
        amount: Paise,
        /// Booked less accrued, after it.
        balance: Paise,
    },
    /// It was taken back before.
    ReversalExists {
        /// The record that did.
        position: Position,
    },
    /// No payment of that id was booked.
    UnknownPayment,
    /// The money is in suspense.
    HeldInSuspense,
    /// The payment is not at the account it was said to be at.
    NotAtAccount {
        /// The account it is at; [`AccountId::SUSPENSE`] of what is in suspense.
        account: AccountId,
    },
    /// The payment is not in suspense: it is at this account, or was taken back.
    NotInSuspense {
        /// The account it is or was booked to; [`AccountId::SUSPENSE`] of what was taken back out of suspense.
        account: AccountId,
    },
    /// The same payment was booked before.
    RechargeExists {
        /// The record that booked it.
        position: Position,
    },
    /// The payment id was booked before for another account or amount.
    RechargeDiffers {
        /// The record that booked it.
        position: Position,
        /// The account it was booked to.
        account: AccountId,
        /// The amount that was booked.
        amount: Paise,
    },
    /// No terms of this account are known.
    UnknownAccount,
    /// The recharge cannot be booked.
    RechargeRefused(RechargeRefusal),
    /// The tariff version is in force from its day on.
    TariffApplied,
    /// The same version is there already.
    TariffExists,
    /// The tariff version is not taken.
    TariffRefused(TariffRefusal),
    /// The slice of the day was booked.
    DayClosed {
        /// The day.
        day: CivilDay,
        /// Accounts charged.
        charged: u32,
        /// Accounts for which no tariff is in force: nothing was charged.
        unrated: u32,
        /// Corrections of days and months that had been booked.
        corrections: u32,
    },
    /// The slice of the day is not the next one.
    DayRefused(DayRefusal),
    /// The terms are in force.
    TermsApplied,
    /// The outbox entry was drained before.
    TermsExists {
        /// Last entry drained.
        last: OutboxId,
    },
    /// The terms are not taken; the outbox entry counts as drained.
    TermsRefused(TermsRefusal),
    /// The policy is in force from its day on.
    PolicyApplied,
    /// The same policy is there already.
    PolicyExists,
    /// The policy is not taken.
    PolicyRefused(PolicyRefusal),
    /// The consumer counts as told.
    NoticeTaken,
    /// The notice changes nothing.
    NoticeRefused(NoticeRefusal),
}

impl Outcome {
    /// Whether what was asked for holds now, by this fact or by an earlier one.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Outcome::Applied
            | Outcome::RechargePosted { .. }
            | Outcome::RechargeExists { .. }
            | Outcome::PaymentReversed { .. }
            | Outcome::ReversalExists { .. }
            | Outcome::HeldInSuspense
            | Outcome::TariffApplied
            | Outcome::TariffExists
            | Outcome::DayClosed { .. }
            | Outcome::TermsApplied
            | Outcome::TermsExists { .. }
            | Outcome::PolicyApplied
            | Outcome::PolicyExists
            | Outcome::NoticeTaken => true,
            Outcome::NotOpen
            | Outcome::RechargeDiffers { .. }
            | Outcome::UnknownAccount
            | Outcome::UnknownPayment
            | Outcome::NotInSuspense { .. }
            | Outcome::NotAtAccount { .. }
            | Outcome::RechargeRefused(_)
            | Outcome::TariffRefused(_)
            | Outcome::DayRefused(_)
            | Outcome::TermsRefused(_)
            | Outcome::PolicyRefused(_)
            | Outcome::NoticeRefused(_) => false,
        }
    }

    /// Whether the same fact may succeed later without being changed.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        matches!(
            self,
            Outcome::UnknownAccount
                | Outcome::DayRefused(DayRefusal::NotNextDay { .. } | DayRefusal::NotNextSlice { .. })
        )
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Applied => f.write_str("applied"),
            Outcome::NotOpen => f.write_str("no such contested reading is open"),
            Outcome::RechargePosted { balance, arrears: Paise::ZERO } => {
                write!(f, "recharge posted, balance {balance}")
            }
            Outcome::RechargePosted { balance, arrears } => {
                write!(f, "recharge posted, {arrears} of it for arrears, balance {balance}")
            }
            Outcome::RechargeExists { position } => {
                write!(f, "the payment was booked before at position {position}")
            }
            Outcome::RechargeDiffers { position, account, amount } => write!(
                f,
                "the payment id was booked before at position {position}, for account {account} and amount {amount}"
            ),
            Outcome::PaymentReversed { account, amount, balance } => {
                write!(f, "{amount} taken back from account {account}, balance {balance}")
            }
            Outcome::ReversalExists { position } => {
                write!(f, "the payment was taken back before at position {position}")
            }
            Outcome::HeldInSuspense => f.write_str("the money is in suspense"),
            Outcome::NotAtAccount { account: AccountId::SUSPENSE } => {
                f.write_str("the payment is in suspense")
            }
            Outcome::NotAtAccount { account } => write!(f, "the payment is booked to account {account}"),
            Outcome::NotInSuspense { account: AccountId::SUSPENSE } => {
                f.write_str("the payment was taken back, it is not in suspense")
            }
            Outcome::NotInSuspense { account } => {
                write!(f, "the payment is booked to account {account}, it is not in suspense")
            }
            Outcome::UnknownPayment => f.write_str("no payment of that id was booked"),
            Outcome::UnknownAccount => f.write_str("the account is not known"),
            Outcome::RechargeRefused(reason) => reason.fmt(f),
            Outcome::TariffApplied => f.write_str("tariff applied"),
            Outcome::TariffExists => f.write_str("the tariff version is there already"),
            Outcome::TariffRefused(reason) => reason.fmt(f),
            Outcome::DayClosed { day, charged, unrated, corrections } => {
                write!(
                    f,
                    "{day} closed: {charged} charged, {unrated} without tariff, {corrections} corrections"
                )
            }
            Outcome::DayRefused(reason) => reason.fmt(f),
            Outcome::TermsApplied => f.write_str("terms applied"),
            Outcome::TermsExists { last } => write!(f, "outbox entries up to {last} were drained before"),
            Outcome::TermsRefused(reason) => reason.fmt(f),
            Outcome::PolicyApplied => f.write_str("credit policy applied"),
            Outcome::PolicyExists => f.write_str("the credit policy is there already"),
            Outcome::PolicyRefused(reason) => reason.fmt(f),
            Outcome::NoticeTaken => f.write_str("the consumer counts as told"),
            Outcome::NoticeRefused(reason) => reason.fmt(f),
        }
    }
}

/// Why a recharge is not booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RechargeRefusal {
    /// Zero or less.
    #[error("the amount of a recharge must be positive")]
    NotPositive,
    /// More than a ledger of paise is made for.
    #[error("the amount is larger than can be booked")]
    TooLarge,
    /// Empty or too long.
    #[error("a payment id has 1 to {MAX_PAYMENT_ID_BYTES} bytes")]
    PaymentId,
    /// The table of payments is full.
    #[error("no more payments can be kept")]
    Full,
}

/// Longest payment id.
pub const MAX_PAYMENT_ID_BYTES: usize = 128;

/// Why a tariff version is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TariffRefusal {
    /// The text is no tariff.
    #[error("the text is no tariff: {0}")]
    Body(#[from] crate::rules::RuleError),
    /// The fact's name is not the text's.
    #[error("the text is of tariff {0:?}")]
    OtherName(String),
    /// The fact's day is not the text's.
    #[error("the text is in force from {0}")]
    OtherFrom(CivilDay),
    /// The fact's digest is not the text's.
    #[error("the text has digest {0}")]
    OtherDigest(Digest),
    /// Another text of this tariff and day is in force.
    #[error("another version is in force from the same day: digest {0}")]
    OtherVersion(Digest),
    /// It would change a month of which days are booked in full.
    #[error("days before {0} are closed; the next version may start then")]
    Closed(CivilDay),
    /// The table of tariffs is full.
    #[error("no more tariff versions can be kept")]
    Full,
}

/// Why a policy of credit control is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// The text is no policy.
    #[error("the text is no credit policy: {0}")]
    Body(#[from] crate::rules::RuleError),
    /// The fact's day is not the text's.
    #[error("the text is in force from {0}")]
    OtherFrom(CivilDay),
    /// The fact's digest is not the text's.
    #[error("the text has digest {0}")]
    OtherDigest(Digest),
    /// Another text is in force from the same day.
    #[error("another policy is in force from the same day: digest {0}")]
    OtherVersion(Digest),
    /// It would change what was decided.
    #[error("a policy after the first may start on {0} at the earliest")]
    Begun(CivilDay),
    /// The table of policies is full.
    #[error("no more credit policies can be kept")]
    Full,
}

/// Why a notice changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeRefusal {
    /// Nothing of the kind was to be told: it was told before, or the balance has moved since.
    #[error("no such notice is due: it was told before, or the balance has moved since")]
    NotDue,
}

/// Why a slice of a day is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DayRefusal {
    /// Days close in order.
    #[error("the next day to close is {expected}")]
    NotNextDay {
        /// First day that is not completely closed.
        expected: CivilDay,
    },
    /// The slices of a day follow each other without leaving out an account.
    #[error("the next slice of the day begins at account {expected}")]
    NotNextSlice {
        /// First account that is not booked.
        expected: AccountId,
    },
    /// The slice ends before it begins.
    #[error("the slice ends before it begins")]
    Empty,
    /// Said to be complete, and is not.
    #[error("account {0} and those after it are not in the slice")]
    NotComplete(AccountId),
}

/// Why terms are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsRefusal {
    /// Zero, or above the bound.
    #[error("the id lies outside of 1 to {0}")]
    Id(u32),
    /// Not a period whose slots fill a day.
    #[error("a capture period is 60 seconds at least and divides the day")]
    Period,
    /// The capture period of a known meter.
    #[error("the capture period of a meter in use cannot be changed")]
    PeriodChanged,
    /// The title of a known meter.
    #[error("the system title of a meter in use cannot be changed")]
    TitleChanged,
    /// A meter leaves its account only by a hand-over.
    #[error("the meter measures for another account")]
    AccountChanged,
    /// The keys went back.
    #[error("the key epoch is below the present one")]
    KeyEpoch,
    /// Not a tariff's name.
    #[error("a tariff's name has 1 to 64 bytes")]
    TariffName,
    /// No room for another name of a tariff.
    #[error("no more tariff names can be kept")]
    TariffNames,
    /// Above what the tariff is for.
    #[error("the tariff is for a sanctioned load up to {0} W")]
    LoadAboveTariff(u32),
    /// Below what the tariff is for.
    #[error("the tariff is for a sanctioned load from {0} W on")]
    LoadBelowTariff(u32),
    /// None, or above what is rated.
    #[error("the sanctioned load must lie above 0 and within 100 MW")]
    Load,
    /// Below zero or absurd.
    #[error("the opening register must lie between 0 and {MAX_REGISTER_WH} Wh")]
    OpeningRegister,
    /// Absurd.
    #[error("the opening balance is too large")]
    OpeningBalance,
    /// So long ago that its months are not kept, or so far away that it must be a mistake.
    #[error("the first day lies outside of {first} to {last}")]
    From {
        /// Earliest day.
        first: CivilDay,
        /// Latest day.
        last: CivilDay,
    },
    /// Terms that change a month inside of it do so ahead of its data.
    #[error("terms that start inside of a month may start on {0} at the earliest")]
    InsideOfMonth(CivilDay),
    /// Later terms cannot change a month that is closed.
    #[error("later terms may start on {0} at the earliest")]
    Closed(CivilDay),
    /// Terms ended inside of the open month, whose first day then keeps what it had.
    #[error(
        "terms changed inside of this month before: others may start on {inside} at the earliest, or on {month}"
    )]
    MonthHasParts {
        /// First day inside of the month on which others may start.
        inside: CivilDay,
        /// First day of the next month.
        month: CivilDay,
    },
    /// Nobody could be charged by it.
    #[error("no version of the tariff is in force in {0}")]
    NoTariffVersion(CivilMonth),
    /// A look-up under way asks for the days of the terms as they are.
    #[error("a reading of its meter is being looked up; try again in a moment")]
    LookUp,
    /// Conversion is not a matter of terms alone.
    #[error("the connection type of an account in use cannot be changed by terms")]
    ConnectionChanged,
    /// Zero or less, or absurd.
    #[error("arrears must be above zero, and not too large")]
    Arrears,
    /// Arrears of an account that is not there.
    #[error("the account has no terms")]
    NoAccount,
    /// An opening balance is taken over once.
    #[error("an opening balance is taken over with the first terms only")]
    OpeningTwice,
    /// Too many that wait for their day.
    #[error("too many later terms wait for their day")]
    Full,
}

/// Highest register that is taken for real: 1 PWh.
pub const MAX_REGISTER_WH: i64 = 1_000_000_000_000_000;
