//! SQL over hot buffer and Delta tables at one pinned position
