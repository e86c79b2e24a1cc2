//! `system.tables` and `system.columns`: what there is, in which unit, and what it means.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use lake::Column;

use super::state::StateTable;
use super::views::Views;
use super::{PUBLIC, SYSTEM};

/// A table or view as the dictionary shows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) description: String,
    pub(crate) columns: Vec<EntryColumn>,
}

/// A column as the dictionary shows it.
#[derive(Debug)]
pub(crate) struct EntryColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
    pub(crate) unit: Option<String>,
    pub(crate) comment: String,
}

/// The dictionary of everything; `schema_of` gives the columns of a view.
pub(crate) fn entries(views: &Views, schema_of: impl Fn(&str) -> Option<SchemaRef>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = lake::Table::ALL
        .into_iter()
        .map(|table| Entry {
            schema: PUBLIC,
            name: table.name(),
            kind: "table",
            description: table.description().to_owned(),
            columns: table.columns().iter().map(EntryColumn::from).collect(),
        })
        .collect();
    entries.extend(StateTable::ALL.into_iter().map(|table| Entry {
        schema: table.place().0,
        name: table.place().1,
        kind: "table",
        description: table.description().to_owned(),
        columns: table.columns().iter().map(EntryColumn::from).collect(),
    }));
    entries.extend(views.all().map(|view| {
        let schema = schema_of(view.name);
        let columns = view.heading.columns.iter().map(|words| {
            let field = schema.as_ref().and_then(|schema| schema.field_with_name(&words.name).ok().cloned());
            EntryColumn {
                name: words.name.clone(),
                data_type: field.as_ref().map_or(DataType::Null, |field| field.data_type().clone()),
                nullable: field.is_none_or(|field| field.is_nullable()),
                unit: words.unit.clone(),
                comment: words.comment.clone(),
            }
        });
        Entry {
            schema: PUBLIC,
            name: view.name,
            kind: "view",
            description: view.heading.description.clone(),
            columns: columns.collect(),
        }
    }));
    let tables = tables_schema();
    let columns = columns_schema();
    let own = [
        ("tables", "Tables and views: what a row of each is.", tables),
        ("columns", "Columns of all tables and views: type, unit and meaning.", columns),
    ];
    entries.extend(own.into_iter().map(|(name, description, schema)| Entry {
        schema: SYSTEM,
        name,
        kind: "table",
        description: description.to_owned(),
        columns: schema.fields().iter().map(|field| EntryColumn::of_field(field)).collect(),
    }));
    entries
}

impl From<&Column> for EntryColumn {
    fn from(column: &Column) -> EntryColumn {
        EntryColumn {
            name: column.name.to_owned(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
            unit: column.unit.map(str::to_owned),
            comment: column.comment.to_owned(),
        }
    }
}

impl EntryColumn {
    fn of_field(field: &Field) -> EntryColumn {
        EntryColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            unit: None,
            comment: field.metadata().get(COMMENT).cloned().unwrap_or_default(),
        }
    }
}

const COMMENT: &str = "comment";

fn field(name: &str, data_type: DataType, nullable: bool, comment: &str) -> Field {
    let metadata = [(COMMENT.to_owned(), comment.to_owned())].into_iter().collect();
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

/// Columns of `system.tables`.
pub(crate) fn tables_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("table_schema", DataType::Utf8, false, "schema it lies in"),
        field("table_name", DataType::Utf8, false, "its name"),
        field("kind", DataType::Utf8, false, "table or view"),
        field("description", DataType::Utf8, false, "what a row of it is"),
    ]))
}

/// Columns of `system.columns`.
pub(crate) fn columns_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("table_schema", DataType::Utf8, false, "schema of the table"),
        field("table_name", DataType::Utf8, false, "table or view"),
        field("ordinal", DataType::Int64, false, "place of the column in it, from 1"),
        field("column_name", DataType::Utf8, false, "name of the column"),
        field("data_type", DataType::Utf8, false, "type of its values"),
        field("nullable", DataType::Boolean, false, "whether it may be empty"),
        field("unit", DataType::Utf8, true, "unit of its values"),
        field("comment", DataType::Utf8, false, "what its values mean"),
    ]))
}

/// Rows of `system.tables`.
pub(crate) fn tables(entries: &[Entry]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Entry) -> &str| {
        Arc::new(entries.iter().map(|entry| Some(of(entry))).collect::<StringArray>())
    };
    RecordBatch::try_new(
        tables_schema(),
        vec![
            text(|entry| entry.schema),
            text(|entry| entry.name),
            text(|entry| entry.kind),
            text(|entry| &entry.description),
        ],
    )
}

/// Rows of `system.columns`.
pub(crate) fn columns(entries: &[Entry]) -> Result<RecordBatch, ArrowError> {
    let all = || {
        entries.iter().flat_map(|entry| {
            entry.columns.iter().zip(1_i64..).map(move |(column, ordinal)| (entry, ordinal, column))
        })
    };
    RecordBatch::try_new(
        columns_schema(),
        vec![
            Arc::new(all().map(|(entry, _, _)| Some(entry.schema)).collect::<StringArray>()),
            Arc::new(all().map(|(entry, _, _)| Some(entry.name)).collect::<StringArray>()),
            Arc::new(all().map(|(_, ordinal, _)| Some(ordinal)).collect::<Int64Array>()),
            Arc::new(all().map(|(_, _, column)| Some(column.name.as_str())).collect::<StringArray>()),
            Arc::new(all().map(|(_, _, column)| Some(column.data_type.to_string())).collect::<StringArray>()),
            Arc::new(all().map(|(_, _, column)| Some(column.nullable)).collect::<BooleanArray>()),
            Arc::new(all().map(|(_, _, column)| column.unit.as_deref()).collect::<StringArray>()),
            Arc::new(all().map(|(_, _, column)| Some(column.comment.as_str())).collect::<StringArray>()),
        ],
    )
}
