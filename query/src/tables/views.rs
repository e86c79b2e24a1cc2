//! The views: files of `views/`, each with a heading that says what it shows and what its columns mean.
//!
//! A heading is the comment at the top of the file: sentences about the view, then one line a column,
//! `-- name | unit | meaning`, with `-` where there is no unit. It is what `system.columns` shows.

use std::collections::{BTreeSet, HashMap};

use datafusion::sql::parser::Statement;

use super::{PUBLIC, SYSTEM};
use crate::QueryError;
use crate::gate::{self, Mentions};

/// Name and text, each after those it refers to.
const FILES: [(&str, &str); 13] = [
    ("interval", include_str!("../../views/interval.sql")),
    ("daily_register", include_str!("../../views/daily_register.sql")),
    ("daily_usage", include_str!("../../views/daily_usage.sql")),
    ("monthly_usage", include_str!("../../views/monthly_usage.sql")),
    ("balance", include_str!("../../views/balance.sql")),
    ("trial_balance", include_str!("../../views/trial_balance.sql")),
    ("journal_voucher", include_str!("../../views/journal_voucher.sql")),
    ("statement", include_str!("../../views/statement.sql")),
    ("bill_entry", include_str!("../../views/bill_entry.sql")),
    ("monthly_bill", include_str!("../../views/monthly_bill.sql")),
    ("revenue", include_str!("../../views/revenue.sql")),
    ("receipt", include_str!("../../views/receipt.sql")),
    ("conservation", include_str!("../../views/conservation.sql")),
];

/// A view, parsed.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) statement: Statement,
    pub(crate) heading: Heading,
    mentions: Mentions,
}

/// What the comment at the top of a view's file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) description: String,
    pub(crate) columns: Vec<ColumnWords>,
}

/// A line of a heading about a column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ColumnWords {
    pub(crate) name: String,
    pub(crate) unit: Option<String>,
    pub(crate) comment: String,
}

/// All views, in an order in which they can be planned.
#[derive(Debug)]
pub(crate) struct Views {
    all: Vec<View>,
    weights: HashMap<&'static str, u64>,
}

impl Views {
    /// Parses the files.
    pub(crate) fn load() -> Result<Views, QueryError> {
        let mut views = Views { all: Vec::new(), weights: HashMap::new() };
        for (name, text) in FILES {
            let admitted = gate::admit(text, &|table| views.weight(table))?;
            views.weights.insert(name, admitted.mentions.relations);
            let heading = heading(text);
            views.all.push(View {
                name,
                text,
                statement: admitted.statement,
                heading,
                mentions: admitted.mentions,
            });
        }
        Ok(views)
    }

    /// How many tables a table of that name stands for.
    pub(crate) fn weight(&self, table: &str) -> u64 {
        self.weights.get(table).copied().unwrap_or(1)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &View> {
        self.all.iter()
    }

    /// Adds to the tables a statement refers to those that the views among them refer to.
    pub(crate) fn close(&self, tables: &mut BTreeSet<(String, String)>) {
        for view in self.all.iter().rev() {
            if tables.contains(&(PUBLIC.to_owned(), view.name.to_owned())) {
                tables.extend(view.mentions.tables.iter().cloned());
            }
        }
    }
}

/// Whether a table shows columns of all others, so that all must be there.
pub(crate) fn shows_all(schema: &str, table: &str) -> bool {
    schema == "information_schema" || (schema == SYSTEM && ["columns", "tables"].contains(&table))
}

fn heading(text: &str) -> Heading {
    let comments = text.lines().map_while(|line| line.strip_prefix("--")).map(str::trim);
    let mut heading = Heading::default();
    for line in comments {
        match line.split(" | ").map(str::trim).collect::<Vec<_>>()[..] {
            [name, unit, comment] => heading.columns.push(ColumnWords {
                name: name.to_owned(),
                unit: (unit != "-").then(|| unit.to_owned()),
                comment: comment.to_owned(),
            }),
            _ if line.is_empty() || heading.description.is_empty() => heading.description.push_str(line),
            _ => heading.description.extend([" ", line]),
        }
    }
    heading
}
