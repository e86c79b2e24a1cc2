//! Adapters: what `ingest`, `query` and `app` ask for, given by the lake, the fold and the registry.

#[cfg(feature = "query")]
mod pages;
#[cfg(feature = "query")]
mod pins;

use model::{Instant, MeterId, Position, ReadingKind, Row};

#[cfg(feature = "query")]
pub use pages::pages;
#[cfg(feature = "query")]
pub use pins::{engine, rows};

/// The lake, as the pipeline wants it.
pub struct IngestLake(pub lake::Lake);

impl ingest::Lake for IngestLake {
    fn absorb(&self, rows: Vec<Row>, upto: Position) {
        self.0.absorb(rows, upto);
    }

    fn hot_bytes(&self) -> usize {
        self.0.hot_bytes()
    }

    fn commit(&self, upto: Position) -> Result<(), ingest::BoxError> {
        tell(&self.0.commit(upto)?);
        Ok(())
    }

    fn commit_at_once(&self, upto: Position) -> Result<(), ingest::BoxError> {
        tell(&self.0.commit_at_once(upto)?);
        Ok(())
    }

    fn needs_restart(&self, error: &ingest::BoxError) -> bool {
        error.downcast_ref::<lake::Error>().is_some_and(lake::Error::is_fatal)
    }

    fn committed(&self) -> Position {
        self.0.committed()
    }

    fn versions(
        &self,
        meter: MeterId,
        kind: ReadingKind,
        end: Instant,
    ) -> Result<Vec<ingest::LakeVersion>, ingest::BoxError> {
        let versions = self.0.versions(meter, kind, end)?;
        Ok(versions
            .into_iter()
            .map(|version| ingest::LakeVersion { rank: version.rank, values: version.values })
            .collect())
    }

    fn demand_w(
        &self,
        meter: MeterId,
        from: Instant,
        to: Instant,
        period_s: u32,
        without_end: Instant,
    ) -> Result<Option<i64>, ingest::BoxError> {
        Ok(self.0.demand_w(meter, from, to, period_s, without_end)?)
    }
}

fn tell(report: &lake::CommitReport) {
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    tracing::debug!(
        position = report.position.0,
        rows,
        tables = report.tables.len(),
        "committed to the lake"
    );
}
