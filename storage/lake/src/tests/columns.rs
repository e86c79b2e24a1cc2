//! Columns: the same rows whatever way they are kept, the same order as a plain sort gives, and the same bytes as the
//! Parquet library's own encoder.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use model::row::ReadingRow;
use model::{Channel, CivilDay, Instant, MeterId, Position, Quality, Row};
use parquet::basic::{Encoding, Repetition, Type as Physical};
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnWriterImpl, get_column_writer, get_typed_column_writer};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};
use proptest::prelude::*;

use crate::order::{Run, parts, pieces};
use crate::pack::{self, Width};
use crate::rows::Rows;
use crate::{Table, decode};

/// Values as columns have them: the same for long, rising, near each other, and anything at all.
fn values() -> impl Strategy<Value = Vec<i64>> {
    let run = prop_oneof![
        (any::<i64>(), 1_usize..400).prop_map(|(value, len)| vec![value; len]),
        (any::<i32>(), 0_i64..5000, 1_usize..400)
            .prop_map(|(from, step, len)| (0..len as i64).map(|n| i64::from(from) + n * step).collect()),
        (0_u32..64, proptest::collection::vec(any::<i64>(), 1..400))
            .prop_map(|(shift, values)| values.into_iter().map(|value| value >> shift).collect()),
    ];
    proptest::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
}

/// The page that the library makes of values, levels and all, without compression.
fn page_of_library<T: DataType>(kind: Physical, encoding: Encoding, values: &[T::T]) -> Bytes {
    #[derive(Clone, Default)]
    struct Pages(Arc<Mutex<Vec<Bytes>>>);
    impl PageWriter for Pages {
        fn write_page(&mut self, page: CompressedPage) -> parquet::errors::Result<PageWriteSpec> {
            self.0.lock().unwrap().push(page.compressed_page().buffer().clone());
            Ok(PageWriteSpec::new())
        }
        fn close(&mut self) -> parquet::errors::Result<()> {
            Ok(())
        }
    }
    let field =
        Type::primitive_type_builder("n", kind).with_repetition(Repetition::REQUIRED).build().unwrap();
    let column = ColumnDescriptor::new(Arc::new(field), 0, 0, ColumnPath::from("n"));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(encoding)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    let pages = Pages::default();
    let writer = get_column_writer(Arc::new(column), Arc::new(properties), Box::new(pages.clone()));
    let mut writer: ColumnWriterImpl<'_, T> = get_typed_column_writer(writer);
    writer.write_batch(values, None, None).unwrap();
    writer.close().unwrap();
    let pages = pages.0.lock().unwrap();
    assert_eq!(pages.len(), 1);
    pages[0].clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn integers_are_packed_into_the_bytes_the_library_makes(values in values()) {
        prop_assume!(!values.is_empty());
        let narrow: Vec<i32> = values.iter().map(|value| *value as i32).collect();
        let widened: Vec<i64> = narrow.iter().copied().map(i64::from).collect();
        let (delta, streams) = (Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT);
        let mut out = Vec::new();
        pack::delta(Width::Long, &values, &mut out);
        prop_assert_eq!(&out, &page_of_library::<Int64Type>(Physical::INT64, delta, &values));
        out.clear();
        pack::delta(Width::Short, &widened, &mut out);
        prop_assert_eq!(&out, &page_of_library::<Int32Type>(Physical::INT32, delta, &narrow));
        out.clear();
        pack::byte_streams(Width::Long, &values, &mut out);
        prop_assert_eq!(&out, &page_of_library::<Int64Type>(Physical::INT64, streams, &values));
        out.clear();
        pack::byte_streams(Width::Short, &widened, &mut out);
        prop_assert_eq!(&out, &page_of_library::<Int32Type>(Physical::INT32, streams, &narrow));
    }
}

/// A reading with channels of one of a few meter types, or any.
fn reading() -> impl Strategy<Value = ReadingRow> {
    let types = [0_u64, 0b1_0001, 0b1_0011_0000_1111, 1 << 35 | 1 << 13];
    let set =
        prop_oneof![4 => Just(types[2]), 1 => proptest::sample::select(types.to_vec()), 1 => 0_u64..1 << 36];
    // Near each other, so that meters, times and even whole keys come again; now and then far out.
    let time = prop_oneof![20 => -3_i64..3, 1 => any::<i64>()];
    let key = (0_u64..4, prop_oneof![20 => 0_u32..4, 1 => any::<u32>()], time, 0_i32..3);
    let rest = (proptest::option::weighted(0.8, any::<i16>()), any::<u8>(), any::<u32>(), set, any::<i64>());
    (key, rest).prop_map(|((position, meter, end, day), (deviation, status, quality, set, seed))| {
        let channels = Channel::ALL.into_iter().filter(|channel| set & 1 << channel.index() != 0);
        ReadingRow {
            position: Position(position),
            meter: MeterId(meter),
            end: Instant(end),
            usage_date: CivilDay(day),
            deviation_min: deviation,
            clock_status: status,
            quality: Quality(quality),
            values: channels.map(|channel| (channel, seed.rotate_left(channel.index() as u32))).collect(),
        }
    })
}

/// Batches of readings: single rows, and whole days of a meter.
fn batches() -> impl Strategy<Value = Vec<Vec<ReadingRow>>> {
    let run = (reading(), 1_i64..60).prop_map(|(row, len)| {
        let at = |n| ReadingRow { end: Instant(row.end.0.wrapping_add(n)), ..row.clone() };
        (0..len).map(at).collect::<Vec<_>>()
    });
    let rows = prop_oneof![reading().prop_map(|row| vec![row]), run];
    let batch = proptest::collection::vec(rows, 1..12).prop_map(|rows| rows.concat());
    proptest::collection::vec(batch, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn readings_come_out_of_their_columns_as_they_went_in(rows in proptest::collection::vec(reading(), 0..80)) {
        for table in [Table::IntervalReading, Table::DailyReading, Table::InstantReading] {
            let mut columns = Rows::with_capacity(table, 3);
            rows.iter().cloned().for_each(|row| columns.push(row_of(table, row)));
            let found = decode::readings(table, &columns.into_batch(table), None).unwrap();
            prop_assert_eq!(&found, &rows, "{}", table);
        }
    }

    #[test]
    fn files_have_the_order_of_a_plain_sort(batches in batches()) {
        for table in [Table::IntervalReading, Table::InstantReading] {
            let columns = batches.iter().map(|rows| {
                let mut columns = Rows::with_capacity(table, 0);
                rows.iter().cloned().for_each(|row| columns.push(row_of(table, row)));
                columns.into_batch(table)
            });
            let parts = parts(table, &columns.collect::<Vec<_>>()).unwrap();
            let day = |row: &ReadingRow| table.is_partitioned().then_some(row.usage_date);
            let mut expected: Vec<ReadingRow> = batches.concat();
            expected.sort_by_key(|row| (day(row), row.meter, row.end, row.position));
            let days: Vec<&[ReadingRow]> = expected.chunk_by(|a, b| day(a) == day(b)).collect();
            for (part, expected) in parts.iter().zip(&days) {
                prop_assert_eq!((part.day, part.rows()), (day(&expected[0]), expected.len()));
                for rows in [1, 7, 1000] {
                    let pieces = pieces(&part.runs, rows);
                    let lengths: Vec<usize> = pieces.iter().map(|piece| rows_of(&batches, piece).len()).collect();
                    prop_assert!(lengths.iter().rev().skip(1).all(|length| *length == rows), "{:?}", lengths);
                    prop_assert_eq!(rows_of(&batches, &pieces.concat()), expected.to_vec());
                }
            }
            prop_assert_eq!(parts.len(), days.len());
        }
    }
}

fn row_of(table: Table, row: ReadingRow) -> Row {
    match table {
        Table::IntervalReading => Row::Interval(row),
        Table::DailyReading => Row::Daily(row),
        _ => Row::Instant(row),
    }
}

fn rows_of(batches: &[Vec<ReadingRow>], runs: &[Run]) -> Vec<ReadingRow> {
    let rows = |run: &Run| batches[run.batch as usize][run.start as usize..][..run.len as usize].to_vec();
    runs.iter().flat_map(rows).collect()
}
