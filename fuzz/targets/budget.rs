//! What a session takes for what it is given, counted: memory at once of at most [`PER_BYTE`] times the bytes that came
//! and were asked for, and in the course of its life no more than that again for each call. Bytes that are allocated are
//! the steps of a session: what it takes in, joins, deciphers or writes it does in memory of its own.

/// Most bytes of memory, and most steps, for each byte that came.
const PER_BYTE: u64 = 8;
/// What a session has whatever comes, and what a call of it takes for the shortest of answers.
const ROOM: u64 = 4 * 1024;

/// The memory of one session.
#[derive(Default)]
pub(crate) struct Budget {
    given: u64,
    calls: u64,
    /// Bytes now: fewer than none, where it gave up what it had before it was measured.
    held: i64,
    most: i64,
    steps: u64,
}

impl Budget {
    /// Measures a call into the session, or the end of what it handed out.
    pub(crate) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let mut result = None;
        let taken = allocation_counter::measure(|| result = Some(call()));
        self.calls += 1;
        self.most = self.most.max(self.held.saturating_add_unsigned(taken.bytes_max));
        self.held += taken.bytes_current;
        self.steps += taken.bytes_total;
        result.expect("it was called")
    }

    /// So many bytes came with the last calls, or were given to be sent: all that was taken is within the bounds.
    #[track_caller]
    pub(crate) fn check(&mut self, bytes: usize) {
        self.given += bytes as u64;
        let bound = ROOM + PER_BYTE * self.given;
        assert!(self.most <= bound.cast_signed(), "{} bytes at once for {}", self.most, self.given);
        let bound = bound + ROOM * self.calls;
        assert!(self.steps <= bound, "{} bytes in {} calls for {}", self.steps, self.calls, self.given);
    }
}
