//! The tables: names, columns, types, units and comments, in one place.
//!
//! From this the Arrow schema, the metadata of the Delta tables and the text of `schema.txt` are made; a test compares
//! the text with the committed file, so no column changes unnoticed.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use model::{Channel, Row};

/// Name of the column by which the tables of readings are partitioned.
pub const USAGE_DATE: &str = "usage_date";

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Accepted and repeated frames.
    Frame = 0,
    /// First value of each interval.
    IntervalReading = 1,
    /// Later, different values of intervals and days.
    IntervalRevision = 2,
    /// First value of each day's registers.
    DailyReading = 3,
    /// Values of one moment.
    InstantReading = 4,
    /// Changes of the event status word.
    Event = 5,
    /// Frames without effect, kept as evidence.
    Quarantine = 6,
    /// Lines of the ledger.
    LedgerPosting = 7,
    /// Records as they stand in the journal, where no other table gives them back.
    Fact = 8,
}

impl Table {
    /// All of them, by index.
    pub const ALL: [Table; 9] = [
        Table::Frame,
        Table::IntervalReading,
        Table::IntervalRevision,
        Table::DailyReading,
        Table::InstantReading,
        Table::Event,
        Table::Quarantine,
        Table::LedgerPosting,
        Table::Fact,
    ];

    /// Place in arrays kept by table.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name in SQL and of the folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Frame => "frame",
            Table::IntervalReading => "interval_reading",
            Table::IntervalRevision => "interval_revision",
            Table::DailyReading => "daily_reading",
            Table::InstantReading => "instant_reading",
            Table::Event => "event",
            Table::Quarantine => "quarantine",
            Table::LedgerPosting => "ledger_posting",
            Table::Fact => "fact",
        }
    }

    /// The table of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// What a row of it is.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Table::Frame => {
                "One row a frame that was accepted from a registered meter or recognised as a redelivery. Readings, \
                 events and postings are traced to their frame by position."
            }
            Table::IntervalReading => {
                "First value received for each interval of a meter (block load profile). Later, different values are \
                 in interval_revision; the view interval shows what is in force."
            }
            Table::IntervalRevision => {
                "Values of intervals and days that came after, and differ from, the first. In force is, per channel, \
                 the value with the highest rank: rank_class, key_epoch, counter, frame_digest."
            }
            Table::DailyReading => {
                "First value received for the registers a meter captured at midnight (daily load profile)."
            }
            Table::InstantReading => {
                "Values of one moment (instantaneous profile): registers and present supply."
            }
            Table::Event => {
                "Changes of a meter's event status word: one row a flag that went up (occurred) or down (restored)."
            }
            Table::Quarantine => {
                "Frames that had no effect, whole and with the reason, so that they can be decoded again."
            }
            Table::LedgerPosting => {
                "Lines of the double-entry ledger, in paise. The lines of a position and account sum to zero; nothing \
                 is ever updated or deleted."
            }
            Table::Fact => {
                "Records of the journal as they are, where the other tables do not give them back whole: terms, \
                 tariffs, recharges, closed days, answers to contested readings and the frames that brought them."
            }
        }
    }

    /// Its columns, in order. In a partitioned table `usage_date` is the last.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        &COLUMNS[self.index()]
    }

    /// Its Arrow schema; what the hot batches have and what a reader of the files gives once `usage_date` is added.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        Arc::clone(&SCHEMAS[self.index()])
    }

    /// The schema of its Parquet files: without `usage_date` where that is the partition.
    #[must_use]
    pub fn file_schema(self) -> SchemaRef {
        Arc::clone(&FILE_SCHEMAS[self.index()])
    }

    /// Whether its files lie in a folder for each `usage_date`.
    #[must_use]
    pub fn is_partitioned(self) -> bool {
        matches!(self, Table::IntervalReading | Table::IntervalRevision | Table::DailyReading)
    }

    /// The columns its files are sorted by.
    #[must_use]
    pub fn sorted_by(self) -> &'static [&'static str] {
        match self {
            Table::IntervalReading | Table::IntervalRevision => &["meter_id", "interval_end", "position"],
            Table::DailyReading | Table::InstantReading => &["meter_id", "read_at", "position"],
            Table::LedgerPosting => &["position", "line"],
            Table::Frame | Table::Event | Table::Quarantine | Table::Fact => &["position"],
        }
    }

    /// The column that says whose a row is: its files carry a bloom filter on it.
    #[must_use]
    pub fn owner_column(self) -> Option<&'static str> {
        match self {
            Table::Fact => None,
            Table::LedgerPosting => Some("account_id"),
            _ => Some("meter_id"),
        }
    }

    /// The column with the instant a row is about.
    #[must_use]
    pub fn time_column(self) -> &'static str {
        match self {
            Table::Frame | Table::Quarantine | Table::Fact => "received_at",
            Table::IntervalReading | Table::IntervalRevision => "interval_end",
            Table::DailyReading | Table::InstantReading => "read_at",
            Table::Event => "event_at",
            Table::LedgerPosting => "booked_at",
        }
    }

    /// The channels it has columns for; others go into `other_channels`.
    #[must_use]
    pub fn channels(self) -> &'static [Channel] {
        match self {
            Table::IntervalReading => &INTERVAL_CHANNELS,
            Table::DailyReading => &DAILY_CHANNELS,
            Table::IntervalRevision => &REVISION_CHANNELS,
            Table::InstantReading => &Channel::ALL,
            _ => &[],
        }
    }

    /// The table a row belongs to.
    #[must_use]
    pub fn of(row: &Row) -> Table {
        match row {
            Row::Frame(_) => Table::Frame,
            Row::Interval(_) => Table::IntervalReading,
            Row::Revision(_) => Table::IntervalRevision,
            Row::Daily(_) => Table::DailyReading,
            Row::Instant(_) => Table::InstantReading,
            Row::Event(_) => Table::Event,
            Row::Quarantine(_) => Table::Quarantine,
            Row::Posting(_) => Table::LedgerPosting,
            Row::Fact(_) => Table::Fact,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in SQL; the unit is its last word.
    pub name: &'static str,
    /// Arrow type.
    pub data_type: DataType,
    /// Whether it may be empty.
    pub nullable: bool,
    /// Unit of the values, for example `Wh`.
    pub unit: Option<&'static str>,
    /// What the values mean.
    pub comment: &'static str,
}

impl Column {
    fn unit(mut self, unit: &'static str) -> Column {
        self.unit = Some(unit);
        self
    }

    fn nullable(mut self) -> Column {
        self.nullable = true;
        self
    }

    fn field(&self) -> Field {
        Field::new(self.name, self.data_type.clone(), self.nullable)
    }
}

/// The committed description of all tables: table, column, type, unit and comment.
#[must_use]
pub fn schema_text() -> String {
    let mut text = String::from(
        "# Tables of the lake. Generated from table.rs; a test keeps it true.\n\
         # column | type | empty? | unit | meaning\n",
    );
    for table in Table::ALL {
        let partition = if table.is_partitioned() { "; partitioned by usage_date" } else { "" };
        text.push_str(&format!("\n## {table}\n{}\n", table.description()));
        text.push_str(&format!("Files sorted by {}{partition}.\n\n", table.sorted_by().join(", ")));
        for column in table.columns() {
            let nullable = if column.nullable { "nullable" } else { "always" };
            let unit = column.unit.unwrap_or("-");
            let data_type = type_name(&column.data_type);
            text.push_str(&format!(
                "{} | {data_type} | {nullable} | {unit} | {}\n",
                column.name, column.comment
            ));
        }
    }
    text
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "int64",
        DataType::Int32 => "int32",
        DataType::Int16 => "int16",
        DataType::Boolean => "boolean",
        DataType::Date32 => "date",
        DataType::Binary => "binary",
        DataType::Utf8 => "text",
        DataType::Timestamp(_, _) => "timestamp(us, UTC)",
        _ => "other",
    }
}

/// Type of every instant: microseconds, UTC, never naive.
#[must_use]
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

const INTERVAL_CHANNELS: [Channel; 19] = [
    Channel::ImportWh,
    Channel::ExportWh,
    Channel::ImportVah,
    Channel::ExportVah,
    Channel::VoltageDv,
    Channel::VoltageRDv,
    Channel::VoltageYDv,
    Channel::VoltageBDv,
    Channel::CurrentMa,
    Channel::NeutralCurrentMa,
    Channel::CurrentRMa,
    Channel::CurrentYMa,
    Channel::CurrentBMa,
    Channel::PowerFactorMilli,
    Channel::ReactiveQ1Varh,
    Channel::ReactiveQ2Varh,
    Channel::ReactiveQ3Varh,
    Channel::ReactiveQ4Varh,
    Channel::MeterHealth,
];

const DAILY_CHANNELS: [Channel; 10] = [
    Channel::ImportWh,
    Channel::ExportWh,
    Channel::ImportVah,
    Channel::ExportVah,
    Channel::DemandW,
    Channel::DemandVa,
    Channel::ReactiveQ1Varh,
    Channel::ReactiveQ2Varh,
    Channel::ReactiveQ3Varh,
    Channel::ReactiveQ4Varh,
];

const REVISION_CHANNELS: [Channel; 21] = [
    Channel::ImportWh,
    Channel::ExportWh,
    Channel::ImportVah,
    Channel::ExportVah,
    Channel::VoltageDv,
    Channel::VoltageRDv,
    Channel::VoltageYDv,
    Channel::VoltageBDv,
    Channel::CurrentMa,
    Channel::NeutralCurrentMa,
    Channel::CurrentRMa,
    Channel::CurrentYMa,
    Channel::CurrentBMa,
    Channel::PowerFactorMilli,
    Channel::DemandW,
    Channel::DemandVa,
    Channel::ReactiveQ1Varh,
    Channel::ReactiveQ2Varh,
    Channel::ReactiveQ3Varh,
    Channel::ReactiveQ4Varh,
    Channel::MeterHealth,
];

static COLUMNS: LazyLock<Vec<Vec<Column>>> =
    LazyLock::new(|| Table::ALL.into_iter().map(columns_of).collect());

static SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| {
    let schema =
        |columns: &Vec<Column>| Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()));
    COLUMNS.iter().map(schema).collect()
});

static FILE_SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| {
    let in_file = |table: Table| {
        let columns =
            table.columns().iter().filter(|column| !(table.is_partitioned() && column.name == USAGE_DATE));
        Arc::new(Schema::new(columns.map(Column::field).collect::<Vec<_>>()))
    };
    Table::ALL.into_iter().map(in_file).collect()
});

fn column(name: &'static str, data_type: DataType, comment: &'static str) -> Column {
    Column { name, data_type, nullable: false, unit: None, comment }
}

fn position(comment: &'static str) -> Column {
    column("position", DataType::Int64, comment)
}

fn instant(name: &'static str, comment: &'static str) -> Column {
    column(name, instant_type(), comment).unit("UTC")
}

fn meter_id() -> Column {
    column("meter_id", DataType::Int64, "the meter: a dense number given at registration, never reused")
}

fn source() -> Column {
    column("source", DataType::Utf8, "the way it came: tcp, udp, mqtt, waiting")
}

fn usage_date(comment: &'static str) -> Column {
    column(USAGE_DATE, DataType::Date32, comment).unit("civil day")
}

fn columns_of(table: Table) -> Vec<Column> {
    match table {
        Table::Frame => frame_columns(),
        Table::IntervalReading => interval_columns(),
        Table::IntervalRevision => revision_columns(),
        Table::DailyReading => daily_columns(),
        Table::InstantReading => instant_columns(),
        Table::Event => event_columns(),
        Table::Quarantine => quarantine_columns(),
        Table::LedgerPosting => posting_columns(),
        Table::Fact => fact_columns(),
    }
}

fn frame_columns() -> Vec<Column> {
    vec![
        position("number of the frame's record in the journal; what it brought has the same position"),
        instant("received_at", "when the frame was received"),
        source(),
        meter_id(),
        column("key_epoch", DataType::Int32, "which of the meter's successive keys verified it"),
        column("counter", DataType::Int64, "invocation counter; empty for a plain frame").nullable(),
        column("digest", DataType::Binary, "first 16 bytes of the BLAKE3 hash of the frame"),
        column("repeated", DataType::Boolean, "a redelivery: acknowledged, otherwise without effect"),
        column("late", DataType::Boolean, "its counter lay below the window: readings only, no state"),
        column("frame_bytes", DataType::Int64, "length of the frame").unit("B"),
    ]
}

fn reading_columns() -> Vec<Column> {
    vec![
        column(
            "deviation_min",
            DataType::Int16,
            "deviation from UTC as the meter sent it; empty when not specified",
        )
        .unit("min")
        .nullable(),
        column(
            "clock_status",
            DataType::Int16,
            "clock status byte as the meter sent it; 255 when not specified",
        ),
        column(
            "quality",
            DataType::Int32,
            "bits: 1 clock_doubtful, 2 deviation_unexpected, 4 off_grid, 8 too_late, 16 counter_late, \
             32 unauthenticated, 64 estimated, 128 register_went_back, 256 future, 512 clock_drift",
        ),
    ]
}

fn other_channels() -> Column {
    column("other_channels", DataType::Utf8, "channels without a column here, as a JSON object of integers")
        .nullable()
}

fn interval_columns() -> Vec<Column> {
    let mut columns = vec![
        position("record that brought the value; the frame is the row of table frame with this position"),
        meter_id(),
        instant("interval_end", "end of the interval"),
    ];
    columns.extend(reading_columns());
    columns.extend(INTERVAL_CHANNELS.into_iter().map(|channel| channel_column(channel, Meaning::OfInterval)));
    columns.push(other_channels());
    columns
        .push(usage_date("civil day the interval is counted to: the day of the instant just before its end"));
    columns
}

fn revision_columns() -> Vec<Column> {
    let mut columns = vec![
        position("record of the answer that made it a revision"),
        column("frame_position", DataType::Int64, "position of the frame that brought the value"),
        column("kind", DataType::Utf8, "the profile it belongs to: interval, daily"),
        meter_id(),
        instant("interval_end", "end of the interval, or the midnight of the registers"),
    ];
    columns.extend(reading_columns());
    columns.extend([
        column(
            "rank_class",
            DataType::Int16,
            "first part of the rank: 1 estimate, 2 push, 3 on demand, 4 edit",
        ),
        column(
            "key_epoch",
            DataType::Int32,
            "second part of the rank: which of the meter's keys verified the frame",
        ),
        column(
            "counter",
            DataType::Int64,
            "third part of the rank: invocation counter, 0 where there was none",
        ),
        column("frame_digest", DataType::Binary, "last part of the rank: digest of the frame"),
    ]);
    columns.extend(REVISION_CHANNELS.into_iter().map(|channel| channel_column(channel, Meaning::OfKind)));
    columns.push(other_channels());
    columns.push(usage_date("civil day the value is counted to"));
    columns
}

fn daily_columns() -> Vec<Column> {
    let mut columns = vec![
        position("record that brought the value; the frame is the row of table frame with this position"),
        meter_id(),
        instant("read_at", "when the registers were captured; midnight closes the day before"),
    ];
    columns.extend(reading_columns());
    columns.extend(DAILY_CHANNELS.into_iter().map(|channel| channel_column(channel, Meaning::Register)));
    columns.push(other_channels());
    columns.push(usage_date("civil day the registers close: the day of the instant just before read_at"));
    columns
}

fn instant_columns() -> Vec<Column> {
    let mut columns = vec![
        position("record that brought the value; the frame is the row of table frame with this position"),
        meter_id(),
        instant("read_at", "when the values were captured"),
        usage_date("civil day of the capture"),
    ];
    columns.extend(reading_columns());
    columns.extend(Channel::ALL.into_iter().map(|channel| channel_column(channel, Meaning::Register)));
    columns
}

fn event_columns() -> Vec<Column> {
    vec![
        position("record that brought the event status word"),
        meter_id(),
        instant("event_at", "the meter's clock in the push, else when it was received"),
        instant("received_at", "when the frame was received"),
        column("bit", DataType::Int16, "number of the flag, 0 to 127 (IS 15959 event status word)"),
        column("occurred", DataType::Boolean, "true: it occurred; false: it was restored"),
        column("late", DataType::Boolean, "below the counter's window: evidence, not state"),
    ]
}

fn quarantine_columns() -> Vec<Column> {
    vec![
        position("number of the frame's record in the journal"),
        instant("received_at", "when the frame was received"),
        source(),
        column("system_title", DataType::Utf8, "system title the frame claims, hexadecimal").nullable(),
        meter_id().nullable(),
        column(
            "reason",
            DataType::Utf8,
            "why: unknown_title, undecodable, tag_mismatch, policy_refused, counter_reused, counter_forgotten, \
             profile_mismatch, identity_mismatch, no_terms, far_ahead, replaced_key, unasked",
        ),
        column("detail", DataType::Utf8, "kind and byte offset of the fault, or what else helps"),
        column("raw", DataType::Binary, "the frame as received"),
    ]
}

fn posting_columns() -> Vec<Column> {
    vec![
        position("record that made the entry"),
        column("line", DataType::Int32, "number of the line within the record, from 0"),
        instant("booked_at", "when the record was received"),
        column(
            "account_id",
            DataType::Int64,
            "the consumer's account: a dense number, never reused; 0 of money in suspense",
        ),
        column(
            "kind",
            DataType::Utf8,
            "what the entry is about: opening, recharge, usage, correction, arrears, reversal, suspense",
        ),
        usage_date("civil day charged, or the day of the money"),
        column(
            "head",
            DataType::Utf8,
            "account of the ledger: consumer, energy, fixed, subsidy, surcharge, duty, rebate, cash, migration, minimum, green, arrears, suspense",
        ),
        column(
            "amount_paise",
            DataType::Int64,
            "on head consumer positive raises the balance; the others balance it",
        )
        .unit("paise"),
        column("energy_wh", DataType::Int64, "energy the entry charges, on its consumer line")
            .unit("Wh")
            .nullable(),
        column("tariff_digest", DataType::Utf8, "tariff version that rated it, hexadecimal").nullable(),
        column(
            "payment_id",
            DataType::Utf8,
            "id of the payment at its source, for money in, back and in suspense",
        )
        .nullable(),
    ]
}

fn fact_columns() -> Vec<Column> {
    vec![
        position("number of the record in the journal"),
        instant("received_at", "when the record was received"),
        column(
            "kind",
            DataType::Utf8,
            "frame, resolved, meter_terms, account_terms, tariff_version, day_closed, recharge, credit_policy, notice_sent, arrears, payment_reversed, suspense_received, suspense_assigned, payment_misdirected",
        ),
        column("body", DataType::Binary, "the record's bytes as in the journal"),
    ]
}

/// What the energy channels of a table count.
#[derive(Clone, Copy)]
enum Meaning {
    OfInterval,
    Register,
    OfKind,
}

fn channel_column(channel: Channel, meaning: Meaning) -> Column {
    let (unit, comment) = channel_words(channel, meaning);
    let column = column(channel.name(), DataType::Int64, comment).nullable();
    unit.map_or(column.clone(), |unit| column.unit(unit))
}

fn channel_words(channel: Channel, meaning: Meaning) -> (Option<&'static str>, &'static str) {
    let by_meaning = |interval, register, both| match meaning {
        Meaning::OfInterval => interval,
        Meaning::Register => register,
        Meaning::OfKind => both,
    };
    match channel {
        Channel::ImportWh => (
            Some("Wh"),
            by_meaning(
                "active energy imported in the interval",
                "register of active energy imported",
                "active energy imported: of the interval, or the register of the day",
            ),
        ),
        Channel::ExportWh => (
            Some("Wh"),
            by_meaning(
                "active energy exported in the interval",
                "register of active energy exported",
                "active energy exported: of the interval, or the register of the day",
            ),
        ),
        Channel::ImportVah => (
            Some("VAh"),
            by_meaning(
                "apparent energy imported in the interval",
                "register of apparent energy imported",
                "apparent energy imported: of the interval, or the register of the day",
            ),
        ),
        Channel::ExportVah => (
            Some("VAh"),
            by_meaning(
                "apparent energy exported in the interval",
                "register of apparent energy exported",
                "apparent energy exported: of the interval, or the register of the day",
            ),
        ),
        Channel::ReactiveQ1Varh => (Some("varh"), "reactive energy of quadrant 1"),
        Channel::ReactiveQ2Varh => (Some("varh"), "reactive energy of quadrant 2"),
        Channel::ReactiveQ3Varh => (Some("varh"), "reactive energy of quadrant 3"),
        Channel::ReactiveQ4Varh => (Some("varh"), "reactive energy of quadrant 4"),
        Channel::VoltageDv => (Some("0.1 V"), "voltage of a single-phase meter"),
        Channel::VoltageRDv => (Some("0.1 V"), "voltage of phase R"),
        Channel::VoltageYDv => (Some("0.1 V"), "voltage of phase Y"),
        Channel::VoltageBDv => (Some("0.1 V"), "voltage of phase B"),
        Channel::CurrentMa => (Some("mA"), "phase current of a single-phase meter"),
        Channel::NeutralCurrentMa => (Some("mA"), "neutral current"),
        Channel::CurrentRMa => (Some("mA"), "current of phase R"),
        Channel::CurrentYMa => (Some("mA"), "current of phase Y"),
        Channel::CurrentBMa => (Some("mA"), "current of phase B"),
        Channel::PowerW => (Some("W"), "active power"),
        Channel::PowerVa => (Some("VA"), "apparent power"),
        Channel::PowerVar => (Some("var"), "reactive power, signed"),
        Channel::PowerFactorMilli => (Some("0.001"), "power factor, signed"),
        Channel::PowerFactorRMilli => (Some("0.001"), "power factor of phase R, signed"),
        Channel::PowerFactorYMilli => (Some("0.001"), "power factor of phase Y, signed"),
        Channel::PowerFactorBMilli => (Some("0.001"), "power factor of phase B, signed"),
        Channel::FrequencyMhz => (Some("mHz"), "supply frequency"),
        Channel::DemandW => (Some("W"), "register of maximum active demand"),
        Channel::DemandVa => (Some("VA"), "register of maximum apparent demand"),
        Channel::PowerOnMin => (Some("min"), "cumulative time under power"),
        Channel::PowerFailCount => (None, "count of power failures"),
        Channel::PowerFailMin => (Some("min"), "cumulative duration of power failures"),
        Channel::TamperCount => (None, "cumulative count of tamper events"),
        Channel::BillingCount => (None, "cumulative count of billing resets"),
        Channel::ProgrammingCount => (None, "cumulative count of programmings"),
        Channel::RelayState => (None, "load switch: 1 connected, 0 disconnected"),
        Channel::LoadLimitW => (Some("W"), "load limit"),
        Channel::MeterHealth => (None, "meter health indicator, as the meter gives it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_listed_by_index_and_found_by_name() {
        for (index, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.index(), index);
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
    }

    #[test]
    fn the_columns_a_table_is_known_by_exist() {
        for table in Table::ALL {
            let schema = table.schema();
            let named =
                table.sorted_by().iter().copied().chain(table.owner_column()).chain([table.time_column()]);
            for name in named {
                assert!(schema.field_with_name(name).is_ok(), "{table}.{name}");
            }
            assert_eq!(
                table.is_partitioned(),
                schema.fields().last().unwrap().name() == USAGE_DATE,
                "{table}"
            );
        }
    }

    #[test]
    fn only_types_every_reader_of_delta_knows_are_used() {
        for table in Table::ALL {
            for column in table.columns() {
                assert_ne!(type_name(&column.data_type), "other", "{table}.{}", column.name);
                assert!(!column.comment.is_empty(), "{table}.{}", column.name);
            }
        }
    }

    #[test]
    fn schema_file_says_what_the_tables_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.txt");
        if std::env::var_os("URJA_BLESS").is_some() {
            std::fs::write(path, schema_text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(committed, schema_text(), "run with URJA_BLESS=1 to accept the change");
    }
}
