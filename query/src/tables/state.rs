//! Tables made of the pinned state: meters, accounts, balances, gaps, counts of frames, files.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use lake::Column;
use lake::table::instant_type;
use model::view::AccountView;
use model::{AccountId, CivilDay, Instant, ReadingKind, Source};

use super::{PUBLIC, SYSTEM};
use crate::{Pinned, Wants};

/// A table made of the pinned state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateTable {
    Meter,
    Account,
    AccountState,
    AccountDay,
    Gap,
    SystemGaps,
    SourceTally,
    SupplyCommand,
    Standing,
    Files,
}

impl StateTable {
    pub(crate) const ALL: [StateTable; 10] = [
        StateTable::Meter,
        StateTable::Account,
        StateTable::AccountState,
        StateTable::AccountDay,
        StateTable::Gap,
        StateTable::SystemGaps,
        StateTable::SourceTally,
        StateTable::SupplyCommand,
        StateTable::Standing,
        StateTable::Files,
    ];

    /// Schema and name.
    pub(crate) fn place(self) -> (&'static str, &'static str) {
        match self {
            StateTable::Meter => (PUBLIC, "meter"),
            StateTable::Account => (PUBLIC, "account"),
            StateTable::AccountState => (PUBLIC, "account_state"),
            StateTable::AccountDay => (PUBLIC, "account_day"),
            StateTable::Gap => (PUBLIC, "gap"),
            StateTable::SystemGaps => (SYSTEM, "gaps"),
            StateTable::SourceTally => (PUBLIC, "source_tally"),
            StateTable::SupplyCommand => (PUBLIC, "supply_command"),
            StateTable::Standing => (SYSTEM, "standing"),
            StateTable::Files => (SYSTEM, "files"),
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            StateTable::Meter => "Meters: registered, and as heard so far. No keys.",
            StateTable::Account => {
                "Accounts and the terms they are charged under. No names and no mobile numbers."
            }
            StateTable::AccountState => {
                "Money and energy of each account now, in paise and Wh; the view balance is for people."
            }
            StateTable::AccountDay => {
                "Energy and charge of the last closed day and the open days after it, by account."
            }
            StateTable::Gap | StateTable::SystemGaps => {
                "Readings that have not arrived: runs of missing slots of a meter."
            }
            StateTable::SourceTally => {
                "Frames by the way they came; the view conservation compares the sums."
            }
            StateTable::SupplyCommand => {
                "Cuts for a balance and reconnections after them, with the time of each step: the newest 200,000."
            }
            StateTable::Standing => "The position this answer is as of, and where the books stand. One row.",
            StateTable::Files => "Data files this answer may read.",
        }
    }

    /// What must be pinned for it.
    pub(crate) fn wants(self) -> Wants {
        let none = Wants::default();
        match self {
            StateTable::Meter => Wants { meters: true, ..none },
            StateTable::Account | StateTable::AccountState | StateTable::AccountDay => {
                Wants { accounts: true, ..none }
            }
            StateTable::Gap | StateTable::SystemGaps => Wants { gaps: true, ..none },
            StateTable::SourceTally => Wants { tallies: true, ..none },
            StateTable::SupplyCommand => Wants { supply: true, ..none },
            StateTable::Standing | StateTable::Files => none,
        }
    }

    pub(crate) fn columns(self) -> Vec<Column> {
        match self {
            StateTable::Meter => meter_columns(),
            StateTable::Account => account_columns(),
            StateTable::AccountState => account_state_columns(),
            StateTable::AccountDay => account_day_columns(),
            StateTable::Gap | StateTable::SystemGaps => gap_columns(),
            StateTable::SourceTally => tally_columns(),
            StateTable::SupplyCommand => supply_columns(),
            StateTable::Standing => standing_columns(),
            StateTable::Files => file_columns(),
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        let fields = self
            .columns()
            .into_iter()
            .map(|column| Field::new(column.name, column.data_type, column.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// All its rows.
    pub(crate) fn rows(self, pinned: &Pinned) -> Result<RecordBatch, ArrowError> {
        let columns = match self {
            StateTable::Meter => meters(pinned),
            StateTable::Account => accounts(pinned),
            StateTable::AccountState => account_states(pinned),
            StateTable::AccountDay => account_days(pinned),
            StateTable::Gap | StateTable::SystemGaps => gaps(pinned),
            StateTable::SourceTally => tallies(pinned),
            StateTable::SupplyCommand => supply(pinned),
            StateTable::Standing => standing(pinned),
            StateTable::Files => files(pinned),
        };
        RecordBatch::try_new(self.schema(), columns)
    }
}

fn always(name: &'static str, data_type: DataType, comment: &'static str) -> Column {
    Column { name, data_type, nullable: false, unit: None, comment }
}

fn maybe(name: &'static str, data_type: DataType, comment: &'static str) -> Column {
    Column { nullable: true, ..always(name, data_type, comment) }
}

fn with_unit(unit: &'static str, column: Column) -> Column {
    Column { unit: Some(unit), ..column }
}

fn integers<T: TryInto<i64>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    let held = values.map(|value| value.map(|value| value.try_into().unwrap_or(i64::MAX)));
    Arc::new(held.collect::<Int64Array>())
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn instants(values: impl Iterator<Item = Option<Instant>>) -> ArrayRef {
    let micros: TimestampMicrosecondArray = values.map(|value| value.map(|instant| instant.0)).collect();
    Arc::new(micros.with_timezone("UTC"))
}

fn days(values: impl Iterator<Item = Option<CivilDay>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|day| day.0)).collect::<Date32Array>())
}

fn meter_columns() -> Vec<Column> {
    vec![
        always("meter_id", DataType::Int64, "the meter: a dense number given at registration, never reused"),
        always("system_title", DataType::Utf8, "DLMS system title, hexadecimal"),
        always("serial", DataType::Utf8, "serial number on the name plate"),
        always("profile", DataType::Utf8, "name of the meter's type"),
        maybe("account_id", DataType::Int64, "the account it measures for"),
        with_unit("s", always("period_s", DataType::Int64, "capture period of its intervals")),
        with_unit("UTC", maybe("heard_at", instant_type(), "when it was last heard with fresh data")),
        maybe("counter", DataType::Int64, "highest invocation counter accepted under the present keys"),
        with_unit(
            "UTC",
            maybe("complete_until", instant_type(), "end of the last interval before the first one missing"),
        ),
    ]
}

fn meters(pinned: &Pinned) -> Vec<ArrayRef> {
    let all = || pinned.meters.iter();
    vec![
        integers(all().map(|meter| Some(meter.view.meter.0))),
        texts(all().map(|meter| Some(meter.title.to_string()))),
        texts(all().map(|meter| Some(&meter.serial))),
        texts(all().map(|meter| Some(&meter.profile))),
        integers(all().map(|meter| meter.view.account.or(meter.account).map(|account| account.0))),
        integers(all().map(|meter| Some(meter.view.period_s))),
        instants(all().map(|meter| meter.view.heard_at)),
        integers(all().map(|meter| meter.view.counter)),
        instants(all().map(|meter| meter.view.complete_until)),
    ]
}

fn account_id() -> Column {
    always("account_id", DataType::Int64, "the account: a dense number given at registration, never reused")
}

fn account_columns() -> Vec<Column> {
    vec![
        account_id(),
        always("account_number", DataType::Utf8, "number on the consumer's bill"),
        always("category", DataType::Utf8, "category it was registered with, which is the name of a tariff"),
        always(
            "division",
            DataType::Utf8,
            "part of the distribution company; the company where none was said",
        ),
        maybe("connection", DataType::Utf8, "prepaid or postpaid"),
        maybe("tariff", DataType::Utf8, "name of the tariff it is charged under"),
        with_unit("W", maybe("sanctioned_w", DataType::Int64, "sanctioned load")),
    ]
}

/// The registry's accounts, each with the fold's view where its terms have reached the fold.
fn accounts(pinned: &Pinned) -> Vec<ArrayRef> {
    let mut views: Vec<&AccountView> = pinned.accounts.iter().collect();
    views.sort_unstable_by_key(|view| view.account);
    let view = |account: AccountId| {
        views.binary_search_by_key(&account, |view| view.account).ok().map(|at| views[at])
    };
    let all = || pinned.account_entries.iter();
    vec![
        integers(all().map(|entry| Some(entry.account.0))),
        texts(all().map(|entry| Some(&entry.number))),
        texts(all().map(|entry| Some(&entry.category))),
        texts(all().map(|entry| Some(&entry.division))),
        texts(all().map(|entry| view(entry.account).map(|view| view.connection.name()))),
        texts(all().map(|entry| view(entry.account).map(|view| &view.tariff))),
        integers(all().map(|entry| view(entry.account).map(|view| view.sanctioned_w))),
    ]
}

fn account_state_columns() -> Vec<Column> {
    vec![
        account_id(),
        with_unit(
            "paise",
            always(
                "booked_paise",
                DataType::Int64,
                "all postings: openings, recharges, closed days, corrections",
            ),
        ),
        with_unit(
            "paise",
            always("accrued_paise", DataType::Int64, "charge to date of the days that are not closed"),
        ),
        with_unit("paise", always("balance_paise", DataType::Int64, "booked less accrued: what is left")),
        with_unit("paise", always("arrears_paise", DataType::Int64, "old dues beside the balance")),
        with_unit("Wh", always("month_energy_wh", DataType::Int64, "energy of the open month to date")),
        with_unit("W", always("month_demand_w", DataType::Int64, "highest demand of the open month")),
        with_unit("paise", maybe("last_recharge_paise", DataType::Int64, "amount of the last recharge")),
        with_unit("UTC", maybe("last_recharge_at", instant_type(), "when the last recharge was received")),
        with_unit("civil day", maybe("booked_until", DataType::Date32, "last day that was booked")),
        always("tariff", DataType::Utf8, "tariff it is charged under"),
        maybe("tariff_digest", DataType::Utf8, "version of the tariff in force, hexadecimal"),
        with_unit("UTC", maybe("heard_at", instant_type(), "when its meter was last heard with fresh data")),
        always(
            "notice_reached",
            DataType::Int64,
            "how far the booked balance is down: 0, an alert's number, 255 used up",
        ),
        always("notice_told", DataType::Int64, "how far the consumer was told, in the same numbers"),
        with_unit(
            "UTC",
            maybe("used_up_told_at", instant_type(), "when the consumer was told that it is used up"),
        ),
        always("silent_days", DataType::Int64, "days booked in a row without data of its meter"),
        always("as_of_position", DataType::Int64, "position of the last record in these figures"),
        with_unit("UTC", always("as_of", instant_type(), "when these figures were taken")),
    ]
}

fn account_states(pinned: &Pinned) -> Vec<ArrayRef> {
    let all = || pinned.accounts.iter();
    vec![
        integers(all().map(|view| Some(view.account.0))),
        integers(all().map(|view| Some(view.booked.0))),
        integers(all().map(|view| Some(view.accrued.0))),
        integers(all().map(|view| Some(view.balance().0))),
        integers(all().map(|view| Some(view.arrears.0))),
        integers(all().map(|view| Some(view.month_energy_wh))),
        integers(all().map(|view| Some(view.month_demand_w))),
        integers(all().map(|view| view.last_recharge.map(|(amount, _)| amount.0))),
        instants(all().map(|view| view.last_recharge.map(|(_, at)| at))),
        days(all().map(|view| view.booked_until)),
        texts(all().map(|view| Some(&view.tariff))),
        texts(all().map(|view| view.tariff_digest.map(|digest| digest.to_string()))),
        instants(all().map(|view| view.heard_at)),
        integers(all().map(|view| Some(view.credit.reached.0))),
        integers(all().map(|view| Some(view.credit.told.0))),
        instants(all().map(|view| view.credit.used_up_told_at)),
        integers(all().map(|view| Some(view.credit.silent_days))),
        integers(all().map(|_| Some(pinned.position.0))),
        instants(all().map(|_| Some(pinned.taken_at))),
    ]
}

fn account_day_columns() -> Vec<Column> {
    vec![
        account_id(),
        with_unit("civil day", always("usage_date", DataType::Date32, "the day")),
        with_unit("Wh", always("energy_wh", DataType::Int64, "energy imported so far")),
        with_unit(
            "paise",
            always("charge_paise", DataType::Int64, "booked for a closed day, accrued for an open one"),
        ),
        always("closed", DataType::Boolean, "whether the day is closed"),
    ]
}

fn account_days(pinned: &Pinned) -> Vec<ArrayRef> {
    let all =
        || pinned.accounts.iter().flat_map(|view| view.recent.iter().map(move |day| (view.account, day)));
    vec![
        integers(all().map(|(account, _)| Some(account.0))),
        days(all().map(|(_, day)| Some(day.day))),
        integers(all().map(|(_, day)| Some(day.energy_wh))),
        integers(all().map(|(_, day)| Some(day.charge.0))),
        Arc::new(all().map(|(_, day)| Some(day.closed)).collect::<BooleanArray>()),
    ]
}

fn gap_columns() -> Vec<Column> {
    vec![
        always("meter_id", DataType::Int64, "the meter"),
        always("kind", DataType::Utf8, "what is missing: interval, daily"),
        with_unit("UTC", always("first_end", instant_type(), "end of the first missing interval")),
        with_unit("UTC", always("last_end", instant_type(), "end of the last missing interval")),
        always("slots", DataType::Int64, "number of missing readings"),
    ]
}

fn gaps(pinned: &Pinned) -> Vec<ArrayRef> {
    let all = || pinned.gaps.iter();
    vec![
        integers(all().map(|gap| Some(gap.meter.0))),
        texts(all().map(|gap| Some(kind_name(gap.kind)))),
        instants(all().map(|gap| Some(gap.first_end))),
        instants(all().map(|gap| Some(gap.last_end))),
        integers(all().map(|gap| Some(gap.slots))),
    ]
}

fn kind_name(kind: ReadingKind) -> &'static str {
    match kind {
        ReadingKind::Interval => "interval",
        ReadingKind::Daily => "daily",
        ReadingKind::Instant => "instant",
    }
}

fn tally_columns() -> Vec<Column> {
    vec![
        always("source", DataType::Utf8, "the way the frames came: tcp, udp, mqtt, waiting"),
        always("received", DataType::Int64, "frames received whole"),
        always("stored", DataType::Int64, "of these, brought a new value, a revision or an event"),
        always("repeated", DataType::Int64, "of these, redelivered or nothing new"),
        always("quarantined", DataType::Int64, "of these, kept as evidence without effect"),
        always("refused", DataType::Int64, "of these, turned away at a bound"),
        always("contested", DataType::Int64, "of these, waiting for the answer to a contested reading"),
    ]
}

fn tallies(pinned: &Pinned) -> Vec<ArrayRef> {
    let all = || pinned.tallies.iter();
    vec![
        texts(Source::ALL.into_iter().map(|source| Some(source.name()))),
        integers(all().map(|tally| Some(tally.received))),
        integers(all().map(|tally| Some(tally.stored))),
        integers(all().map(|tally| Some(tally.repeated))),
        integers(all().map(|tally| Some(tally.quarantined))),
        integers(all().map(|tally| Some(tally.refused))),
        integers(all().map(|tally| Some(tally.contested))),
    ]
}

fn supply_columns() -> Vec<Column> {
    let at = |name, comment| with_unit("UTC", maybe(name, instant_type(), comment));
    let always_at = |name, comment| with_unit("UTC", always(name, instant_type(), comment));
    vec![
        always("command_id", DataType::Utf8, "UUID"),
        account_id(),
        always("meter_id", DataType::Int64, "the meter whose relay it is for"),
        always("kind", DataType::Utf8, "cut or reconnect"),
        always(
            "reason",
            DataType::Utf8,
            "balance; of a reconnection paid, corrected, not_prepaid or protected",
        ),
        always(
            "state",
            DataType::Utf8,
            "queued, sent, ready (the button is to be pressed), confirmed; or over without that: cancelled, expired, \
             refused, failed, open_already, overtaken",
        ),
        always("tries", DataType::Int64, "how often the meter was asked"),
        always_at("since", "when its cause arose: of a reconnection, when the money was credited"),
        always_at("queued_at", "when it was queued"),
        at("sent_at", "when it first went out"),
        at("ready_at", "when the meter first waited for its button"),
        at("confirmed_at", "when the relay was read back as it should be"),
        at("event_at", "when the relay moved by the meter's own log"),
        at("ended_at", "when it was over"),
        at("restored_at", "of a cut: when supply was back"),
        always("said", DataType::Utf8, "what was last said of it"),
        always("evidence", DataType::Utf8, "what it was decided on, JSON"),
    ]
}

fn supply(pinned: &Pinned) -> Vec<ArrayRef> {
    let all = || pinned.supply.iter();
    vec![
        texts(all().map(|command| Some(&command.id))),
        integers(all().map(|command| Some(command.account.0))),
        integers(all().map(|command| Some(command.meter.0))),
        texts(all().map(|command| Some(command.kind))),
        texts(all().map(|command| Some(&command.reason))),
        texts(all().map(|command| Some(command.state))),
        integers(all().map(|command| Some(command.tries))),
        instants(all().map(|command| Some(command.since))),
        instants(all().map(|command| Some(command.queued_at))),
        instants(all().map(|command| command.sent_at)),
        instants(all().map(|command| command.ready_at)),
        instants(all().map(|command| command.confirmed_at)),
        instants(all().map(|command| command.event_at)),
        instants(all().map(|command| command.ended_at)),
        instants(all().map(|command| command.restored_at)),
        texts(all().map(|command| Some(&command.said))),
        texts(all().map(|command| Some(&command.evidence))),
    ]
}

fn standing_columns() -> Vec<Column> {
    vec![
        always("position", DataType::Int64, "last record in every table and balance of this answer"),
        with_unit("UTC", always("taken_at", instant_type(), "when the position was taken")),
        with_unit("civil day", maybe("closed_until", DataType::Date32, "last day closed for all accounts")),
        with_unit(
            "paise",
            always(
                "trial_balance_paise",
                DataType::Int64,
                "sum of all postings over all heads; zero, or the ledger is broken",
            ),
        ),
        with_unit(
            "ms",
            always("waited_ms", DataType::Int64, "how long this statement waited for the position"),
        ),
    ]
}

fn standing(pinned: &Pinned) -> Vec<ArrayRef> {
    let standing = pinned.standing;
    vec![
        integers([Some(pinned.position.0)].into_iter()),
        instants([Some(pinned.taken_at)].into_iter()),
        days([standing.closed_until].into_iter()),
        integers([Some(standing.trial_balance.0)].into_iter()),
        integers([Some(pinned.waited.as_millis())].into_iter()),
    ]
}

fn file_columns() -> Vec<Column> {
    vec![
        always("table_name", DataType::Utf8, "table of the lake"),
        always("version", DataType::Int64, "version of the Delta table"),
        always("file_name", DataType::Utf8, "name of the file"),
        with_unit("civil day", maybe("usage_date", DataType::Date32, "partition it lies in")),
        always("row_count", DataType::Int64, "rows in it"),
        with_unit("B", always("file_bytes", DataType::Int64, "its length")),
        always("position_min", DataType::Int64, "lowest position in it"),
        always("position_max", DataType::Int64, "highest position in it"),
    ]
}

fn files(pinned: &Pinned) -> Vec<ArrayRef> {
    let all =
        || pinned.lake.tables.iter().flat_map(|table| table.files.iter().map(move |file| (table, file)));
    vec![
        texts(all().map(|(table, _)| Some(table.table.name()))),
        integers(all().map(|(table, _)| Some(table.version))),
        texts(
            all().map(|(_, file)| {
                file.path.file_name().map(|name| name.to_string_lossy()).or(Some("".into()))
            }),
        ),
        days(all().map(|(_, file)| file.usage_date.map(CivilDay))),
        integers(all().map(|(_, file)| Some(file.rows))),
        integers(all().map(|(_, file)| Some(file.bytes))),
        integers(all().map(|(_, file)| Some(file.position_min))),
        integers(all().map(|(_, file)| Some(file.position_max))),
    ]
}
