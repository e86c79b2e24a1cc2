//! Column chunks of integers, and of nothing: pages, their index, and what the footer says of them.
//!
//! The Parquet library would do it, value by value and with a compressor made anew for each chunk; this takes pages, uses
//! one compressor for all files, and spends next to nothing on channels that are empty or always the same. Everything
//! around the chunks is the library's: footer, indexes, filters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, EncodingMask, PageType, Type, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use crate::pack::{self, Width, put_varint};
use crate::{IntegerEncoding, Options};

/// Share of absent values that are found in a bloom filter all the same.
const FALSE_POSITIVES: f64 = 0.01;

/// What all chunks are made with, one after the other.
pub(crate) struct Press {
    zstd: Compressor<'static>,
    pub(crate) level: ZstdLevel,
    integers: IntegerEncoding,
    pub(crate) row_group_rows: usize,
    pub(crate) page_rows: usize,
    /// A page before it is compressed.
    page: Vec<u8>,
    pause: Duration,
    /// When it last gave the core away.
    rested: Instant,
    hurry_bytes: usize,
    hot_bytes: Arc<AtomicUsize>,
    /// Whether somebody waits for the files.
    is_awaited: bool,
}

/// So long a core is kept before a pause. Pages differ: one of an empty channel takes a microsecond, one of text tens of
/// thousands.
const SPELL: Duration = Duration::from_micros(250);

impl Press {
    pub(crate) fn new(options: &Options, hot_bytes: Arc<AtomicUsize>) -> std::io::Result<Press> {
        let level = ZstdLevel::try_new(options.zstd_level).unwrap_or_default();
        Ok(Press {
            zstd: Compressor::new(level.compression_level())?,
            level,
            integers: options.integers,
            row_group_rows: options.row_group_rows.max(1),
            page_rows: options.page_rows.max(1),
            page: Vec::new(),
            pause: options.pause,
            rested: Instant::now(),
            hurry_bytes: options.hurry_bytes,
            hot_bytes,
            is_awaited: false,
        })
    }

    /// Whether somebody waits for what it makes next.
    pub(crate) fn begin(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
    }

    /// Gives the core away for a moment if it was kept for long, unless rows press or somebody waits.
    pub(crate) fn rest(&mut self) {
        if self.is_awaited || self.pause.is_zero() || self.rested.elapsed() < SPELL {
            return;
        }
        if self.hot_bytes.load(Ordering::Relaxed) < self.hurry_bytes {
            std::thread::sleep(self.pause);
        }
        self.rested = Instant::now();
    }
}

/// The values of a page that are there, in order, and which rows have one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageValues<'a> {
    pub(crate) rows: usize,
    pub(crate) values: &'a [i64],
    /// Which rows have a value; looked at only where some have and some have not.
    pub(crate) present: &'a [bool],
}

/// A chunk under way.
pub(crate) struct Chunk {
    column: ColumnDescPtr,
    out: TrackedWrite<Vec<u8>>,
    bloom: Option<Sbbf>,
    column_index: ColumnIndexBuilder,
    offset_index: OffsetIndexBuilder,
    bounds: Option<(i64, i64)>,
    order: Order,
    rows: usize,
    nulls: usize,
    pages: i32,
    uncompressed: usize,
}

impl Chunk {
    /// An empty chunk; `owners` asks for a bloom filter and says how many values it may get.
    pub(crate) fn new(column: ColumnDescPtr, owners: Option<u64>) -> Result<Chunk> {
        let bloom =
            owners.map(|owners| Sbbf::new_with_ndv_fpp(owners.max(1), FALSE_POSITIVES)).transpose()?;
        Ok(Chunk {
            out: TrackedWrite::new(Vec::new()),
            bloom,
            column_index: ColumnIndexBuilder::new(column.physical_type()),
            offset_index: OffsetIndexBuilder::new(),
            bounds: None,
            order: Order::default(),
            rows: 0,
            nulls: 0,
            pages: 0,
            uncompressed: 0,
            column,
        })
    }

    /// Lowest and highest value so far.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        self.bounds
    }

    /// Appends a page.
    pub(crate) fn push(&mut self, press: &mut Press, page: PageValues<'_>) -> Result<()> {
        let PageValues { rows, values, .. } = page;
        press.page.clear();
        if self.column.max_def_level() > 0 {
            put_levels(&mut press.page, page);
        }
        let encoding = self.encoding(press);
        if let Some(width) = width(self.column.physical_type()) {
            match press.integers {
                IntegerEncoding::DeltaBinaryPacked => pack::delta(width, values, &mut press.page),
                IntegerEncoding::ByteStreamSplit => pack::byte_streams(width, values, &mut press.page),
            }
        }
        let page = Page::DataPage {
            buf: press.zstd.compress(&press.page)?.into(),
            num_values: u32::try_from(rows).map_err(|_| ParquetError::General("a page too long".into()))?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        self.index(rows, values);
        let page = CompressedPage::new(page, press.page.len());
        let written = SerializedPageWriter::new(&mut self.out).write_page(page)?;
        let size = i32::try_from(written.compressed_size).unwrap_or(i32::MAX);
        self.offset_index.append_offset_and_size(written.offset.cast_signed(), size);
        self.uncompressed += written.uncompressed_size;
        self.pages += 1;
        Ok(())
    }

    fn encoding(&self, press: &Press) -> Encoding {
        width(self.column.physical_type()).map_or(Encoding::PLAIN, |_| press.integers.encoding())
    }

    fn index(&mut self, rows: usize, values: &[i64]) {
        let nulls = rows - values.len();
        self.rows += rows;
        self.nulls += nulls;
        self.offset_index.append_row_count(rows as i64);
        let Some(bounds) = bounds(values) else {
            self.column_index.append(true, Vec::new(), Vec::new(), nulls as i64);
            return;
        };
        let bytes = |value: i64| match self.column.physical_type() {
            Type::INT32 => (value as i32).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        self.column_index.append(false, bytes(bounds.0), bytes(bounds.1), nulls as i64);
        self.order.push(bounds);
        self.bounds = Some(self.bounds.map_or(bounds, |(low, high)| (low.min(bounds.0), high.max(bounds.1))));
        if let Some(bloom) = &mut self.bloom {
            // Rows of one owner mostly stand together.
            values.chunk_by(|a, b| a == b).for_each(|owner| bloom.insert(&owner[0]));
        }
    }

    /// Its bytes, and what the row group is told of it.
    pub(crate) fn close(mut self, press: &Press) -> Result<(Bytes, ColumnCloseResult)> {
        let encoding = self.encoding(press);
        self.column_index.set_boundary_order(self.order.boundary());
        if let Some(bloom) = &mut self.bloom {
            bloom.fold_to_target_fpp(FALSE_POSITIVES);
        }
        let bytes = Bytes::from(self.out.into_inner()?);
        let levels = (self.column.max_def_level() > 0).then_some(Encoding::RLE);
        let encodings: Vec<Encoding> = levels.into_iter().chain([encoding]).collect();
        let pages = PageEncodingStats { page_type: PageType::DATA_PAGE, encoding, count: self.pages };
        let metadata = ColumnChunkMetaData::builder(self.column.clone())
            .set_compression(Compression::ZSTD(press.level))
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_page_encoding_stats(vec![pages])
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.rows as i64)
            .set_data_page_offset(0)
            .set_statistics(statistics(self.column.physical_type(), self.bounds, self.nulls as u64))
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: self.bloom,
            column_index: Some(self.column_index.build()?),
            offset_index: Some(self.offset_index.build()),
        };
        Ok((bytes, close))
    }
}

fn width(kind: Type) -> Option<Width> {
    match kind {
        Type::INT32 => Some(Width::Short),
        Type::INT64 => Some(Width::Long),
        _ => None,
    }
}

fn bounds(values: &[i64]) -> Option<(i64, i64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), value| (low.min(*value), high.max(*value))))
}

fn statistics(kind: Type, bounds: Option<(i64, i64)>, nulls: u64) -> Statistics {
    let (min, max) = bounds.unzip();
    match kind {
        Type::INT32 => {
            let narrow = |value: i64| value as i32;
            ValueStatistics::new(min.map(narrow), max.map(narrow), None, Some(nulls), false)
                .with_backwards_compatible_min_max(true)
                .into()
        }
        Type::INT64 => ValueStatistics::new(min, max, None, Some(nulls), false)
            .with_backwards_compatible_min_max(true)
            .into(),
        _ => ValueStatistics::<ByteArray>::new(None, None, None, Some(nulls), false).into(),
    }
}

/// Whether the pages' bounds rise, which lets a reader search for a value by halving.
#[derive(Debug, Default)]
struct Order {
    last: Option<(i64, i64)>,
    falls: bool,
}

impl Order {
    fn push(&mut self, (min, max): (i64, i64)) {
        self.falls |= self.last.is_some_and(|(low, high)| min < low || max < high);
        self.last = Some((min, max));
    }

    fn boundary(&self) -> BoundaryOrder {
        if self.falls { BoundaryOrder::UNORDERED } else { BoundaryOrder::ASCENDING }
    }
}

/// Which rows have a value, in the hybrid of runs and bits that Parquet calls RLE, with its length before it.
fn put_levels(out: &mut Vec<u8>, page: PageValues<'_>) {
    let at = out.len();
    out.extend([0; 4]);
    if page.values.len() == page.rows || page.values.is_empty() {
        put_run(out, page.rows, !page.values.is_empty());
    } else {
        put_mixed_levels(out, page.present);
    }
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Eight rows at a time: runs of bytes that are all one or all zero, and the bits of the others.
fn put_mixed_levels(out: &mut Vec<u8>, present: &[bool]) {
    let bits = |rows: &[bool]| rows.iter().rev().fold(0_u8, |bits, row| bits << 1 | u8::from(*row));
    let bytes: Vec<u8> = present.chunks(8).map(bits).collect();
    let is_whole = |byte: u8| byte == 0 || byte == u8::MAX;
    let mut row = 0;
    for group in bytes.chunk_by(|a, b| a == b || !is_whole(*a) && !is_whole(*b)) {
        let rows = (group.len() * 8).min(present.len() - row);
        if is_whole(group[0]) {
            put_run(out, rows, group[0] != 0);
        } else {
            put_varint(out, (group.len() as u64) << 1 | 1);
            out.extend(group);
        }
        row += rows;
    }
}

fn put_run(out: &mut Vec<u8>, rows: usize, level: bool) {
    put_varint(out, (rows as u64) << 1);
    out.push(u8::from(level));
}
