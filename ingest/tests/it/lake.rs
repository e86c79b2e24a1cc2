//! A lake that is a list of rows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use ingest::{BoxError, Lake, LakeVersion};
use model::reading::RankClass;
use model::row::ReadingRow;
use model::{Channel, Instant, MeterId, Position, Rank, ReadingKind, Row, Values};

#[derive(Default)]
pub(crate) struct FakeLake {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// Rows by the end of the group that brought them.
    groups: BTreeMap<Position, Vec<Row>>,
    committed: Position,
    commit_fails: bool,
    commit_fails_for_good: bool,
    lookup_fails: bool,
    hot_bytes: usize,
    commits: usize,
}

impl FakeLake {
    /// What is left after a crash: the committed groups.
    pub(crate) fn after_crash(&self) -> FakeLake {
        let mut state = self.lock().clone();
        let committed = state.committed;
        state.groups.retain(|upto, _| *upto <= committed);
        FakeLake {
            state: Mutex::new(State {
                commit_fails: false,
                commit_fails_for_good: false,
                lookup_fails: false,
                hot_bytes: 0,
                ..state
            }),
        }
    }

    pub(crate) fn fail_commits(&self, fail: bool) {
        self.lock().commit_fails = fail;
    }

    /// As after a failed sync.
    pub(crate) fn fail_for_good(&self) {
        let mut state = self.lock();
        (state.commit_fails, state.commit_fails_for_good) = (true, true);
    }

    pub(crate) fn fail_lookups(&self, fail: bool) {
        self.lock().lookup_fails = fail;
    }

    /// Says that so many bytes are not committed.
    pub(crate) fn claim_hot_bytes(&self, bytes: usize) {
        self.lock().hot_bytes = bytes;
    }

    pub(crate) fn commits(&self) -> usize {
        self.lock().commits
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.lock().groups.values().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// All values of a key, by the frames that brought them.
    fn stored(&self, meter: MeterId, kind: ReadingKind, end: Instant) -> Vec<LakeVersion> {
        let rows = self.rows();
        let rank_of = |position: Position| {
            rows.iter().find_map(|row| match row {
                Row::Frame(row) if row.position == position => Some(Rank {
                    class: RankClass::Push,
                    key_epoch: row.key_epoch,
                    counter: row.counter.unwrap_or(0),
                    digest: row.digest,
                }),
                _ => None,
            })
        };
        let is_key = |row: &ReadingRow| row.meter == meter && row.end == end;
        let version = |row: &Row| match row {
            Row::Interval(row) if kind == ReadingKind::Interval && is_key(row) => {
                Some(LakeVersion { rank: rank_of(row.position)?, values: row.values.clone() })
            }
            Row::Daily(row) if kind == ReadingKind::Daily && is_key(row) => {
                Some(LakeVersion { rank: rank_of(row.position)?, values: row.values.clone() })
            }
            Row::Revision(row) if row.kind == kind && row.meter == meter && row.end == end => {
                Some(LakeVersion { rank: row.rank, values: row.values.clone() })
            }
            _ => None,
        };
        rows.iter().filter_map(version).collect()
    }
}

impl Lake for FakeLake {
    fn absorb(&self, rows: Vec<Row>, upto: Position) {
        let mut state = self.lock();
        if upto > state.committed {
            state.groups.insert(upto, rows);
        }
    }

    fn hot_bytes(&self) -> usize {
        self.lock().hot_bytes
    }

    fn commit(&self, upto: Position) -> Result<(), BoxError> {
        let mut state = self.lock();
        if state.commit_fails {
            return Err("no space for data files".into());
        }
        state.committed = state.committed.max(upto);
        state.commits += 1;
        Ok(())
    }

    fn needs_restart(&self, _: &BoxError) -> bool {
        self.lock().commit_fails_for_good
    }

    fn committed(&self) -> Position {
        self.lock().committed
    }

    fn versions(
        &self,
        meter: MeterId,
        kind: ReadingKind,
        end: Instant,
    ) -> Result<Vec<LakeVersion>, BoxError> {
        if self.lock().lookup_fails {
            return Err("a data file cannot be read".into());
        }
        Ok(self.stored(meter, kind, end))
    }

    fn demand_w(
        &self,
        meter: MeterId,
        from: Instant,
        to: Instant,
        period_s: u32,
        without_end: Instant,
    ) -> Result<Option<i64>, BoxError> {
        let of_interval = |row: &Row| match row {
            Row::Interval(row) => {
                let counts = row.meter == meter && row.end > from && row.end <= to && row.end != without_end;
                row.values.get(Channel::ImportWh).filter(|_| counts)
            }
            _ => None,
        };
        let demand = |energy_wh: i64| energy_wh * 3600 / i64::from(period_s);
        Ok(self.rows().iter().filter_map(of_interval).map(demand).max())
    }
}

/// Values of intervals that were stored first, in the order of their records.
pub(crate) fn first_values(rows: &[Row]) -> Vec<(MeterId, Instant, Values)> {
    let of = |row: &Row| match row {
        Row::Interval(row) => Some((row.meter, row.end, row.values.clone())),
        _ => None,
    };
    rows.iter().filter_map(of).collect()
}
