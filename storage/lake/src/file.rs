//! Data files: Parquet written so that one meter's rows are found by reading a few pages.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use model::{CivilDay, Position};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::decode::Columns;
use crate::disk::Disk;
use crate::table::USAGE_DATE;
use crate::{DataFile, Error, IntegerEncoding, Options, Table};

/// A data file that was written and synced, with what the log and the sidecar say of it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) file: DataFile,
    /// Path under the table's folder.
    pub(crate) name: String,
    /// BLAKE3 of the file, hexadecimal.
    pub(crate) digest: String,
    pub(crate) modified_ms: i64,
}

/// Rows for one file.
pub(crate) struct Part {
    pub(crate) day: Option<CivilDay>,
    pub(crate) batches: Vec<RecordBatch>,
}

/// Sorts a table's hot batches and splits them by day, as its files want them.
pub(crate) fn parts(table: Table, batches: Vec<RecordBatch>) -> Result<Vec<Part>, Error> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    if table.sorted_by()[0] == "position" {
        return Ok(vec![Part { day: None, batches }]);
    }
    sorted_parts(table, &batches)
}

/// What a row is sorted by, and where it stands in all batches taken together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    day: i32,
    owner: i64,
    time: i64,
    position: i64,
    row: u32,
}

fn sorted_parts(table: Table, batches: &[RecordBatch]) -> Result<Vec<Part>, Error> {
    let mut keys = sort_keys(table, batches)?;
    // Rows come in runs of one meter, which a stable sort makes use of.
    keys.sort();
    let columns = Gathered::columns(table, batches).map_err(Error::arrow(table))?;
    let by_day = |a: &SortKey, b: &SortKey| a.day == b.day;
    keys.chunk_by(by_day)
        .map(|keys| {
            let rows = UInt32Array::from_iter_values(keys.iter().map(|key| key.row));
            let arrays = columns.iter().map(|column| column.take(&rows)).collect::<Result<_, _>>();
            let batch = arrays.and_then(|arrays| RecordBatch::try_new(table.file_schema(), arrays));
            let day = keys.first().filter(|_| table.is_partitioned()).map(|key| CivilDay(key.day));
            Ok(Part { day, batches: vec![batch.map_err(Error::arrow(table))?] })
        })
        .collect()
}

fn sort_keys(table: Table, batches: &[RecordBatch]) -> Result<Vec<SortKey>, Error> {
    let mut keys = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    let mut row = 0;
    for batch in batches {
        let columns = Columns { table, batch };
        let owners = columns.integers("meter_id")?.values();
        let times = columns.instants(table.time_column())?.values();
        let positions = columns.integers("position")?.values();
        let days = if table.is_partitioned() { Some(columns.days(None)?) } else { None };
        for index in 0..batch.num_rows() {
            let day = days.as_ref().map_or(0, |days| days.at(index).0);
            keys.push(SortKey {
                day,
                owner: owners[index],
                time: times[index],
                position: positions[index],
                row,
            });
            row += 1;
        }
    }
    Ok(keys)
}

/// A column of all batches; most channels of a table are empty, and are not copied.
enum Gathered {
    Empty(DataType),
    Values(ArrayRef),
}

impl Gathered {
    /// The columns of the table's files.
    fn columns(table: Table, batches: &[RecordBatch]) -> Result<Vec<Gathered>, ArrowError> {
        let schema = table.file_schema();
        let gather = |field: &FieldRef| {
            let parts: Vec<&dyn Array> =
                batches.iter().filter_map(|batch| Some(&**batch.column_by_name(field.name())?)).collect();
            if parts.iter().all(|part| part.null_count() == part.len()) {
                return Ok(Gathered::Empty(field.data_type().clone()));
            }
            concat(&parts).map(Gathered::Values)
        };
        schema.fields().iter().map(gather).collect()
    }

    fn take(&self, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        match self {
            Gathered::Empty(data_type) => Ok(new_null_array(data_type, rows.len())),
            Gathered::Values(values) => take(values, rows, None),
        }
    }
}

/// Writes one data file, durable with its name. A file that exists is never written over.
pub(crate) fn write(
    disk: &Disk,
    options: &Options,
    table: Table,
    dir: &Path,
    positions: (Position, Position),
    part: &Part,
) -> Result<Written, Error> {
    let folder = part.day.map(|day| format!("{USAGE_DATE}={day}"));
    let place = folder.as_ref().map_or_else(|| dir.to_owned(), |folder| dir.join(folder));
    disk.create_dir(&place)?;
    let (path, file) = create(&place, table, positions)?;
    let result = write_content(disk, options, table, &path, file, part);
    if result.is_err() {
        // The file is of no use; where it cannot be removed it stays unreferenced.
        let _ = fs::remove_file(&path);
    }
    let digest = result?;
    disk.sync_dir(&place)?;
    let metadata = fs::metadata(&path).map_err(Error::io("look at", &path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Written {
        file: describe(table, path, metadata.len(), part)?,
        name,
        digest,
        modified_ms: modified.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0),
    })
}

fn create(place: &Path, table: Table, positions: (Position, Position)) -> Result<(PathBuf, File), Error> {
    for attempt in 0_u32.. {
        let (Position(from), Position(to)) = positions;
        let path = place.join(format!("{table}-{from:012}-{to:012}-{attempt}.parquet"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Io { what: "make", path, source }),
        }
    }
    unreachable!("some attempt is free")
}

fn write_content(
    disk: &Disk,
    options: &Options,
    table: Table,
    path: &Path,
    file: File,
    part: &Part,
) -> Result<String, Error> {
    let properties = properties(table, options, distinct_owners(table, &part.batches)?);
    let arrow_options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let failed_sync = FailedSync::default();
    let sink = Sink { file, hasher: blake3::Hasher::new(), unsynced: 0, failed_sync: failed_sync.clone() };
    let sink =
        write_parquet(sink, table, path, arrow_options, part).map_err(|error| match failed_sync.take() {
            Some(source) => Error::Sync { path: path.to_owned(), source },
            None => error,
        })?;
    disk.sync_file(&sink.file, path)?;
    Ok(sink.hasher.finalize().to_hex().to_string())
}

fn write_parquet(
    sink: Sink,
    table: Table,
    path: &Path,
    options: ArrowWriterOptions,
    part: &Part,
) -> Result<Sink, Error> {
    let fault = || Error::parquet(path);
    let buffer = io::BufWriter::with_capacity(PIECE, sink);
    let mut writer =
        ArrowWriter::try_new_with_options(buffer, table.file_schema(), options).map_err(fault())?;
    for batch in &part.batches {
        writer.write(batch).map_err(fault())?;
    }
    let buffer = writer.into_inner().map_err(fault())?;
    buffer.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))
}

/// What the log says of a file, from the rows in it.
fn describe(table: Table, path: PathBuf, bytes: u64, part: &Part) -> Result<DataFile, Error> {
    let rows = part.batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let positions = bounds(table, &part.batches, "position")?;
    let times = bounds(table, &part.batches, table.time_column())?;
    let meters = match table.owner_column() {
        Some("meter_id") => bounds(table, &part.batches, "meter_id")?,
        _ => None,
    };
    Ok(DataFile {
        path,
        bytes,
        rows,
        usage_date: part.day.map(|day| day.0),
        meter_min: meters.map(|(min, _)| min),
        meter_max: meters.map(|(_, max)| max),
        // The log keeps milliseconds: outward, so that nothing falls out.
        time_min: times.map(|(min, _)| min.div_euclid(1000) * 1000),
        time_max: times.map(|(_, max)| max.saturating_add(999).div_euclid(1000) * 1000),
        position_min: positions.map_or(0, |(min, _)| min),
        position_max: positions.map_or(0, |(_, max)| max),
    })
}

fn bounds(table: Table, batches: &[RecordBatch], name: &str) -> Result<Option<(i64, i64)>, Error> {
    let mut found: Option<(i64, i64)> = None;
    for batch in batches {
        let columns = Columns { table, batch };
        let (min, max) = match columns.integers(name) {
            Ok(column) => (arrow::compute::min(column), arrow::compute::max(column)),
            Err(_) => {
                let column = columns.instants(name)?;
                (arrow::compute::min(column), arrow::compute::max(column))
            }
        };
        if let (Some(min), Some(max)) = (min, max) {
            found = Some(found.map_or((min, max), |(low, high)| (low.min(min), high.max(max))));
        }
    }
    Ok(found)
}

fn distinct_owners(table: Table, batches: &[RecordBatch]) -> Result<u64, Error> {
    let Some(owner) = table.owner_column() else { return Ok(0) };
    let mut owners = HashSet::new();
    for batch in batches {
        let column = Columns { table, batch }.integers(owner)?;
        // Rows of one owner mostly stand together.
        let mut before = None;
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let owner = column.value(row);
            if before != Some(owner) {
                owners.insert(owner);
                before = Some(owner);
            }
        }
    }
    Ok(owners.len() as u64)
}

fn properties(table: Table, options: &Options, owners: u64) -> WriterProperties {
    let schema = table.file_schema();
    let level = ZstdLevel::try_new(options.zstd_level).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("urja ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_data_page_row_count_limit(options.page_rows)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting_columns(table, &schema)));
    for field in schema.fields() {
        builder = column_properties(builder, field.name(), field.data_type(), options);
    }
    if let Some(owner) = table.owner_column() {
        let path = ColumnPath::from(owner);
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), 0.01)
            .set_column_bloom_filter_max_ndv(path, owners.max(1));
    }
    builder.build()
}

/// Integers without a dictionary; text with one, but for digests and what else is hardly ever the same twice.
fn column_properties(
    builder: WriterPropertiesBuilder,
    name: &str,
    data_type: &DataType,
    options: &Options,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(name);
    match data_type {
        DataType::Int64
        | DataType::Int32
        | DataType::Int16
        | DataType::Date32
        | DataType::Timestamp(_, _) => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, options.integers.encoding()),
        DataType::Binary => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None),
        DataType::Utf8 if matches!(name, "digest" | "frame_digest" | "payment_id") => {
            builder.set_column_dictionary_enabled(path, false)
        }
        _ => builder,
    }
}

impl IntegerEncoding {
    fn encoding(self) -> Encoding {
        match self {
            IntegerEncoding::DeltaBinaryPacked => Encoding::DELTA_BINARY_PACKED,
            IntegerEncoding::ByteStreamSplit => Encoding::BYTE_STREAM_SPLIT,
        }
    }
}

fn sorting_columns(table: Table, schema: &SchemaRef) -> Vec<SortingColumn> {
    let index = |name: &&str| schema.index_of(name).ok().and_then(|index| i32::try_from(index).ok());
    let column = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
    table.sorted_by().iter().filter_map(index).map(column).collect()
}

/// Bytes after which what was written is synced: one large sync would hold up those of the journal, for which senders
/// wait, by as long as the disk takes for the whole file.
const PIECE: usize = 1 << 20;

/// A file whose bytes are hashed on their way, and synced piece by piece.
struct Sink {
    file: File,
    hasher: blake3::Hasher,
    /// Bytes since the last sync.
    unsynced: usize,
    failed_sync: FailedSync,
}

/// Why a sync failed, besides the Parquet writer, which knows no such error.
#[derive(Clone, Default)]
struct FailedSync(Arc<Mutex<Option<io::Error>>>);

impl FailedSync {
    fn put(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(PIECE)])?;
        self.hasher.update(&bytes[..written]);
        self.unsynced += written;
        if self.unsynced >= PIECE {
            self.unsynced = 0;
            if let Err(error) = self.file.sync_data() {
                self.failed_sync.put(error);
                return Err(io::Error::other("a sync failed"));
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
