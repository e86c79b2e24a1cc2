//! Reading few rows of a data file: row groups by statistics and bloom filter, then pages, then rows.

use std::fs::File;
use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter, RowSelection,
    RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use crate::{DataFile, Error, Table};

/// What is wanted of a table; a range that is not there wants everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) meter: Option<i64>,
    /// Of [`Table::time_column`], microseconds.
    pub(crate) times: Option<RangeInclusive<i64>>,
    /// Partitions, days since 1970.
    pub(crate) days: Option<RangeInclusive<i32>>,
    pub(crate) positions: Option<RangeInclusive<i64>>,
}

impl Wanted {
    /// Whether the file may hold such rows, from what the log says of it.
    pub(crate) fn may_be_in(&self, file: &DataFile) -> bool {
        let meets = |range: &Option<RangeInclusive<i64>>, min: Option<i64>, max: Option<i64>| {
            range.as_ref().is_none_or(|range| {
                min.is_none_or(|min| min <= *range.end()) && max.is_none_or(|max| max >= *range.start())
            })
        };
        let meter = self.meter.map(|meter| meter..=meter);
        let day = self.days.as_ref().zip(file.usage_date).is_none_or(|(days, day)| days.contains(&day));
        day && meets(&meter, file.meter_min, file.meter_max)
            && meets(&self.times, file.time_min, file.time_max)
            && meets(&self.positions, Some(file.position_min), Some(file.position_max))
    }

    /// The columns it looks at with their ranges.
    fn ranges(&self, table: Table) -> Vec<(&'static str, RangeInclusive<i64>)> {
        let meter = self.meter.map(|meter| ("meter_id", meter..=meter));
        let times = self.times.clone().map(|times| (table.time_column(), times));
        let positions = self.positions.clone().map(|positions| ("position", positions));
        [meter, times, positions].into_iter().flatten().collect()
    }
}

/// The rows of a file that are wanted.
pub(crate) fn scan(table: Table, file: &DataFile, wanted: &Wanted) -> Result<Vec<RecordBatch>, Error> {
    let content = File::open(&file.path).map_err(Error::io("open", &file.path))?;
    read(table, content, wanted).map_err(Error::parquet(&file.path))
}

fn read(table: Table, content: File, wanted: &Wanted) -> Result<Vec<RecordBatch>, ParquetError> {
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_schema(table.file_schema());
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(content, options)?;
    let ranges = wanted.ranges(table);
    let mut row_groups = Vec::new();
    for row_group in 0..builder.metadata().num_row_groups() {
        if may_be_in_row_group(&builder, row_group, &ranges)?
            && may_be_by_bloom(&builder, row_group, wanted.meter)?
        {
            row_groups.push(row_group);
        }
    }
    if row_groups.is_empty() {
        return Ok(Vec::new());
    }
    let selection = pages(&builder, &row_groups, &ranges)?;
    let filter = filter(&builder, &ranges);
    let mut builder = builder.with_row_groups(row_groups).with_row_filter(filter);
    if let Some(selection) = selection {
        builder = builder.with_row_selection(selection);
    }
    let batches = builder.build()?.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
}

type Builder = ParquetRecordBatchReaderBuilder<File>;

fn may_be_in_row_group(
    builder: &Builder,
    row_group: usize,
    ranges: &[(&'static str, RangeInclusive<i64>)],
) -> Result<bool, ParquetError> {
    for (name, range) in ranges {
        let converter = StatisticsConverter::try_new(name, builder.schema(), builder.parquet_schema())?;
        let metadata = [builder.metadata().row_group(row_group)];
        let statistics =
            Statistics::new(&converter.row_group_mins(metadata)?, &converter.row_group_maxes(metadata)?)?;
        if !statistics.meet(0, range) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn may_be_by_bloom(builder: &Builder, row_group: usize, meter: Option<i64>) -> Result<bool, ParquetError> {
    let column = builder.schema().column_with_name("meter_id").map(|(column, _)| column);
    let Some((meter, column)) = meter.zip(column) else { return Ok(true) };
    let bloom = builder.get_row_group_column_bloom_filter(row_group, column)?;
    Ok(bloom.is_none_or(|bloom| bloom.check(&meter)))
}

/// The rows of the row groups that lie in pages whose statistics meet all ranges.
fn pages(
    builder: &Builder,
    row_groups: &[usize],
    ranges: &[(&'static str, RangeInclusive<i64>)],
) -> Result<Option<RowSelection>, ParquetError> {
    let metadata = builder.metadata();
    let Some((columns, offsets)) = metadata.column_index().zip(metadata.offset_index()) else {
        return Ok(None);
    };
    let mut selection: Option<RowSelection> = None;
    for (name, range) in ranges {
        let converter = StatisticsConverter::try_new(name, builder.schema(), builder.parquet_schema())?;
        let mins = converter.data_page_mins(columns, offsets, row_groups)?;
        let statistics = Statistics::new(&mins, &converter.data_page_maxes(columns, offsets, row_groups)?)?;
        let Some(counts) = converter.data_page_row_counts(offsets, metadata.row_groups(), row_groups)? else {
            continue;
        };
        let mut selectors = Vec::with_capacity(counts.len());
        for page in 0..counts.len() {
            let rows = usize::try_from(counts.value(page)).unwrap_or(usize::MAX);
            let wanted = statistics.meet(page, range);
            selectors.push(if wanted { RowSelector::select(rows) } else { RowSelector::skip(rows) });
        }
        let of_column = RowSelection::from(selectors);
        selection = Some(selection.map_or(of_column.clone(), |selection| selection.intersection(&of_column)));
    }
    Ok(selection)
}

/// Lowest and highest value of row groups or pages.
struct Statistics {
    mins: Int64Array,
    maxes: Int64Array,
}

impl Statistics {
    fn new(mins: &ArrayRef, maxes: &ArrayRef) -> Result<Statistics, ParquetError> {
        Ok(Statistics { mins: integers(mins)?, maxes: integers(maxes)? })
    }

    /// Whether one of them meets a range; what is not known does.
    fn meet(&self, at: usize, range: &RangeInclusive<i64>) -> bool {
        let low_enough = self.mins.is_null(at) || self.mins.value(at) <= *range.end();
        low_enough && (self.maxes.is_null(at) || self.maxes.value(at) >= *range.start())
    }
}

/// Integers and instants as integers.
fn integers(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn filter(builder: &Builder, ranges: &[(&'static str, RangeInclusive<i64>)]) -> RowFilter {
    let predicates = ranges.iter().map(|(name, range)| {
        let mask = ProjectionMask::columns(builder.parquet_schema(), [*name]);
        let range = range.clone();
        let predicate = ArrowPredicateFn::new(mask, move |batch| {
            let values = integers(batch.column(0))?;
            let wanted = values.iter().map(|value| Some(value.is_some_and(|value| range.contains(&value))));
            Ok::<_, ArrowError>(wanted.collect::<BooleanArray>())
        });
        Box::new(predicate) as Box<_>
    });
    RowFilter::new(predicates.collect())
}
