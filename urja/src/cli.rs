//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Smart-meter head-end with a prepaid ledger: takes in DLMS/COSEM pushes, makes them durable, charges to the paisa and
/// answers in SQL.
#[derive(Debug, Parser)]
#[command(name = "urja", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file; without it defaults hold (`urja config example` prints one with every key)
    #[arg(long, short, global = true, value_name = "FILE", env = "URJA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory (key data.dir)
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the head-end: listeners, journal, ledger, lake, SQL, pages
    Serve(Serve),
    /// Simulated meters, 40 days of history, then live; pages on http://127.0.0.1:8080
    #[cfg(feature = "query")]
    Demo(Demo),
    /// Simulate meters that push to a head-end
    Fleet(Fleet),
    /// Run one SQL query, for example `urja sql "SELECT * FROM daily_usage LIMIT 10"`
    #[cfg(feature = "query")]
    Sql(Sql),
    /// Show what a day cost an account, and the readings and frames that it goes back to
    #[cfg(feature = "query")]
    Explain(Explain),
    /// Show an account's bill of a month: what it began with, every line, what it ends with
    #[cfg(feature = "query")]
    Bill(Bill),
    /// Another system that charges the same accounts, held against this one
    #[cfg(feature = "query")]
    #[command(subcommand)]
    Shadow(Shadow),
    /// Show what a DLMS frame says, with its authentication result
    Decode(Decode),
    /// Meters of the registry
    #[command(subcommand)]
    Meter(Meter),
    /// Accounts of the registry
    #[command(subcommand)]
    Account(Account),
    /// Tariffs: those in force, and files before they are
    #[command(subcommand)]
    Tariff(Tariff),
    /// Credit control: policies, notices, and whose supply may be cut when and why not
    #[command(subcommand)]
    Credit(Credit),
    /// Cuts and reconnections: how far each has come, and what stops all cuts
    #[command(subcommand)]
    Supply(Supply),
    /// Move a driven clock; days that are due by then are closed
    Clock(Clock),
    /// Book money received for an account; the same payment id is booked once
    Recharge(Recharge),
    /// Take a payment back that was booked: refunded, charged back, bounced or mistaken; once, by an entry of its own
    Reverse(Reverse),
    /// Money that was taken elsewhere: files from counters, agents, BBPS and the bank, and what is in suspense
    #[command(subcommand)]
    Collect(Collect),
    /// Hold the ledger against the statements of channels and of the bank
    #[command(subcommand)]
    Reconcile(Reconcile),
    /// Ask a meter for an object or a profile
    Read(Read),
    /// Look at a meter's relay, or switch it
    Relay(Relay),
    /// Look into the files of a data directory
    Inspect(Inspect),
    /// Derive the checkpoint again from the lake and compare
    Rebuild(Rebuild),
    /// The configuration
    #[command(subcommand)]
    Config(Config),
}

/// `urja serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// TCP address for meters (key listen.tcp)
    #[arg(long, value_name = "ADDR")]
    pub tcp: Option<String>,
    /// UDP address for meters (key listen.udp)
    #[arg(long, value_name = "ADDR")]
    pub udp: Option<String>,
    /// MQTT broker (key mqtt.url)
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
    /// Address of the embedded MQTT broker (key broker.listen)
    #[arg(long, value_name = "ADDR")]
    pub broker: Option<String>,
    /// First seven bytes of the head-end's system title, 14 hexadecimal digits (key session.system_title)
    #[arg(long, value_name = "HEX")]
    pub system_title: Option<String>,
    /// Address of pages and SQL (key http.listen)
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Address of health and metrics (key health.listen)
    #[arg(long, value_name = "ADDR")]
    pub health: Option<String>,
    /// Where "now" comes from: system or driven (key time.clock)
    #[arg(long, value_name = "SOURCE")]
    pub clock: Option<String>,
}

/// `urja demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Meters to simulate
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub meters: u32,
    /// Days of history to load
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=400))]
    pub days: u32,
    /// Seed of the fleet
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// MQTT broker to use instead of the embedded one
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
    /// Address of pages and SQL
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: String,
    /// What goes wrong with the meters
    #[arg(long, value_enum, default_value_t = FleetFaults::Usual)]
    pub faults: FleetFaults,
    /// End with a summary once the history is loaded
    #[arg(long)]
    pub exit: bool,
}

/// `urja fleet`
#[derive(Debug, Args)]
pub struct Fleet {
    /// Meters to simulate
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub meters: u32,
    /// How they reach the head-end
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub transport: Transport,
    /// Seed: the same seed makes the same meters, loads and faults
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where to send: HOST:PORT by --transport, or tcp://, udp://, mqtt://HOST:PORT; several share the meters
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4059")]
    pub to: Vec<String>,
    /// First civil day of the simulation
    #[arg(long, value_name = "DATE", default_value = "2026-04-01")]
    pub from: String,
    /// Days to simulate as fast as the head-end confirms; 0 runs live from now on
    #[arg(long, default_value_t = 1)]
    pub days: u32,
    /// Directory for meters.csv, accounts.csv and truth.jsonl
    #[arg(long, value_name = "DIR", default_value = "urja-fleet")]
    pub out: PathBuf,
    /// Only write meters.csv and accounts.csv, for `urja account import` and `urja meter import`, and where meters change
    /// their keys rekey.csv, for `urja meter rekey`
    #[arg(long)]
    pub provision: bool,
    /// Move the head-end's driven clock with the simulation, over its admin socket in --data
    #[arg(long)]
    pub drive: bool,
    /// What goes wrong
    #[arg(long, value_enum, default_value_t = FleetFaults::Usual)]
    pub faults: FleetFaults,
    /// The same as `--faults none`
    #[arg(long, conflicts_with = "faults")]
    pub no_faults: bool,
    /// Seconds without a confirm after which a frame is sent again
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub confirm_timeout: f64,
    /// Meters of a million whose policy is `transport` (plain or 0x20 pushes); otherwise the fleet's usual share
    #[arg(long, value_name = "PPM")]
    pub plain_ppm: Option<u32>,
    /// Let the meters answer, over TCP and UDP: meter 0 at this address, meter i at the port i above it, or each at any port with 0; with
    /// --days after the last day, until stopped. access.csv has addresses and secrets
    #[arg(long, value_name = "ADDR")]
    pub serve: Option<std::net::SocketAddr>,
    /// Live only: each meter has a TCP connection or an MQTT client of its own, over which it answers what it is asked;
    /// access.csv has secrets, and nodes of MQTT
    #[arg(long, conflicts_with = "serve")]
    pub dial_in: bool,
    /// The meters speak HDLC instead of the wrapper, in pushes and answers, over TCP
    #[arg(long)]
    pub hdlc: bool,
    /// What goes wrong with their answers: KIND@N, KIND%N or KIND~PPM, of drop, silent, flip, garbage, stale, slow,
    /// push, low-memory, busy, behind
    #[arg(long, value_name = "FAULT")]
    pub meter_fault: Vec<fleet::meter::Fault>,
}

/// What goes wrong with simulated meters; chances are of a meter and day where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FleetFaults {
    /// Nothing, not even the supply
    None,
    /// Outages of supply (6 %) and link (2 %), lost registers (0.5 %), revised values (0.4 %), voltage sags (4 %); of
    /// pushes 1 % doubled, 1 % late by up to 36 hours, 1 % overtaken
    Usual,
    /// As usual, and readings under garbage stamps (2.5 %), concentrators that flush hours newest first (15 % of
    /// concentrators and days); once in a meter's time: a clock that drifts for weeks (20 % of meters), new keys (30 %),
    /// two to five weeks of silence (20 %)
    Storm,
}

/// How simulated meters reach the head-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// DLMS wrapper over TCP
    Tcp,
    /// DLMS wrapper over UDP
    Udp,
    /// MQTT 5, QoS 1
    Mqtt,
}

/// `urja sql`
#[cfg(feature = "query")]
#[derive(Debug, Args)]
pub struct Sql {
    /// The statement; `-` reads it from standard input
    pub statement: String,
    /// Print the rows as CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// `urja decode`
#[derive(Debug, Args)]
pub struct Decode {
    /// How the bytes are framed
    #[arg(long, value_enum, default_value_t = DecodeFraming::Auto)]
    pub framing: DecodeFraming,
    /// Global unicast encryption key, 32 hexadecimal digits
    #[arg(long, value_name = "HEX", env = "URJA_GUEK", hide_env_values = true)]
    pub guek: Option<String>,
    /// Global authentication key, 32 hexadecimal digits
    #[arg(long, value_name = "HEX", env = "URJA_GAK", hide_env_values = true)]
    pub gak: Option<String>,
    /// Global broadcast encryption key, 32 hexadecimal digits
    #[arg(long, value_name = "HEX", env = "URJA_GBEK", hide_env_values = true)]
    pub gbek: Option<String>,
    /// Dedicated key of the association, 32 hexadecimal digits: for ded-* and general-ded-ciphering
    #[arg(long, value_name = "HEX", env = "URJA_DEDICATED_KEY", hide_env_values = true)]
    pub dedicated_key: Option<String>,
    /// System title of the sender, where the frame does not carry it
    #[arg(long, value_name = "HEX")]
    pub system_title: Option<String>,
    /// The bytes; spaces are ignored, `-` reads them from standard input
    #[arg(value_name = "HEX")]
    pub bytes: String,
}

/// Framings that `urja decode` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecodeFraming {
    /// Told from the first bytes
    Auto,
    /// IEC 62056-47 wrapper
    Wrapper,
    /// HDLC, with segments put together
    Hdlc,
    /// Long frames of M-Bus
    Mbus,
    /// A bare APDU
    Apdu,
}

/// `urja meter`
#[derive(Debug, Subcommand)]
pub enum Meter {
    /// Import meters from CSV: all lines or none
    ///
    /// Columns: system_title, serial, guek, gak, profile, policy, account_number, policy_reason; to be asked, a meter needs
    /// address (host:port where it is dialled, mqtt://node where a broker is between), hls (secret of the utility client), and may have lls and master_key
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
    },
    /// Replace the keys of registered meters by those of a CSV: all lines or none
    ///
    /// Columns: system_title, guek, gak. To be done before a meter goes over to its new keys. The replaced ones stay
    /// valid until its first push under the new ones, and then, for what is still on its way, billing.late_days from
    /// now on; such pushes bring readings only.
    Rekey {
        /// The file; `-` is standard input
        file: PathBuf,
    },
}

/// `urja account`
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Import accounts from CSV: all lines or none
    ///
    /// Columns: account_number, category, sanctioned_kw, from, opening_register_kwh, opening_balance_rupees, connection; and
    /// division and opening_arrears_rupees, which may be left out
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
    },
    /// Change tariff or sanctioned load from a day on
    ///
    /// A change begins with a month that is not closed, or inside of a month on a day to come; what was said for the same
    /// day before is replaced.
    Change(ChangeAccount),
}

/// `urja explain`
#[cfg(feature = "query")]
#[derive(Debug, Args)]
pub struct Explain {
    /// Account number, for example PUVVNL1234567890
    pub account: String,
    /// Civil day that is charged, for example 2026-07-15
    pub day: String,
}

/// `urja bill`
#[cfg(feature = "query")]
#[derive(Debug, Args)]
pub struct Bill {
    /// Account number, for example PUVVNL1234567890
    pub account: String,
    /// Month, for example 2026-07
    pub month: String,
    /// As it was known at that position of the journal; without it, now
    #[arg(long, value_name = "POSITION")]
    pub as_of: Option<u64>,
}

/// `urja account change`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").args(["category", "load_kw"]).required(true).multiple(true)))]
pub struct ChangeAccount {
    /// Account number, for example PUVVNL1234567890
    pub account: String,
    /// First day that is charged by it, for example 2026-07-15
    #[arg(long, value_name = "DAY")]
    pub from: String,
    /// Name of the tariff
    #[arg(long, value_name = "TARIFF")]
    pub category: Option<String>,
    /// Sanctioned load, kW
    #[arg(long, value_name = "KW")]
    pub load_kw: Option<String>,
}

/// `urja credit`
#[derive(Debug, Subcommand)]
pub enum Credit {
    /// Put a policy in force, from its day on
    Apply {
        /// TOML file, or `builtin`
        file: String,
    },
    /// List the policies
    List,
    /// Print the built-in policy, to start a file of one's own from
    Builtin,
    /// Read a file and say whether it is good, or line and key of the first fault; changes nothing
    Check {
        /// TOML file; `-` is standard input
        file: String,
    },
    /// Whose supply may be cut, as a dry run: those who are due, and how many each reason holds. Nothing is cut by this
    Due(Due),
    /// What consumers are to be told of their balance
    Notices {
        /// Notices at most
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Those of accounts after this one alone: to go on behind the last that was given
        #[arg(long, value_name = "NUMBER")]
        after: Option<String>,
    },
    /// Note that a consumer was told: emergency credit counts from the notice that the balance is used up
    Told {
        /// Number of the account
        account: String,
        /// Level of the notice, as `urja credit notices` gave it
        #[arg(long)]
        level: u8,
        /// Its round
        #[arg(long)]
        round: u16,
    },
    /// Ask that supply may be cut in a division; another person has to approve it
    Enable(CutsBy),
    /// Approve what another person asked for: from now on supply may be cut there
    Approve(CutsBy),
    /// End cuts in a division, at once
    Disable(CutsBy),
    /// Divisions where cuts are enabled or asked for
    Divisions,
    /// Hold cuts of an account
    Hold(Hold),
    /// End a hold of an account
    Release(Release),
}

/// `urja supply`
#[derive(Debug, Subcommand)]
pub enum Supply {
    /// Whether cuts are on or frozen, what the budgets have left, and what is under way
    Status,
    /// Commands, newest first, with the time of each step
    List {
        /// Of one account alone
        #[arg(long, value_name = "NUMBER")]
        account: Option<String>,
        /// Commands at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Stop all cuts at once; reconnections go on
    Freeze {
        /// Why
        #[arg(long)]
        reason: String,
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
    /// Let cuts go on: one person asks, another one says it again
    Thaw {
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
}

/// `urja credit due`
#[derive(Debug, Args)]
pub struct Due {
    /// The moment, as 2026-06-10T11:00:00+05:30; without it, now
    #[arg(long, value_name = "INSTANT")]
    pub at: Option<String>,
    /// One account, whatever its balance
    #[arg(long, value_name = "NUMBER")]
    pub account: Option<String>,
    /// List those below zero that are not due as well, with every reason
    #[arg(long)]
    pub all: bool,
}

/// A division, and who says so.
#[derive(Debug, Args)]
pub struct CutsBy {
    /// The division as accounts have it; accounts without one are of their distribution company
    pub division: String,
    /// Who says so; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// `urja credit hold`
#[derive(Debug, Args)]
pub struct Hold {
    /// Number of the account
    pub account: String,
    /// protected: never cut by balance; disputed: a complaint is open or a sum is deposited under protest
    #[arg(value_enum)]
    pub kind: HoldKind,
    /// Why
    #[arg(long)]
    pub reason: String,
    /// Who says so; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// `urja credit release`
#[derive(Debug, Args)]
pub struct Release {
    /// Number of the account
    pub account: String,
    /// The hold that ends
    #[arg(value_enum)]
    pub kind: HoldKind,
    /// Who says so; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// Why cuts of an account are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HoldKind {
    /// Never cut by balance
    Protected,
    /// A complaint is open or a sum is deposited under protest
    Disputed,
}

/// `urja tariff`
#[derive(Debug, Subcommand)]
pub enum Tariff {
    /// Put a version of a tariff in force, from a first of month
    Apply {
        /// TOML file, or the name of a built-in one (`urja tariff builtin` lists them)
        file: String,
    },
    /// List the versions in force
    List,
    /// List the built-in tariffs, or print the text of one, to start a file of one's own from
    Builtin {
        /// Its name
        name: Option<String>,
    },
    /// Read files and say whether they are good, or line and key of the first fault; changes nothing
    Check {
        /// TOML files, or names of built-in tariffs; `-` is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    /// What differs between two tariffs, key by key, and what bills of a month come to under each
    Diff {
        /// TOML file, or the name of a built-in tariff
        before: String,
        /// The other one
        after: String,
        /// Sanctioned load of the bills, kW
        #[arg(long, value_name = "KW", default_value = "2")]
        load_kw: String,
        /// Month of the bills; without it the first in which both are in force
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<String>,
    },
    /// What a household would be charged, day by day; changes nothing
    Simulate(Simulate),
}

/// `urja tariff simulate`
#[derive(Debug, Args)]
pub struct Simulate {
    /// TOML files, or names of built-in tariffs: versions of one tariff, or of all that the days name
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Sanctioned load, kW
    #[arg(long, value_name = "KW", default_value = "2")]
    pub load_kw: String,
    /// A month, whose units are spread evenly over its days
    #[arg(long, value_name = "YYYY-MM", required_unless_present = "days")]
    pub month: Option<String>,
    /// Energy of the month, kWh
    #[arg(long, value_name = "KWH", default_value = "0", conflicts_with = "days")]
    pub units: String,
    /// Highest demand of the month, kW
    #[arg(long, value_name = "KW", default_value = "0", conflicts_with = "days")]
    pub demand_kw: String,
    /// CSV of civil days one after the other, with the columns date, kwh, demand_kw, and where they change load_kw, tariff;
    /// `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "month")]
    pub days: Option<PathBuf>,
    /// Billed afterwards: without the rebate of who pays ahead
    #[arg(long)]
    pub postpaid: bool,
}

/// `urja recharge`
#[derive(Debug, Args)]
pub struct Recharge {
    /// Account number, for example PUVVNL1234567890
    pub account: String,
    /// Whole rupees
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rupees: u32,
    /// Id of the payment at its source: the same id is the same payment
    #[arg(long, value_name = "ID", required_unless_present = "preview")]
    pub payment_id: Option<String>,
    /// Show what of it would pay old dues off and what the balance would be; nothing is booked
    #[arg(long)]
    pub preview: bool,
}

/// `urja reverse`
#[derive(Debug, Args)]
pub struct Reverse {
    /// Id of the payment at its source, as it was booked with
    pub payment_id: String,
    /// Why
    #[arg(value_parser = ["refunded", "chargeback", "bounced", "mistaken"])]
    pub reason: String,
    /// Who says so; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// `urja collect`
#[derive(Debug, Subcommand)]
pub enum Collect {
    /// Take a file and book its payments: CSV with account_number, amount_rupees, payment_id, paid_on and, if
    /// there is one, collector; once, however often it is brought
    Import(CollectImport),
    /// Files, newest first, and what came of their payments
    Batches {
        /// Of one channel alone
        #[arg(long, value_parser = CHANNELS)]
        channel: Option<String>,
        /// Files at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Payments of a file, and what came of each
    Lines {
        /// The channel
        #[arg(value_parser = CHANNELS)]
        channel: String,
        /// Id of the file at its source
        batch: String,
        /// In one state alone
        #[arg(long, value_parser = ["taken", "booked", "suspense", "repeated", "conflict", "refused", "settled"])]
        state: Option<String>,
        /// Payments at most
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Payments of all files that wait for a process or a person: taken, conflict, refused
    Open {
        /// Payments at most
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Note that a conflict or a refusal was dealt with
    Settle {
        /// The channel
        #[arg(value_parser = CHANNELS)]
        channel: String,
        /// Id of the file at its source
        batch: String,
        /// Line of the file
        line: u64,
        /// How
        #[arg(long)]
        reason: String,
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
    /// Money that belongs to no account yet
    Suspense,
    /// Take a payment from an account that it is not for into suspense
    Misdirected {
        /// Id of the payment
        payment_id: String,
        /// Number of the account it is booked to and not for
        account: String,
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
    /// Credit money in suspense to an account, as a recharge of this moment
    Assign {
        /// Id of the payment, as `urja collect suspense` shows it
        payment_id: String,
        /// Number of the account
        account: String,
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
}

/// Where money is taken that does not come through the app.
const CHANNELS: [&str; 4] = ["bbps", "counter", "agent", "bank"];

/// `urja collect import`
#[derive(Debug, Args)]
pub struct CollectImport {
    /// The file; - for standard input
    pub file: PathBuf,
    /// Where the money was taken
    #[arg(long, value_parser = CHANNELS)]
    pub channel: String,
    /// Id of the file at its source
    #[arg(long, value_name = "ID")]
    pub batch: String,
    /// How many payments it has, by whoever took the money
    #[arg(long)]
    pub lines: u64,
    /// What they add up to, by whoever took the money, for example 120500.50
    #[arg(long)]
    pub rupees: String,
    /// Who brings it; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// `urja reconcile`
#[derive(Debug, Subcommand)]
pub enum Reconcile {
    /// Take the statement of a day and say what is open by then; exit code 2 where anything is. A day that is brought again
    /// is replaced
    Run(ReconcileRun),
    /// The newest report on a channel
    Show {
        /// The channel
        #[arg(value_parser = CHANNELS)]
        channel: String,
    },
    /// Close what is open of a payment or a transfer, where a person has dealt with it
    Close {
        /// The channel
        #[arg(value_parser = CHANNELS)]
        channel: String,
        /// Id of the payment or reference of the transfer, as the report has it
        what: String,
        /// How it was dealt with
        #[arg(long)]
        reason: String,
        /// Who says so; it stands in the log
        #[arg(long, value_name = "PERSON")]
        by: String,
    },
}

/// `urja reconcile run`
#[derive(Debug, Args)]
pub struct ReconcileRun {
    /// The channel
    #[arg(value_parser = CHANNELS)]
    pub channel: String,
    /// The day, for example 2026-06-01
    pub day: String,
    /// The channel's statement of it: CSV with payment_id, amount_rupees and, if they are there, kind (payment or refund),
    /// account_number, fee_rupees, settlement and collector
    #[arg(long, value_name = "FILE")]
    pub statement: PathBuf,
    /// The bank's: CSV with settlement and amount_rupees
    #[arg(long, value_name = "FILE")]
    pub bank: Option<PathBuf>,
    /// Days after which money that the channel took should be at the bank
    #[arg(long, value_name = "DAYS", default_value_t = 2)]
    pub settles_in: u16,
    /// Who does it; it stands in the log
    #[arg(long, value_name = "PERSON")]
    pub by: String,
}

/// `urja shadow`
#[cfg(feature = "query")]
#[derive(Debug, Subcommand)]
pub enum Shadow {
    /// Its daily charges against what is booked here, by head, category and cause; exit code 2 where any differ
    Compare(ShadowCompare),
}

/// `urja shadow compare`
#[cfg(feature = "query")]
#[derive(Debug, Args)]
pub struct ShadowCompare {
    /// Its charges: CSV with account_number, usage_date, total_rupees and, if they are there, energy_kwh and a column for each
    /// head (energy_rupees, fixed_rupees, subsidy_rupees, surcharge_rupees, duty_rupees, rebate_rupees, minimum_rupees,
    /// green_rupees); what lowers a charge is below zero; - for standard input
    pub file: PathBuf,
    /// Paise that a head or a total may differ by rounding
    #[arg(long, default_value_t = 1)]
    pub paise: u16,
    /// Wh that the energy of a day may differ by rounding
    #[arg(long, default_value_t = 10)]
    pub wh: u16,
    /// Differences that are listed; all are counted
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Write all differences to this file, CSV
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `urja clock`
#[derive(Debug, Args)]
pub struct Clock {
    /// The instant, for example 2026-06-01T06:00:00+05:30
    pub now: String,
}

/// `urja read`
#[derive(Debug, Args)]
pub struct Read {
    /// Serial number, system title or id of a registered meter
    pub meter: String,
    /// Object (`clock`, `import-wh`, `3:1.0.1.8.0.255:2`, …) or profile (`block`, `daily`, `instant`, `billing`, `nameplate`,
    /// `events-voltage`, …)
    #[arg(value_name = "OBJECT|PROFILE")]
    pub what: String,
    /// Rows of a profile from here on, in the time of the meter's clock, for example 2026-06-01T00:00
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Rows of a profile up to here
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// The newest rows of a profile, so many
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to", "entries"])]
    pub last: Option<u32>,
    /// Rows of a profile by the numbers the meter has for them, from 1, both included: A..B, A.. or ..B
    #[arg(long, value_name = "A..B", conflicts_with_all = ["from", "to"])]
    pub entries: Option<String>,
    /// Where the meter is, instead of what is registered: HOST:PORT, udp://HOST:PORT or mqtt://NODE
    #[arg(long, value_name = "ADDR")]
    pub address: Option<String>,
    /// Address of the client that the meter is asked as, instead of what is registered: 16, 32, 48, …
    #[arg(long, value_name = "SAP", value_parser = clap::value_parser!(u8).range(1..=127))]
    pub client: Option<u8>,
}

/// `urja relay`
#[derive(Debug, Args)]
pub struct Relay {
    /// Serial number, system title or id of a registered meter
    pub meter: String,
    /// What to do; a disconnection needs relay.enabled = true in the configuration
    #[arg(value_enum)]
    pub command: RelayCommand,
    /// Where the meter is, instead of what is registered: HOST:PORT, udp://HOST:PORT or mqtt://NODE
    #[arg(long, value_name = "ADDR")]
    pub address: Option<String>,
    /// Address of the client that the meter is asked as, instead of what is registered
    #[arg(long, value_name = "SAP", value_parser = clap::value_parser!(u8).range(1..=127))]
    pub client: Option<u8>,
}

/// What is done with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RelayCommand {
    /// Close the contacts, or make them ready for the consumer to close
    Connect,
    /// Open the contacts: cut
    Disconnect,
    /// Only look
    Status,
}

/// `urja inspect`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub struct Inspect {
    /// Read and check every byte of journal, checkpoints and lake, and whether they belong together
    #[arg(long)]
    pub verify: bool,
    /// One part of the directory
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// Parts of a data directory.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Groups and records of the journal
    Journal {
        /// Start after this position
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Show at most so many records; 0 only sums up
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Read and check every byte
        #[arg(long)]
        verify: bool,
    },
    /// Sections of the newest checkpoint
    Checkpoint {
        /// Read and check every byte of all checkpoints
        #[arg(long)]
        verify: bool,
    },
    /// Tables of the lake
    Lake {
        /// Read and check every byte
        #[arg(long)]
        verify: bool,
    },
}

/// `urja rebuild`
#[derive(Debug, Args)]
pub struct Rebuild {
    /// Only compare with the checkpoint, do not replace it
    #[arg(long)]
    pub check: bool,
}

/// `urja config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the commented file with every key
    Example,
    /// Print what is in force
    Show,
}
