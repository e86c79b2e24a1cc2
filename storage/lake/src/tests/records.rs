//! Records out of the tables they were made into.

use model::{Fact, Position, Record, Row};

use super::sample::{Group, Market};
use super::{folder, open};
use crate::{Error, Table, rebuild};

/// The record as far as the tables keep it: of a frame that is not in table `fact` the bytes are not.
fn kept(groups: &[Group]) -> Vec<Record> {
    groups
        .iter()
        .flat_map(|group| {
            group.records.iter().cloned().map(|mut record| {
                let whole = group
                    .rows
                    .iter()
                    .any(|row| matches!(row, Row::Fact(fact) if fact.position == record.position));
                if let Fact::Frame(frame) = &mut record.fact
                    && !whole
                {
                    frame.raw.clear();
                    frame.readings.sort_by_key(|reading| (reading.kind, reading.end));
                }
                record
            })
        })
        .collect()
}

#[test]
fn the_tables_give_back_the_records_they_were_made_of() {
    let dir = folder();
    let lake = open(dir.path());
    let groups = Market::new(41).groups(400);
    for part in groups.chunks(90) {
        part.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
        lake.commit(part.last().unwrap().upto).unwrap();
    }
    let upto = lake.committed();
    let records = rebuild::records(&lake, upto).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let expected = kept(&groups);
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(record, expected);
    }
    assert_eq!(records.len(), expected.len());
    let half = rebuild::records(&lake, Position(50)).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(half, expected[..50]);
}

#[test]
fn records_are_not_given_past_what_every_table_holds() {
    let dir = folder();
    let lake = open(dir.path());
    lake.absorb(Vec::new(), Position(3));
    let refused = rebuild::records(&lake, Position(3)).err().unwrap();
    assert!(matches!(refused, Error::NotCommitted { upto: Position(3), committed: Position(0) }));
}

#[test]
fn a_record_that_no_table_gives_back_is_named() {
    let dir = folder();
    let lake = open(dir.path());
    let mut groups = Market::new(42).groups(30);
    let lost = groups[12].records[0].position;
    groups[12].rows.retain(|row| {
        !(row.position() == lost && matches!(Table::of(row), Table::Frame | Table::Fact | Table::Quarantine))
    });
    groups.iter().for_each(|group| lake.absorb(group.rows.clone(), group.upto));
    lake.commit(groups[29].upto).unwrap();
    let found: Vec<_> = rebuild::records(&lake, lake.committed()).unwrap().collect();
    assert!(matches!(found[..], [Err(Error::NoRecord(position))] if position == lost));
}
