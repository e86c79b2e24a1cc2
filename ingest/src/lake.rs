//! What the pipeline wants of a lake; the adapter is the binary's.

use model::{Instant, MeterId, Position, Rank, ReadingKind, Row, Values};

/// Any failure of a lake: it is logged and tried again, never told apart.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One value of a key, with what decides between the values of that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeVersion {
    /// The higher is in force, channel by channel.
    pub rank: Rank,
    /// The channels it has.
    pub values: Values,
}

/// Tables that rows go to, visible at once and committed later.
pub trait Lake: Send + Sync {
    /// Takes rows in the order of their positions; those a table holds already are dropped. Afterwards the lake stands
    /// at `upto`. Cheap; called by one thread.
    fn absorb(&self, rows: Vec<Row>, upto: Position);

    /// Bytes of rows that are not committed.
    fn hot_bytes(&self) -> usize;

    /// Makes all rows up to `upto` survive a power cut, in every table. Blocks.
    ///
    /// # Errors
    /// When that is not known to have happened; it can be tried again.
    fn commit(&self, upto: Position) -> Result<(), BoxError>;

    /// The same for a caller who waits for it, where [`Lake::commit`] leaves the cores to others.
    ///
    /// # Errors
    /// As [`Lake::commit`].
    fn commit_at_once(&self, upto: Position) -> Result<(), BoxError> {
        self.commit(upto)
    }

    /// Whether a failed commit must not be tried again by this process, as after a failed sync: then the pipeline
    /// fails.
    fn needs_restart(&self, error: &BoxError) -> bool {
        let _ = error;
        false
    }

    /// Position up to which every table is committed.
    fn committed(&self) -> Position;

    /// All values of one key, committed or not. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    fn versions(&self, meter: MeterId, kind: ReadingKind, end: Instant)
    -> Result<Vec<LakeVersion>, BoxError>;

    /// Highest demand in W over the intervals in force that end in `(from, to]`, without the one that ends at
    /// `without_end`. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    fn demand_w(
        &self,
        meter: MeterId,
        from: Instant,
        to: Instant,
        period_s: u32,
        without_end: Instant,
    ) -> Result<Option<i64>, BoxError>;
}
