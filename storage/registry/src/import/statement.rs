//! What a channel and the bank say of a day.

use std::io::Read;

use model::Paise;

use super::collections::{payment_id, rupees};
use super::decimal::scaled;
use super::table::{Column, Header, Line, Table};
use super::{BadLines, ImportError};
use crate::{MoneyChannel, Side};

const STATEMENT: [Column; 7] = [
    Column { name: "payment_id", header: Header::Required },
    Column { name: "amount_rupees", header: Header::Required },
    Column { name: "kind", header: Header::Optional },
    Column { name: "account_number", header: Header::Optional },
    Column { name: "fee_rupees", header: Header::Optional },
    Column { name: "settlement", header: Header::Optional },
    Column { name: "collector", header: Header::Optional },
];
const PAYMENT: usize = 0;
const AMOUNT: usize = 1;
const KIND: usize = 2;
const ACCOUNT: usize = 3;
const FEE: usize = 4;
const SETTLEMENT: usize = 5;
const COLLECTOR: usize = 6;

const BANK: [Column; 2] = [
    Column { name: "settlement", header: Header::Required },
    Column { name: "amount_rupees", header: Header::Required },
];

/// A payment or a refund by the statement of its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementRow {
    /// Line of the file.
    pub line: u64,
    /// The ledger's id of the payment.
    pub payment_id: String,
    /// Whether it came or went back.
    pub side: Side,
    /// How much; positive.
    pub amount: Paise,
    /// The account's number; empty where the statement does not tell it.
    pub account_number: String,
    /// What the channel kept of it.
    pub fee: Paise,
    /// The transfer to the bank that it is part of (UTR); empty where it is part of none yet.
    pub settlement: String,
}

/// A transfer by the bank's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankRow {
    /// Reference of the transfer (UTR).
    pub settlement: String,
    /// What came; negative where more went back than came.
    pub amount: Paise,
}

/// Reads the statement of a channel. Columns, in any order: `payment_id`, `amount_rupees`, and if they are there `kind`
/// (`payment`, as without it, or `refund`), `account_number`, `fee_rupees`, `settlement` and `collector` (as in a file of collections).
///
/// # Errors
/// [`ImportError::Lines`] with every fault by line and column.
pub fn read_statement(csv: impl Read, channel: MoneyChannel) -> Result<Vec<StatementRow>, ImportError> {
    read(csv, STATEMENT, |line, faults| {
        let id = payment_id(line, [PAYMENT, COLLECTOR], &STATEMENT, channel, faults);
        let amount = rupees(line, AMOUNT, STATEMENT[AMOUNT].name, faults);
        let side = match line.field(KIND) {
            "" | "payment" => Some(Side::Payment),
            "refund" => Some(Side::Refund),
            _ => {
                faults.add(line.number, STATEMENT[KIND].name, "neither payment nor refund");
                None
            }
        };
        let fee = match line.field(FEE) {
            "" => Some(0),
            text => money(text, line.number, STATEMENT[FEE].name, faults),
        };
        Some(StatementRow {
            line: line.number,
            payment_id: id?,
            side: side?,
            amount: Paise(amount?),
            account_number: line.field(ACCOUNT).to_owned(),
            fee: Paise(fee?),
            settlement: line.field(SETTLEMENT).to_owned(),
        })
    })
}

/// Reads the bank's statement. Columns, in any order: `settlement` and `amount_rupees`.
///
/// # Errors
/// [`ImportError::Lines`] with every fault by line and column.
pub fn read_bank(csv: impl Read) -> Result<Vec<BankRow>, ImportError> {
    read(csv, BANK, |line, faults| {
        let settlement = line.field(0).to_owned();
        if settlement.is_empty() {
            faults.add(line.number, BANK[0].name, "is empty");
        }
        let amount = money(line.field(1), line.number, BANK[1].name, faults)?;
        Some(BankRow { settlement, amount: Paise(amount) })
    })
}

fn money(text: &str, line: u64, name: &'static str, faults: &mut BadLines) -> Option<i64> {
    let amount = scaled(text, 2).map_err(|error| faults.add(line, name, error)).ok()?;
    // The sum of as many lines as are read stays far inside of an i64.
    let is_sane = amount.unsigned_abs() <= MAX_MONEY_PAISE;
    if !is_sane {
        faults.add(line, name, format_args!("{text} is out of range"));
    }
    is_sane.then_some(amount)
}

/// Largest transfer, paise: ten thousand crore rupees.
const MAX_MONEY_PAISE: u64 = 10_000_000_000_000;

fn read<R, const N: usize>(
    csv: impl Read,
    columns: [Column; N],
    parse: impl Fn(&Line<N>, &mut BadLines) -> Option<R>,
) -> Result<Vec<R>, ImportError> {
    let mut faults = BadLines::default();
    let mut table = Table::open(csv, columns, &mut faults)?;
    let mut rows = Vec::new();
    loop {
        let lines = table.next_chunk(&mut faults)?;
        if lines.is_empty() {
            break;
        }
        rows.extend(lines.iter().filter_map(|line| parse(line, &mut faults)));
    }
    if faults.is_empty() { Ok(rows) } else { Err(ImportError::Lines(faults)) }
}
