//! A table of the lake at the pinned position: its files and its hot rows in one plan, each row once.
//!
//! Nothing is listed and no log is read: the snapshot names the files. Files are left out before the scan by their
//! `usage_date` and by the least and greatest meter, instant and position in them; within the rest, Parquet's row
//! groups, pages and bloom filters are used. Filters are handed down by the optimizer: rows of files are filtered
//! while they are decoded, hot rows by a filter above them, so both sides give the same.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{
    EmptyRelation, Expr, LogicalPlan, TableProviderFilterPushDown, TableType, utils::conjunction,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use lake::table::USAGE_DATE;
use lake::{DataFile, TableSnapshot};
use object_store::path::Path;

/// URL of the store that reads the lake's files; no other is known to a statement.
pub(crate) const STORE: &str = "lake://files";

/// A table of the lake.
#[derive(Debug)]
pub(crate) struct LakeTable {
    snapshot: TableSnapshot,
    /// In place of a scan where there are no rows at all, so that what joins it folds away while planning.
    empty: Option<LogicalPlan>,
}

impl LakeTable {
    pub(crate) fn new(snapshot: TableSnapshot) -> Result<LakeTable> {
        let hot = snapshot.hot.iter().any(|batch| batch.num_rows() > 0);
        let empty = match hot || !snapshot.files.is_empty() {
            true => None,
            false => Some(LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema: Arc::new(DFSchema::try_from(snapshot.schema.as_ref().clone())?),
            })),
        };
        Ok(LakeTable { snapshot, empty })
    }

    fn file_scan(
        &self,
        state: &dyn Session,
        files: &[&DataFile],
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.snapshot.table;
        let partition: Vec<Arc<Field>> = match table.is_partitioned() {
            true => vec![Arc::new(self.snapshot.schema.field_with_name(USAGE_DATE)?.clone())],
            false => Vec::new(),
        };
        let schema = TableSchema::builder(table.file_schema()).with_table_partition_cols(partition).build();
        let url = ObjectStoreUrl::parse(STORE)?;
        let runtime = state.runtime_env();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let group =
            FileGroup::new(files.iter().map(|file| self.partitioned(file)).collect::<Result<Vec<_>>>()?);
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(group.split_files(state.config().target_partitions()))
            .with_statistics(self.file_statistics(files))
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn partitioned(&self, file: &DataFile) -> Result<PartitionedFile> {
        let path = Path::from_absolute_path(&file.path).map_err(object_store::Error::from)?;
        let values = match self.snapshot.table.is_partitioned() {
            true => vec![ScalarValue::Date32(file.usage_date)],
            false => Vec::new(),
        };
        let mut partitioned = PartitionedFile::new(String::new(), file.bytes).with_partition_values(values);
        partitioned.object_meta.location = path;
        Ok(partitioned)
    }

    /// What is known of the chosen files: rows exactly, as a file is never changed.
    fn file_statistics(&self, files: &[&DataFile]) -> Statistics {
        let sum = |of: fn(&DataFile) -> u64| files.iter().map(|file| of(file)).sum::<u64>();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let columns = self.snapshot.schema.fields().iter().map(|field| {
            let bounds = Bounds::of(files, self.snapshot.table, field);
            ColumnStatistics {
                min_value: bounds
                    .as_ref()
                    .and_then(Bounds::least)
                    .map_or(Precision::Absent, Precision::Inexact),
                max_value: bounds
                    .as_ref()
                    .and_then(Bounds::greatest)
                    .map_or(Precision::Absent, Precision::Inexact),
                ..ColumnStatistics::new_unknown()
            }
        });
        Statistics {
            num_rows: Precision::Exact(size(sum(|file| file.rows))),
            total_byte_size: Precision::Inexact(size(sum(|file| file.bytes))),
            column_statistics: columns.collect(),
        }
    }

    fn hot_scan(&self, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = [self.snapshot.hot.clone()];
        let schema = Arc::clone(&self.snapshot.schema);
        let source =
            MemorySourceConfig::try_new(&partitions, schema, projection.cloned())?.with_show_sizes(false);
        Ok(DataSourceExec::from_data_source(source))
    }

    /// The files that may hold rows the filters let through.
    fn chosen(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<&DataFile>> {
        let files: Vec<&DataFile> = self.snapshot.files.iter().collect();
        let Some(filter) = conjunction(filters.to_vec()) else {
            return Ok(files);
        };
        let schema = &self.snapshot.schema;
        let days = self.days_chosen(state, filters)?;
        let files: Vec<&DataFile> = files.into_iter().filter(|file| days.allow(file)).collect();
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema.as_ref().clone())?)?;
        let pruning =
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter)?;
        if pruning.always_true() {
            return Ok(files);
        }
        let kept = pruning.prune(&FileBounds { files: &files, table: self.snapshot.table, schema })?;
        Ok(files.into_iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect())
    }

    /// The days that pass the filters which look at nothing but the day: whatever they are, they are asked for each
    /// day there is.
    fn days_chosen(&self, state: &dyn Session, filters: &[Expr]) -> Result<Days> {
        let only_day = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty() && columns.iter().all(|column| column.name == USAGE_DATE)
        };
        let about_day: Vec<Expr> = filters.iter().filter(only_day).cloned().collect();
        let Some(filter) = conjunction(about_day).filter(|_| self.snapshot.table.is_partitioned()) else {
            return Ok(Days::All);
        };
        let field = Field::new(USAGE_DATE, DataType::Date32, true);
        let schema = Arc::new(Schema::new(vec![field]));
        let filter = state
            .create_physical_expr(unqualified(filter)?, &DFSchema::try_from(schema.as_ref().clone())?)?;
        let there: HashSet<i32> = self.snapshot.files.iter().filter_map(|file| file.usage_date).collect();
        Days::passing(&filter, &schema, there.into_iter().collect())
    }
}

/// The expression with bare column names.
fn unqualified(expr: Expr) -> Result<Expr> {
    expr.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    })
    .map(|transformed| transformed.data)
}

enum Days {
    All,
    These(HashSet<i32>),
}

impl Days {
    fn passing(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, days: Vec<i32>) -> Result<Days> {
        let column: ArrayRef = Arc::new(Date32Array::from(days.clone()));
        let batch = RecordBatch::try_new(Arc::clone(schema), vec![column])?;
        let passed = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let chosen = days.into_iter().zip(passed.as_boolean()).filter(|(_, passed)| *passed == Some(true));
        Ok(Days::These(chosen.map(|(day, _)| day).collect()))
    }

    fn allow(&self, file: &DataFile) -> bool {
        match self {
            Days::All => true,
            Days::These(days) => file.usage_date.is_none_or(|day| days.contains(&day)),
        }
    }
}

/// Least and greatest value of one column, by file.
struct Bounds {
    least: ArrayRef,
    greatest: ArrayRef,
}

impl Bounds {
    fn of(files: &[&DataFile], table: lake::Table, field: &Field) -> Option<Bounds> {
        let array = |of: &dyn Fn(&DataFile) -> Option<i64>| {
            array(field.data_type(), files.iter().map(|file| of(file)))
        };
        let both = |least: &dyn Fn(&DataFile) -> Option<i64>, greatest: &dyn Fn(&DataFile) -> Option<i64>| {
            Some(Bounds { least: array(least)?, greatest: array(greatest)? })
        };
        match field.name().as_str() {
            "position" => both(&|file| Some(file.position_min), &|file| Some(file.position_max)),
            "meter_id" => both(&|file| file.meter_min, &|file| file.meter_max),
            USAGE_DATE if table.is_partitioned() => {
                let day = |file: &DataFile| file.usage_date.map(i64::from);
                both(&day, &day)
            }
            name if name == table.time_column() => both(&|file| file.time_min, &|file| file.time_max),
            _ => None,
        }
    }

    fn least(&self) -> Option<ScalarValue> {
        extreme(&self.least, |a, b| a < b)
    }

    fn greatest(&self) -> Option<ScalarValue> {
        extreme(&self.greatest, |a, b| a > b)
    }
}

/// The value that comes before all others; none where one is not known.
fn extreme(values: &ArrayRef, before: impl Fn(&ScalarValue, &ScalarValue) -> bool) -> Option<ScalarValue> {
    let scalars = (0..values.len())
        .map(|row| ScalarValue::try_from_array(values, row).ok().filter(|value| !value.is_null()));
    let known: Option<Vec<ScalarValue>> = scalars.collect();
    known?.into_iter().reduce(|kept, value| if before(&value, &kept) { value } else { kept })
}

fn array(data_type: &DataType, values: impl Iterator<Item = Option<i64>>) -> Option<ArrayRef> {
    Some(match data_type {
        DataType::Int64 => Arc::new(values.collect::<Int64Array>()),
        DataType::Date32 => Arc::new(
            values.map(|value| value.and_then(|day| i32::try_from(day).ok())).collect::<Date32Array>(),
        ),
        DataType::Timestamp(_, _) => {
            Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone(data_type)))
        }
        _ => return None,
    })
}

fn zone(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

/// The files as the pruning predicate asks about them.
struct FileBounds<'a> {
    files: &'a [&'a DataFile],
    table: lake::Table,
    schema: &'a Schema,
}

impl FileBounds<'_> {
    fn bounds(&self, column: &Column) -> Option<Bounds> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        Bounds::of(self.files, self.table, field)
    }
}

impl PruningStatistics for FileBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| bounds.least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| bounds.greatest)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.snapshot.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.empty.as_ref().map(Cow::Borrowed)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.chosen(state, filters)?;
        let mut parts = Vec::new();
        if !files.is_empty() {
            parts.push(self.file_scan(state, &files, projection)?);
        }
        if !self.snapshot.hot.is_empty() {
            parts.push(self.hot_scan(projection)?);
        }
        match parts.len() {
            0 => {
                let schema = datafusion::common::project_schema(&self.snapshot.schema, projection)?;
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}
