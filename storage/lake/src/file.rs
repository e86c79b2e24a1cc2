//! Data files: Parquet written so that one meter's rows are found by reading a few pages.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, SchemaRef};
use bytes::Bytes;
use model::Position;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use crate::column::{Chunk, Press};
use crate::disk::Disk;
use crate::gather::{Column, Gathered};
use crate::order::{Part, Run, pieces};
use crate::parallel::in_parallel;
use crate::table::USAGE_DATE;
use crate::{DataFile, Error, IntegerEncoding, Table};

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

/// Writes one data file, durable with its name. A file that exists is never written over.
pub(crate) fn write(
    disk: &Disk,
    presses: &mut [Press],
    table: Table,
    dir: &Path,
    positions: (Position, Position),
    columns: &[Column<'_>],
    part: &Part,
) -> Result<Written, Error> {
    let folder = part.day.map(|day| format!("{USAGE_DATE}={day}"));
    let place = folder.as_ref().map_or_else(|| dir.to_owned(), |folder| dir.join(folder));
    disk.create_dir(&place)?;
    let (path, file) = create(&place, table, positions)?;
    let result = write_content(disk, presses, table, &path, file, columns, part);
    if result.is_err() {
        // The file is of no use; where it cannot be removed it stays unreferenced.
        let _ = fs::remove_file(&path);
    }
    let (digest, bounds) = result?;
    disk.sync_dir(&place)?;
    let metadata = fs::metadata(&path).map_err(Error::io("look at", &path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Written {
        file: describe(table, path, metadata.len(), part, &bounds),
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
    presses: &mut [Press],
    table: Table,
    path: &Path,
    file: File,
    columns: &[Column<'_>],
    part: &Part,
) -> Result<(String, Bounds), Error> {
    let failed_sync = FailedSync::default();
    let sink = Sink { file, hasher: blake3::Hasher::new(), unsynced: 0, failed_sync: failed_sync.clone() };
    let buffer = io::BufWriter::with_capacity(PIECE, sink);
    let (buffer, bounds) =
        write_parquet(buffer, presses, table, columns, part).map_err(|error| match failed_sync.take() {
            Some(source) => Error::Sync { path: path.to_owned(), source },
            None => Error::parquet(path)(error),
        })?;
    let sink = buffer.into_inner().map_err(|error| match failed_sync.take() {
        Some(source) => Error::Sync { path: path.to_owned(), source },
        None => Error::io("write", path)(error.into_error()),
    })?;
    disk.sync_file(&sink.file, path)?;
    Ok((sink.hasher.finalize().to_hex().to_string(), bounds))
}

type Buffer = io::BufWriter<Sink>;

/// Lowest and highest value of each column of a file, where it is of integers.
type Bounds = Vec<Option<(i64, i64)>>;

fn write_parquet(
    buffer: Buffer,
    presses: &mut [Press],
    table: Table,
    columns: &[Column<'_>],
    part: &Part,
) -> Result<(Buffer, Bounds), ParquetError> {
    let (rows, press) = (presses[0].row_group_rows, &presses[0]);
    let schema = table.file_schema();
    let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
    let properties = Arc::new(properties(table, &schema, press));
    let mut writer = SerializedFileWriter::new(buffer, parquet_schema.root_schema_ptr(), properties)?;
    let others = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema));
    let mut bounds: Bounds = vec![None; columns.len()];
    for (number, runs) in pieces(&part.runs, rows).iter().enumerate() {
        let has_others = columns.iter().any(|column| !column.is_integers());
        let writers = if has_others { others.create_column_writers(number)? } else { Vec::new() };
        let mut writers = writers.into_iter();
        let chunk = |(index, column)| ChunkOf {
            column,
            field: schema.field(index),
            descriptor: parquet_schema.column(index),
            is_owner: table.owner_column() == Some(schema.field(index).name().as_str()),
            other: writers.next(),
        };
        let chunks: Vec<ChunkOf<'_>> = columns.iter().enumerate().map(chunk).collect();
        let group = RowGroup { runs, pages: pieces(runs, presses[0].page_rows) };
        let encoded = in_parallel(presses, chunks, |press, chunk| chunk.encode(press, &group));
        let mut row_group = writer.next_row_group()?;
        for (bounds, encoded) in bounds.iter_mut().zip(encoded) {
            match encoded? {
                Encoded::Integers { bytes, close, bounds: of_chunk } => {
                    *bounds =
                        [*bounds, of_chunk].into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
                    row_group.append_column(&bytes, close)?;
                }
                Encoded::Other(chunk) => chunk.append_to_row_group(&mut row_group)?,
            }
        }
        row_group.close()?;
    }
    Ok((writer.into_inner()?, bounds))
}

/// The rows of a row group.
struct RowGroup<'a> {
    runs: &'a [Run],
    pages: Vec<Vec<Run>>,
}

/// A column chunk that is to be made.
struct ChunkOf<'a> {
    column: &'a Column<'a>,
    field: &'a Field,
    descriptor: ColumnDescPtr,
    /// Whether it is of the owners, of whom it gets a filter.
    is_owner: bool,
    /// What the library writes it with, where it is of text, bytes or flags.
    other: Option<ArrowColumnWriter>,
}

/// A column chunk that only has to be appended.
enum Encoded {
    Integers { bytes: Bytes, close: ColumnCloseResult, bounds: Option<(i64, i64)> },
    Other(ArrowColumnChunk),
}

impl ChunkOf<'_> {
    fn encode(self, press: &mut Press, group: &RowGroup<'_>) -> Result<Encoded, ParquetError> {
        if !self.column.is_integers() {
            return self.encode_other(group.runs).map(Encoded::Other);
        }
        let mut chunk = Chunk::new(self.descriptor, self.is_owner.then(|| runs_rows(group.runs)))?;
        let mut gathered = Gathered::default();
        for page in &group.pages {
            gathered.take(self.column, page);
            chunk.push(press, gathered.page())?;
            press.rest();
        }
        let bounds = chunk.bounds();
        let (bytes, close) = chunk.close(press)?;
        Ok(Encoded::Integers { bytes, close, bounds })
    }

    /// A column of text, bytes or flags as the library writes it.
    fn encode_other(self, runs: &[Run]) -> Result<ArrowColumnChunk, ParquetError> {
        let none = || ParquetError::General("no writer for a column".to_owned());
        let mut writer = self.other.ok_or_else(none)?;
        for leaf in compute_leaves(self.field, &self.column.array(runs)?)? {
            writer.write(&leaf)?;
        }
        writer.close()
    }
}

fn runs_rows(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.len)).sum()
}

/// What the log says of a file, from the rows in it.
fn describe(table: Table, path: PathBuf, bytes: u64, part: &Part, bounds: &Bounds) -> DataFile {
    let schema = table.file_schema();
    let bounds = |name: &str| schema.index_of(name).ok().and_then(|index| bounds[index]);
    let positions = bounds("position");
    let times = bounds(table.time_column());
    let meters = table.owner_column().filter(|owner| *owner == "meter_id").and_then(bounds);
    DataFile {
        path,
        bytes,
        rows: part.rows() as u64,
        usage_date: part.day.map(|day| day.0),
        meter_min: meters.map(|(min, _)| min),
        meter_max: meters.map(|(_, max)| max),
        // The log keeps milliseconds: outward, so that nothing falls out.
        time_min: times.map(|(min, _)| min.div_euclid(1000) * 1000),
        time_max: times.map(|(_, max)| max.saturating_add(999).div_euclid(1000) * 1000),
        position_min: positions.map_or(0, |(min, _)| min),
        position_max: positions.map_or(0, |(_, max)| max),
    }
}

/// What the library has to know: of the columns it writes, and of the file.
fn properties(table: Table, schema: &SchemaRef, press: &Press) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("urja ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(press.level))
        .set_data_page_row_count_limit(press.page_rows)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting_columns(table, schema)));
    for field in schema.fields() {
        builder = column_properties(builder, field.name(), field.data_type());
    }
    builder.build()
}

/// Text with a dictionary, but for what is hardly ever the same twice. Digests are as they are: nothing makes them shorter.
fn column_properties(
    builder: WriterPropertiesBuilder,
    name: &str,
    data_type: &DataType,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(name);
    match data_type {
        DataType::Binary if matches!(name, "digest" | "frame_digest") => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(path, EnabledStatistics::None),
        DataType::Binary => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None),
        DataType::Utf8 if name == "payment_id" => builder.set_column_dictionary_enabled(path, false),
        _ => builder,
    }
}

impl IntegerEncoding {
    pub(crate) fn encoding(self) -> Encoding {
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
