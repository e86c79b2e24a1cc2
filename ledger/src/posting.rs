//! Double entry: every entry's lines sum to zero, and so does everything that was ever posted.

use model::row::{Head, PostingKind, PostingRow};
use model::{AccountId, CivilDay, Digest, Instant, Paise, Position, Row};

use crate::rating::Charge;

/// Sum of all postings by head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) heads: [i128; Head::ALL.len()],
}

impl Totals {
    /// The sum over all heads: zero, or the ledger is broken.
    pub(crate) fn trial_balance(&self) -> Paise {
        let sum: i128 = self.heads.iter().sum();
        Paise(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }))
    }

    fn add(&mut self, head: Head, amount: Paise) {
        self.heads[head as usize] += i128::from(amount.0);
    }
}

/// What an entry is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) account: AccountId,
    pub(crate) kind: PostingKind,
    pub(crate) usage_date: CivilDay,
}

/// Writes the entries of one record.
pub(crate) struct Postings<'a> {
    pub(crate) position: Position,
    pub(crate) booked_at: Instant,
    pub(crate) totals: &'a mut Totals,
    pub(crate) rows: &'a mut Vec<Row>,
    next_line: u32,
}

impl<'a> Postings<'a> {
    pub(crate) fn new(
        position: Position,
        booked_at: Instant,
        totals: &'a mut Totals,
        rows: &'a mut Vec<Row>,
    ) -> Postings<'a> {
        Postings { position, booked_at, totals, rows, next_line: 0 }
    }

    /// Books a charge: a line for each head that is not zero, and the consumer's against them. Returns by how much the
    /// balance rises, which is negative for a charge.
    pub(crate) fn charge(
        &mut self,
        subject: Subject,
        charge: &Charge,
        energy_wh: i64,
        tariff: Digest,
    ) -> Paise {
        for (head, amount) in Head::CHARGED.into_iter().zip(charge.heads) {
            if amount != Paise::ZERO {
                self.line(subject, head, amount, Note::default());
            }
        }
        let credit = -charge.total();
        let note = Note { energy_wh: Some(energy_wh), tariff: Some(tariff), reference: None };
        self.line(subject, Head::Consumer, credit, note);
        credit
    }

    /// Books a payment against the head it comes from: `share` of it pays old dues off.
    pub(crate) fn recharge(
        &mut self,
        subject: Subject,
        from: Head,
        amount: Paise,
        share: Paise,
        reference: &str,
    ) {
        let note = || Note { reference: Some(reference.to_owned()), ..Note::default() };
        self.line(subject, Head::Consumer, amount - share, note());
        if share != Paise::ZERO {
            self.line(subject, Head::Arrears, share, note());
        }
        self.line(subject, from, -amount, note());
    }

    /// Books money into suspense, or with a negative amount out of it and back.
    pub(crate) fn suspense(&mut self, subject: Subject, amount: Paise, reference: &str) {
        let note = || Note { reference: Some(reference.to_owned()), ..Note::default() };
        self.line(subject, Head::Suspense, amount, note());
        self.line(subject, Head::Cash, -amount, note());
    }

    /// Books old dues that were taken over, which leaves the balance as it is.
    pub(crate) fn arrears(&mut self, subject: Subject, amount: Paise) {
        self.line(subject, Head::Arrears, -amount, Note::default());
        self.line(subject, Head::Migration, amount, Note::default());
    }

    /// Books money that raises the balance by `amount`, against the head it comes from.
    pub(crate) fn credit(&mut self, subject: Subject, from: Head, amount: Paise, reference: Option<&str>) {
        let note = || Note { reference: reference.map(str::to_owned), ..Note::default() };
        self.line(subject, Head::Consumer, amount, note());
        self.line(subject, from, -amount, note());
    }

    fn line(&mut self, subject: Subject, head: Head, amount: Paise, note: Note) {
        self.totals.add(head, amount);
        self.rows.push(Row::Posting(PostingRow {
            position: self.position,
            line: self.next_line,
            booked_at: self.booked_at,
            account: subject.account,
            kind: subject.kind,
            usage_date: subject.usage_date,
            head,
            amount,
            energy_wh: note.energy_wh,
            tariff: note.tariff,
            reference: note.reference,
        }));
        self.next_line += 1;
    }
}

#[derive(Default)]
struct Note {
    energy_wh: Option<i64>,
    tariff: Option<Digest>,
    reference: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_every_entry_sum_to_zero_and_are_numbered_through() {
        let mut totals = Totals::default();
        let mut rows = Vec::new();
        let mut postings = Postings::new(Position(7), Instant(1), &mut totals, &mut rows);
        let subject = |kind| Subject { account: AccountId(3), kind, usage_date: CivilDay(20_000) };
        let heads = [3438, 1100, -10, 0, 227, -91, 0, 0].map(Paise);
        let credit =
            postings.charge(subject(PostingKind::Usage), &Charge { heads }, 6_250, Digest::default());
        let recharge = subject(PostingKind::Recharge);
        postings.recharge(recharge, Head::Cash, Paise(50_000), Paise(5_000), "p1");
        postings.suspense(subject(PostingKind::Suspense), Paise(300), "p2");
        postings.arrears(subject(PostingKind::Arrears), Paise(70_000));
        assert_eq!(credit, Paise(-4664));
        let lines: Vec<_> = rows
            .iter()
            .map(|row| match row {
                Row::Posting(row) => (row.line, row.head, row.amount.0, row.energy_wh),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            lines,
            [
                (0, Head::Energy, 3438, None),
                (1, Head::Fixed, 1100, None),
                (2, Head::Subsidy, -10, None),
                (3, Head::Duty, 227, None),
                (4, Head::Rebate, -91, None),
                (5, Head::Consumer, -4664, Some(6_250)),
                (6, Head::Consumer, 45_000, None),
                (7, Head::Arrears, 5_000, None),
                (8, Head::Cash, -50_000, None),
                (9, Head::Suspense, 300, None),
                (10, Head::Cash, -300, None),
                (11, Head::Arrears, -70_000, None),
                (12, Head::Migration, 70_000, None),
            ]
        );
        assert_eq!(totals.trial_balance(), Paise::ZERO);
    }
}
