//! A Delta table through the library: creation, loading, log entries and checkpoints.
//!
//! Log entries are made and written by the library's own parts, one level below its `CommitBuilder`: the builder keeps
//! a list of all files in memory and grows it with each commit, which makes every commit dearer than the last. Here a
//! commit costs the same however old the table is, and the version it takes is ours to say, so another writer is
//! noticed instead of merged with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use arrow::datatypes::DataType as ArrowType;
use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{
    Action, Add, DataType, LogicalFileView, MetadataValue, StructField, Transaction,
};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, logstore_for};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode, checkpoints};
use deltalake_core::{DeltaTable, DeltaTableError};
use model::{CivilDay, Instant, Position};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::file::Written;
use crate::table::USAGE_DATE;
use crate::{DataFile, Error, Options, Table};

/// Threads of the runtime the library works on; its checkpoints do not come to an end on a single one.
const THREADS: usize = 2;

/// The runtime on which the library works. Calls wait for it, from any thread.
#[derive(Debug)]
pub(crate) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(crate) fn new() -> Result<Runtime, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("lake-delta")
            .enable_all()
            .build()
            .map_err(|error| Error::Runtime(error.to_string()))?;
        Ok(Runtime(Some(runtime)))
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        let (done, result) = mpsc::sync_channel(1);
        let runtime = self.0.as_ref().expect("the runtime is there until it is dropped");
        runtime.spawn(async move { done.send(work.await) });
        result.recv().map_err(|_| Error::Runtime("a call ended without an answer".to_owned()))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One table's log.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) table: Table,
    /// The table's folder; absolute.
    pub(crate) dir: PathBuf,
    url: Url,
    log: LogStoreRef,
}

/// A table as its log describes it.
pub(crate) struct Loaded {
    pub(crate) position: Position,
    pub(crate) files: Vec<DataFile>,
}

impl Delta {
    /// The table in an existing folder, with a log or without.
    pub(crate) fn new(table: Table, dir: &Path) -> Result<Delta, Error> {
        let url = Url::from_directory_path(dir).map_err(|()| Error::Address(dir.to_owned()))?;
        let log = logstore_for(&url, StorageConfig::default()).map_err(Error::delta(table))?;
        Ok(Delta { table, dir: dir.to_owned(), url, log })
    }

    /// Path of the log entry of a version under the table's folder.
    pub(crate) fn entry_name(version: i64) -> String {
        format!("_delta_log/{version:020}.json")
    }

    /// Path of the checkpoint of a version under the table's folder.
    pub(crate) fn checkpoint_name(version: i64) -> String {
        format!("_delta_log/{version:020}.checkpoint.parquet")
    }

    /// Writes version 0: schema, comments and properties.
    pub(crate) fn create(&self, runtime: &Runtime, options: &Options) -> Result<(), Error> {
        let table = self.table;
        let meter = table.owner_column().filter(|owner| *owner == "meter_id");
        let with_statistics: Vec<&str> = ["position", table.time_column()].into_iter().chain(meter).collect();
        let properties = [
            ("delta.checkpointInterval", options.checkpoint_interval.to_string()),
            ("delta.enableExpiredLogCleanup", "false".to_owned()),
            ("delta.logRetentionDuration", "interval 7 days".to_owned()),
            ("delta.dataSkippingStatsColumns", with_statistics.join(",")),
        ];
        let partitions = table.is_partitioned().then_some(USAGE_DATE);
        let builder = CreateBuilder::new()
            .with_log_store(self.log.clone())
            .with_table_name(table.name())
            .with_comment(table.description())
            .with_columns(columns(table))
            .with_partition_columns(partitions)
            .with_configuration(properties.map(|(key, value)| (key, Some(value))))
            .with_save_mode(SaveMode::ErrorIfExists);
        runtime.wait(builder.into_future())?.map(|_| ()).map_err(Error::delta(table))
    }

    /// Reads what the table is at `version`.
    pub(crate) fn load(&self, runtime: &Runtime, options: &Options, version: i64) -> Result<Loaded, Error> {
        let mut delta = DeltaTable::new(self.log.clone());
        let (app_id, log) = (options.app_id.clone(), self.log.clone());
        let loaded = runtime.wait(async move {
            delta.load_version(version.unsigned_abs()).await?;
            let position = delta.snapshot()?.transaction_version(log.as_ref(), app_id).await?;
            Ok::<_, DeltaTableError>((delta, position))
        })?;
        let (delta, position) = loaded.map_err(Error::delta(self.table))?;
        let state = delta.snapshot().map_err(Error::delta(self.table))?;
        self.check_columns(&state.schema())?;
        let files = state.log_data().iter().map(|file| self.data_file(&file)).collect();
        Ok(Loaded { position: Position(position.unwrap_or(0).unsigned_abs()), files })
    }

    fn check_columns(&self, found: &deltalake_core::kernel::StructType) -> Result<(), Error> {
        let words = |field: &StructField| {
            format!("{} {}", field.data_type(), if field.is_nullable() { "nullable" } else { "not null" })
        };
        let expected = columns(self.table);
        let names = expected.iter().map(StructField::name).chain(found.fields().map(StructField::name));
        for name in names {
            let ours = expected.iter().find(|field| field.name() == name).map(words);
            let theirs = found.field(name).map(words);
            if ours != theirs {
                let missing = || "not there".to_owned();
                return Err(Error::Schema {
                    table: self.table,
                    column: name.clone(),
                    expected: ours.unwrap_or_else(missing),
                    found: theirs.unwrap_or_else(missing),
                });
            }
        }
        Ok(())
    }

    fn data_file(&self, file: &LogicalFileView) -> DataFile {
        let stats: Value =
            file.stats().and_then(|stats| serde_json::from_str(&stats).ok()).unwrap_or_default();
        let number = |side: &str, name: &str| stats[side][name].as_i64();
        let instant = |side: &str| {
            let text = stats[side][self.table.time_column()].as_str()?;
            text.parse::<Instant>()
                .or_else(|_| format!("{text}Z").parse())
                .ok()
                .map(|instant: Instant| instant.0)
        };
        let partition = file.partition_values_map().remove(USAGE_DATE).flatten();
        DataFile {
            path: self.dir.join(file.path().as_ref()),
            bytes: file.size().unsigned_abs(),
            rows: stats["numRecords"].as_u64().unwrap_or(0),
            usage_date: partition.and_then(|day| day.parse::<CivilDay>().ok()).map(|day| day.0),
            meter_min: number("minValues", "meter_id"),
            meter_max: number("maxValues", "meter_id"),
            time_min: instant("minValues"),
            time_max: instant("maxValues"),
            position_min: number("minValues", "position").unwrap_or(0),
            position_max: number("maxValues", "position").unwrap_or(i64::MAX),
        }
    }

    /// Writes the log entry of `version`, which adds the files and moves the position; gives its bytes.
    pub(crate) fn append(
        &self,
        runtime: &Runtime,
        options: &Options,
        version: i64,
        position: Position,
        files: &[Written],
    ) -> Result<Vec<u8>, Error> {
        let actions = files.iter().map(|file| Action::Add(add(self.table, file))).collect();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: self.table.is_partitioned().then(|| vec![USAGE_DATE.to_owned()]),
            predicate: None,
        };
        let moved = Transaction::new(&options.app_id, position.0.cast_signed());
        let data = CommitData::new(actions, operation, HashMap::new(), vec![moved]);
        let bytes = data.get_bytes().map_err(|error| Error::delta(self.table)(error.into()))?;
        let (log, entry) = (self.log.clone(), CommitOrBytes::LogBytes(bytes.clone()));
        let written = runtime
            .wait(async move { log.write_commit_entry(version.unsigned_abs(), entry, Uuid::nil()).await })?;
        match written {
            Ok(()) => Ok(bytes.to_vec()),
            Err(TransactionError::VersionAlreadyExists(_)) => {
                Err(Error::Contended { table: self.table, version })
            }
            Err(error) => Err(Error::delta(self.table)(error.into())),
        }
    }

    /// Writes a checkpoint of the log at `version`. The table is read afresh for it and forgotten again.
    pub(crate) fn checkpoint(&self, runtime: &Runtime, version: i64) -> Result<(), Error> {
        let url = self.url.clone();
        let version = version.unsigned_abs();
        let work = async move {
            checkpoints::create_checkpoint_from_table_url_and_cleanup(url, version, Some(false), None).await
        };
        runtime.wait(work)?.map_err(Error::delta(self.table))
    }
}

fn columns(table: Table) -> Vec<StructField> {
    let field = |column: &crate::Column| {
        let comment = [("comment", MetadataValue::String(column.comment.to_owned()))];
        let unit = column.unit.map(|unit| ("unit", MetadataValue::String(unit.to_owned())));
        StructField::new(column.name, delta_type(&column.data_type), column.nullable)
            .with_metadata(comment.into_iter().chain(unit))
    };
    table.columns().iter().map(field).collect()
}

fn delta_type(data_type: &ArrowType) -> DataType {
    match data_type {
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int16 => DataType::SHORT,
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Date32 => DataType::DATE,
        ArrowType::Binary => DataType::BINARY,
        ArrowType::Timestamp(_, _) => DataType::TIMESTAMP,
        _ => DataType::STRING,
    }
}

fn add(table: Table, written: &Written) -> Add {
    let day = written.file.usage_date.map(|day| (USAGE_DATE.to_owned(), Some(CivilDay(day).to_string())));
    Add {
        path: written.name.clone(),
        partition_values: day.into_iter().collect(),
        size: written.file.bytes.cast_signed(),
        modification_time: written.modified_ms,
        data_change: true,
        stats: Some(statistics(table, &written.file).to_string()),
        ..Add::default()
    }
}

fn statistics(table: Table, file: &DataFile) -> Value {
    let instant = |micros: Option<i64>| {
        micros.map(|micros| Instant(micros).timestamp().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    };
    let side = |position: i64, meter: Option<i64>, time: Option<i64>| {
        let mut values = serde_json::Map::new();
        values.insert("position".to_owned(), json!(position));
        if let Some(meter) = meter {
            values.insert("meter_id".to_owned(), json!(meter));
        }
        if let Some(time) = instant(time) {
            values.insert(table.time_column().to_owned(), json!(time));
        }
        values
    };
    json!({
        "numRecords": file.rows,
        "minValues": side(file.position_min, file.meter_min, file.time_min),
        "maxValues": side(file.position_max, file.meter_max, file.time_max),
        "nullCount": {},
    })
}
