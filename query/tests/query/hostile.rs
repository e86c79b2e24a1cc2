//! Statements that are not answered, each refused before it can do anything, and by name.

use query::QueryError;

use crate::world::World;

/// Text and the kind of error it gives.
const REFUSED: &[(&str, &str)] = &[
    // tables and everything like them
    ("CREATE TABLE t (a INT)", "refused"),
    ("CREATE TABLE t AS SELECT * FROM meter", "refused"),
    ("CREATE OR REPLACE TABLE meter AS SELECT 1", "refused"),
    ("CREATE TEMPORARY TABLE t (a INT)", "refused"),
    ("CREATE VIEW v AS SELECT 1", "refused"),
    ("CREATE OR REPLACE VIEW interval AS SELECT 1", "refused"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "refused"),
    ("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'http://127.0.0.1:1/x'", "refused"),
    ("CREATE UNBOUNDED EXTERNAL TABLE t STORED AS CSV LOCATION '/dev/zero'", "refused"),
    ("CREATE SCHEMA s", "refused"),
    ("CREATE DATABASE d", "refused"),
    ("CREATE FUNCTION f() RETURNS INT RETURN 1", "refused"),
    ("CREATE INDEX i ON meter (meter_id)", "refused"),
    ("CREATE ROLE r", "refused"),
    ("CREATE SEQUENCE s", "refused"),
    ("DROP TABLE meter", "refused"),
    ("DROP TABLE IF EXISTS nowhere", "refused"),
    ("DROP VIEW interval", "refused"),
    ("DROP SCHEMA public CASCADE", "refused"),
    ("DROP FUNCTION kwh", "refused"),
    ("ALTER TABLE meter ADD COLUMN x INT", "refused"),
    ("ALTER TABLE meter RENAME TO m", "refused"),
    ("TRUNCATE TABLE meter", "refused"),
    ("COMMENT ON TABLE meter IS 'x'", "refused"),
    // rows
    ("INSERT INTO meter VALUES (1)", "refused"),
    ("INSERT INTO meter SELECT * FROM meter", "refused"),
    ("INSERT OVERWRITE meter SELECT * FROM meter", "refused"),
    ("UPDATE account_state SET balance_paise = 1", "refused"),
    ("DELETE FROM ledger_posting", "refused"),
    ("MERGE INTO meter USING account ON true WHEN MATCHED THEN DELETE", "refused"),
    ("REPLACE INTO meter VALUES (1)", "refused"),
    ("WITH gone AS (DELETE FROM meter RETURNING *) SELECT * FROM gone", "refused"),
    ("WITH new AS (INSERT INTO meter VALUES (1) RETURNING *) SELECT * FROM new", "refused"),
    ("WITH a AS (SELECT 1) INSERT INTO meter SELECT * FROM a", "refused"),
    ("WITH a AS (SELECT 1) UPDATE meter SET serial = 'x'", "refused"),
    ("WITH a AS (SELECT 1) DELETE FROM meter", "refused"),
    ("SELECT * INTO copy FROM meter", "refused"),
    ("SELECT * FROM meter FOR UPDATE", "refused"),
    // files and addresses
    ("COPY meter TO '/tmp/urja-copy.csv'", "refused"),
    ("COPY (SELECT 1) TO '/tmp/urja-copy.csv' STORED AS CSV", "refused"),
    ("COPY (SELECT 1) TO 's3://bucket/x.parquet'", "refused"),
    ("copy/**/(select 1)/**/to '/tmp/urja-copy.csv'", "refused"),
    ("COPY meter FROM '/etc/passwd'", "syntax"),
    ("UNLOAD (SELECT 1) TO 's3://bucket/x'", "refused"),
    ("SELECT * FROM '/etc/passwd'", "invalid"),
    ("SELECT * FROM \"/etc/passwd\"", "invalid"),
    ("SELECT * FROM 'file:///etc/passwd'", "invalid"),
    ("SELECT * FROM 'lake://files/etc/passwd'", "invalid"),
    ("SELECT * FROM read_parquet('/etc/passwd')", "invalid"),
    ("SELECT * FROM read_csv('/etc/passwd')", "invalid"),
    ("SELECT * FROM parquet_metadata('/etc/passwd')", "invalid"),
    ("SELECT * FROM glob('/etc/*')", "invalid"),
    ("SELECT read_text('/etc/passwd')", "invalid"),
    ("SELECT pg_read_file('/etc/passwd')", "invalid"),
    ("SELECT pg_sleep(100)", "invalid"),
    ("SELECT load_extension('x')", "invalid"),
    ("INSTALL httpfs", "refused"),
    ("LOAD httpfs", "refused"),
    ("ATTACH 'x.db' AS x", "refused"),
    ("LOAD DATA INPATH '/etc/passwd' INTO TABLE meter", "syntax"),
    // settings and sessions
    ("SET datafusion.execution.batch_size = 1", "refused"),
    ("SET TIME ZONE 'UTC'", "refused"),
    ("SET memory_limit = '100GB'", "refused"),
    ("RESET datafusion.execution.batch_size", "refused"),
    ("SHOW ALL", "refused"),
    ("SHOW datafusion.execution.batch_size", "refused"),
    ("SELECT * FROM information_schema.df_settings", "refused"),
    ("USE other", "refused"),
    ("PREPARE p AS SELECT 1", "refused"),
    ("EXECUTE p", "refused"),
    ("DEALLOCATE p", "refused"),
    ("DECLARE c CURSOR FOR SELECT 1", "refused"),
    ("FETCH NEXT FROM c", "refused"),
    ("BEGIN", "refused"),
    ("START TRANSACTION", "refused"),
    ("COMMIT", "refused"),
    ("ROLLBACK", "refused"),
    ("SAVEPOINT s", "refused"),
    ("GRANT SELECT ON meter TO public", "refused"),
    ("REVOKE SELECT ON meter FROM public", "refused"),
    ("CALL f()", "refused"),
    ("KILL 1", "refused"),
    ("VACUUM", "refused"),
    ("ANALYZE TABLE meter", "refused"),
    ("CACHE TABLE meter", "refused"),
    ("LISTEN x", "syntax"),
    ("ASSERT 1 = 1", "refused"),
    ("SHOW CREATE TABLE meter", "refused"),
    // explain
    ("EXPLAIN ANALYZE SELECT 1", "refused"),
    ("EXPLAIN ANALYZE VERBOSE SELECT * FROM meter", "refused"),
    ("EXPLAIN CREATE TABLE t (a INT)", "refused"),
    ("EXPLAIN INSERT INTO meter VALUES (1)", "refused"),
    ("EXPLAIN COPY meter TO '/tmp/urja-copy.csv'", "refused"),
    ("EXPLAIN DELETE FROM meter", "refused"),
    ("EXPLAIN SET x = 1", "refused"),
    ("EXPLAIN EXPLAIN SELECT 1", "refused"),
    ("EXPLAIN SHOW TABLES", "refused"),
    // several at once, and tricks with comments
    ("SELECT 1; SELECT 2", "refused"),
    ("SELECT 1; DROP TABLE meter", "refused"),
    ("SELECT 1;;;DELETE FROM meter", "refused"),
    ("; DROP TABLE meter", "refused"),
    ("/* SELECT 1 */ DROP TABLE meter", "refused"),
    ("-- SELECT 1\nDROP TABLE meter", "refused"),
    ("SELECT 1 /* ; */ ; DELETE FROM meter --", "refused"),
    ("/*! DROP TABLE meter */ DROP TABLE meter", "syntax"),
    ("DROP/**/TABLE/**/meter", "refused"),
    ("(DROP TABLE meter)", "syntax"),
    ("SELECT (DELETE FROM meter)", "syntax"),
    ("", "syntax"),
    ("   \n\t ", "syntax"),
    ("-- nothing", "syntax"),
    (";", "syntax"),
    ("\0", "syntax"),
    ("SELECT 'open", "syntax"),
    ("/* open", "syntax"),
    ("नमस्ते", "syntax"),
    // bombs
    ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t", "refused"),
    ("SELECT * FROM generate_series(1, 9876543210)", "too_large"),
    ("SELECT * FROM generate_series(-9223372036854775808, 9223372036854775807)", "too_large"),
    ("SELECT * FROM generate_series(1, 9876543210, 2)", "too_large"),
    ("SELECT * FROM generate_series(9876543210, 1, -1)", "too_large"),
    ("SELECT * FROM range(1, 9876543210)", "too_large"),
    ("SELECT * FROM range(9876543210)", "too_large"),
    (
        "SELECT * FROM generate_series(TIMESTAMP '2000-01-01', TIMESTAMP '2030-01-01', INTERVAL '1 nanosecond')",
        "too_large",
    ),
    ("SELECT * FROM generate_series(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day')", "too_large"),
    ("SELECT unnest(range(1, 9876543210))", "invalid"),
    ("SELECT generate_series(1, 9876543210)", "invalid"),
    ("SELECT array_repeat(1, 9876543210)", "invalid"),
    ("SELECT array_resize([1], 9876543210, 1)", "invalid"),
    ("SELECT repeat('x', 2000000000)", "too_large"),
    ("SELECT repeat(repeat(repeat('x', 5000), 5000), 5000)", "too_large"),
    ("SELECT lpad('x', 2000000000)", "too_large"),
    ("SELECT rpad('x', 2000000000, 'y')", "too_large"),
    ("SELECT count(*) FROM meter GROUP BY CUBE (1, 2, 3, 4, 5, 6, 7, 8, 9)", "too_large"),
];

#[test]
fn statements_that_do_not_ask_are_refused_by_name() {
    let world = World::new();
    world.meter(1, None, 1800);
    let before = world.rows("SELECT * FROM meter");
    let mut faults = Vec::new();
    for (sql, expected) in REFUSED {
        match world.ask(sql) {
            Ok(_) => faults.push(format!("answered: {sql}")),
            Err(error) if error.kind() != *expected => {
                faults.push(format!("{}, not {expected}: {sql}: {error}", error.kind()))
            }
            Err(_) => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(REFUSED.len() > 100);
    assert_eq!(world.rows("SELECT * FROM meter"), before);
    assert!(!std::path::Path::new("/tmp/urja-copy.csv").exists());
}

#[test]
fn what_is_refused_is_told() {
    let world = World::new();
    let told = |sql: &str| world.ask(sql).unwrap_err().to_string();
    for (sql, name) in [
        ("DROP TABLE meter", "DROP TABLE"),
        ("copy (select 1) to 'x'", "COPY SELECT"),
        ("SET x = 1", "SET X"),
        ("SELECT 1; SELECT 2; SELECT 3", "3 statements at once"),
        ("SELECT * INTO t FROM meter", "SELECT INTO"),
        ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN ANALYZE"),
    ] {
        let told = told(sql);
        assert!(told.contains(name) && told.contains("only SELECT"), "{told}");
    }
    assert!(told("SELECT * FROM nowhere").contains("nowhere"));
    assert!(told("SELECT nothing FROM meter").contains("nothing"));
}

#[test]
fn large_statements_are_answered_or_refused_but_end_nothing() {
    let world = World::new();
    world.meter(1, None, 1800);
    let chain = |count: usize, operator: &str| format!("SELECT {}", vec!["1"; count].join(operator));
    let nested = |count: usize| format!("SELECT {}1{}", "(".repeat(count), ")".repeat(count));
    let subqueries =
        |count: usize| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(count), ")".repeat(count));
    let withs = |count: usize| {
        format!("{}SELECT 1{}", "WITH a AS (".repeat(count), ") SELECT * FROM a".repeat(count))
    };
    let doubling = |count: usize| {
        let steps = (1..count)
            .map(|step| format!(", t{step} AS (SELECT * FROM t{0} UNION ALL SELECT * FROM t{0})", step - 1));
        format!("WITH t0 AS (SELECT 1){} SELECT count(*) FROM t{}", steps.collect::<String>(), count - 1)
    };
    let growing = |count: usize| {
        let steps = (1..count).map(|step| format!(", t{step} AS (SELECT x + x AS x FROM t{})", step - 1));
        format!(
            "WITH t0 AS (SELECT meter_id AS x FROM meter){} SELECT x FROM t{1} WHERE x > 0",
            steps.collect::<String>(),
            count - 1
        )
    };
    let in_list = |count: usize| {
        let numbers = (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
        format!("SELECT * FROM meter WHERE meter_id IN ({numbers})")
    };
    let unions = |count: usize| vec!["SELECT 1"; count].join(" UNION ALL ");
    let answered = [
        chain(500, " + "),
        chain(900, " + "),
        format!("SELECT {}", vec!["1 = 1"; 300].join(" AND ")),
        nested(20),
        subqueries(6),
        withs(3),
        doubling(7),
        growing(10),
        in_list(5_000),
        unions(120),
        "SELECT -(-(-(-(-(1)))))".to_owned(),
    ];
    for sql in &answered {
        let asked = world.ask(sql);
        assert!(asked.is_ok(), "{:?}: {}", asked.err(), &sql[..sql.len().min(200)]);
    }
    let refused = [
        chain(5_000, " + "),
        chain(100_000, " + "),
        format!("SELECT {}", vec!["1 = 1"; 5_000].join(" OR ")),
        nested(1_000),
        nested(100_000),
        subqueries(40),
        subqueries(10_000),
        withs(8),
        withs(1_000),
        doubling(30),
        doubling(200),
        growing(30),
        growing(300),
        in_list(50_000),
        unions(2_000),
        unions(20_000),
        format!("SELECT {}1", "- ".repeat(50_000)),
        format!("SELECT {}1", "NOT ".repeat(50_000)),
        format!("SELECT '{}'", "x".repeat(1 << 20)),
        format!("SELECT {}", "CASE WHEN 1=1 THEN ".repeat(400)),
        format!("SELECT [{}]", "[".repeat(5_000)),
    ];
    for sql in &refused {
        let error = world.ask(sql).err();
        let expected = matches!(error, Some(QueryError::TooLarge(_) | QueryError::Syntax(_)));
        assert!(expected, "{error:?}: {}", &sql[..sql.len().min(200)]);
    }
}

#[test]
fn statements_that_ask_are_answered() {
    let world = World::new();
    world.meter(1, None, 1800);
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        "  select 1 -- and a comment",
        "/* a comment */ SELECT 1",
        "(SELECT 1)",
        "VALUES (1, 'a'), (2, 'b')",
        "WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT * FROM b",
        "SELECT * FROM meter UNION SELECT * FROM meter",
        "SELECT meter_id FROM meter QUALIFY row_number() OVER (ORDER BY serial) = 1",
        "SELECT * FROM urja.public.meter",
        "SELECT * FROM public.interval",
        "SELECT * FROM system.gaps",
        "SELECT * FROM interval_reading AS i WHERE EXISTS (SELECT 1 FROM meter WHERE meter.meter_id = i.meter_id)",
        "SELECT i.import_wh, position FROM interval i ORDER BY i.position",
        "SELECT * FROM meter m LEFT JOIN LATERAL (SELECT 1 AS one) l ON true",
        "EXPLAIN SELECT * FROM daily_usage",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN FORMAT TREE SELECT 1",
        "DESCRIBE meter",
        "DESCRIBE daily_usage",
        "SHOW TABLES",
        "SHOW COLUMNS FROM meter",
        "SHOW FUNCTIONS LIKE 'kwh'",
        "SELECT table_name FROM information_schema.tables",
        "SELECT * FROM information_schema.columns WHERE table_name = 'balance'",
        "SELECT repeat('ab', 3), lpad('7', 3, '0'), rpad('x', 2)",
        "SELECT value FROM generate_series(1, 1000)",
        "SELECT value FROM range(DATE '2026-01-01', DATE '2026-12-31', INTERVAL '1 month')",
        "SELECT unnest([1, 2, 3])",
        "SELECT meter_id FROM meter GROUP BY ROLLUP (meter_id)",
    ] {
        if let Err(error) = world.ask(sql) {
            panic!("{sql}: {error}");
        }
    }
}
