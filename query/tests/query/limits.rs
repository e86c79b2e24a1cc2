//! Time, memory, rows and concurrency.

use std::sync::Arc;
use std::time::{Duration, Instant};

use query::{Options, PinError, QueryError, Wants};

use crate::world::World;

/// Rows in their billions, without memory.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b \
                       WHERE a.value + b.value < 0";

#[test]
fn a_statement_ends_at_its_time_and_leaves_its_place() {
    let world =
        World::with(Options { timeout: Duration::from_millis(300), max_statements: 1, ..Options::default() });
    let started = Instant::now();
    assert!(matches!(world.ask(ENDLESS), Err(QueryError::Timeout(_))));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.ask("SELECT 1").is_err() {
        assert!(Instant::now() < deadline, "the place was not given back");
    }
}

#[test]
fn a_dropped_statement_leaves_its_place() {
    let world = World::with(Options { max_statements: 1, ..Options::default() });
    let started = Instant::now();
    let dropped = world.runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(200), world.engine.query(ENDLESS)).await.is_err()
    });
    assert!(dropped);
    assert!(world.ask("SELECT 1").is_ok());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn memory_is_bounded_and_the_next_statement_is_answered() {
    let world = World::with(Options { memory_bytes: 4 << 20, ..Options::default() });
    let given =
        world.ask("SELECT value % 7, array_agg(value) FROM generate_series(1, 1000000) GROUP BY value % 7");
    assert!(matches!(given, Err(QueryError::OutOfMemory(_))), "{:?}", given.err());
    assert_eq!(world.rows("SELECT 1"), "1");
}

#[test]
fn what_does_not_fit_into_memory_goes_to_the_spill_directory_up_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let options = |spill_bytes| Options {
        memory_bytes: 24 << 20,
        spill_dir: Some(dir.path().join("spill")),
        spill_bytes,
        max_rows: 1,
        parallelism: 2,
        ..Options::default()
    };
    let sql = "SELECT value, repeat('x', 100) AS pad FROM generate_series(1, 300000) ORDER BY value * 7919 % 1000003";
    let spilled = World::with(options(1 << 30)).ask(sql);
    assert!(spilled.is_ok(), "{:?}", spilled.err());
    let full = World::with(options(1 << 20)).ask(sql);
    assert!(matches!(full, Err(QueryError::OutOfMemory(_))), "{:?}", full.err());
}

#[test]
fn rows_beyond_the_bounds_are_cut_and_it_is_told() {
    let world = World::with(Options { max_rows: 1000, ..Options::default() });
    let answer = |sql: &str| world.ask(sql).unwrap();
    let all = answer("SELECT * FROM generate_series(1, 1000)");
    assert_eq!((all.rows(), all.truncated), (1000, false));
    let cut = answer("SELECT * FROM generate_series(1, 1001)");
    assert_eq!((cut.rows(), cut.truncated), (1000, true));
    let many = answer("SELECT * FROM generate_series(1, 100000)");
    assert_eq!((many.rows(), many.truncated), (1000, true));

    let world = World::with(Options { max_answer_bytes: 1 << 20, ..Options::default() });
    let cut = world.ask("SELECT * FROM generate_series(1, 1000000)").unwrap();
    assert!(cut.truncated && cut.rows() > 50_000 && cut.rows() < 200_000, "{}", cut.rows());
}

#[test]
fn statements_beyond_those_that_run_and_wait_are_turned_away() {
    let world =
        World::with(Options { max_statements: 1, timeout: Duration::from_secs(2), ..Options::default() });
    let asked: Vec<_> = (0..12)
        .map(|_| {
            let engine = Arc::clone(&world.engine);
            world.runtime.spawn(async move { engine.query(ENDLESS).await.err().map(|error| error.kind()) })
        })
        .collect();
    let kinds = world.runtime.block_on(futures::future::join_all(asked));
    let count = |kind: &str| {
        kinds.iter().filter(|given| given.as_ref().is_ok_and(|given| *given == Some(kind))).count()
    };
    assert_eq!((count("timeout"), count("busy")), (5, 7), "{kinds:?}");
}

#[test]
fn a_statement_that_would_be_behind_says_so() {
    let world = World::new();
    world.pins.state.lock().unwrap().behind = true;
    let error = world.ask("SELECT 1").unwrap_err();
    assert!(matches!(error, QueryError::Pin(PinError::Behind { .. })) && error.is_transient(), "{error}");
}

#[test]
fn only_what_a_statement_refers_to_is_pinned() {
    let world = World::new();
    let none = Wants::default();
    for (sql, wants) in [
        ("SELECT 1", none),
        ("SELECT count(*) FROM interval", none),
        ("SELECT * FROM \"system\".standing", none),
        ("SHOW TABLES", none),
        ("SELECT * FROM system.columns", none),
        ("SELECT * FROM gap", Wants { gaps: true, ..none }),
        ("SELECT * FROM system.gaps", Wants { gaps: true, ..none }),
        ("SELECT * FROM conservation", Wants { tallies: true, ..none }),
        ("SELECT * FROM balance", Wants { accounts: true, ..none }),
        ("SELECT (SELECT count(*) FROM urja.public.meter)", Wants { meters: true, ..none }),
        ("EXPLAIN SELECT * FROM monthly_usage", Wants { meters: true, accounts: true, ..none }),
        ("WITH meter AS (SELECT 1) SELECT * FROM meter", none),
        ("WITH meter AS (SELECT * FROM meter) SELECT * FROM meter", Wants { meters: true, ..none }),
    ] {
        world.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(world.pins.state.lock().unwrap().wants, wants, "{sql}");
    }
}

#[test]
fn every_column_has_its_words_and_every_word_its_column() {
    let world = World::new();
    let undocumented = "SELECT i.table_schema, i.table_name, i.column_name FROM information_schema.columns AS i \
        LEFT JOIN system.columns AS s ON s.table_schema = i.table_schema AND s.table_name = i.table_name \
        AND s.column_name = i.column_name AND s.ordinal = i.ordinal_position + 1 AND s.comment <> '' \
        WHERE i.table_schema <> 'information_schema' AND s.column_name IS NULL";
    assert_eq!(world.rows(undocumented), "");
    let unknown = "SELECT s.table_name, s.column_name FROM system.columns AS s \
        LEFT JOIN information_schema.columns AS i ON s.table_schema = i.table_schema AND s.table_name = i.table_name \
        AND s.column_name = i.column_name WHERE i.column_name IS NULL OR s.data_type = 'Null'";
    assert_eq!(world.rows(unknown), "");
    assert_eq!(world.rows("SELECT count(*) FROM system.tables WHERE description = ''"), "0");
    let row = "SELECT unit, data_type FROM system.columns WHERE table_name = 'daily_usage' AND column_name = 'import_kwh'";
    assert_eq!(world.rows(row), "kWh,\"Decimal128(19, 3)\"");
}
