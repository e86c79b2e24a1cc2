//! Names of metrics, and what they count. Labels are source and reason; never a meter.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use model::Source;

use crate::received::Disposition;

pub(crate) const FRAMES_RECEIVED: &str = "urja_frames_received_total";
pub(crate) const FRAMES_ACCEPTED: &str = "urja_frames_accepted_total";
pub(crate) const FRAMES_REDELIVERED: &str = "urja_frames_redelivered_total";
pub(crate) const FRAMES_REPEATED: &str = "urja_frames_repeated_total";
pub(crate) const FRAMES_QUARANTINED: &str = "urja_frames_quarantined_total";
pub(crate) const FRAMES_REFUSED: &str = "urja_frames_refused_total";
pub(crate) const EVIDENCE_REFUSED: &str = "urja_evidence_refused_total";
pub(crate) const QUEUE_FRAMES: &str = "urja_queue_frames";
pub(crate) const GROUP_RECORDS: &str = "urja_journal_group_records";
pub(crate) const GROUP_BYTES: &str = "urja_journal_group_bytes";
pub(crate) const SYNC_SECONDS: &str = "urja_journal_sync_seconds";
pub(crate) const JOURNAL_FULL: &str = "urja_journal_full";
pub(crate) const DURABLE_POSITION: &str = "urja_durable_position";
pub(crate) const FOLDED_POSITION: &str = "urja_folded_position";
pub(crate) const FOLD_LAG: &str = "urja_fold_lag_records";
pub(crate) const CHECKPOINT_POSITION: &str = "urja_checkpoint_position";
pub(crate) const CHECKPOINT_SECONDS: &str = "urja_checkpoint_seconds";
pub(crate) const CHECKPOINT_FAILING: &str = "urja_checkpoint_failing";
pub(crate) const CONTESTED_OPEN: &str = "urja_contested_open";
pub(crate) const CONTESTED_FAILING: &str = "urja_contested_failing";
pub(crate) const WAITING_FRAMES: &str = "urja_waiting_frames";
pub(crate) const WAITING_DROPPED: &str = "urja_waiting_dropped_total";
pub(crate) const HOT_BYTES: &str = "urja_hot_bytes";
pub(crate) const TCP_CONNECTIONS: &str = "urja_tcp_connections";
pub(crate) const TCP_PARTIAL_BYTES: &str = "urja_tcp_partial_bytes";
pub(crate) const TCP_WAITING_TURNS: &str = "urja_tcp_waiting_turns";
pub(crate) const TCP_CLOSED: &str = "urja_tcp_closed_total";
pub(crate) const TCP_HEARTBEATS: &str = "urja_tcp_heartbeats_total";
pub(crate) const RECEIPTS_REFUSED: &str = "urja_receipts_refused_total";
pub(crate) const METER_LINES: &str = "urja_meter_lines";
pub(crate) const SUPPLY_COMMANDS: &str = "urja_supply_commands_total";
pub(crate) const SUPPLY_ROUNDS: &str = "urja_supply_rounds_total";
pub(crate) const SUPPLY_OPEN: &str = "urja_supply_open";
pub(crate) const SUPPLY_WAITING: &str = "urja_supply_waiting_seconds";
pub(crate) const SUPPLY_FROZEN: &str = "urja_supply_frozen";
pub(crate) const MQTT_CONNECTED: &str = "urja_mqtt_connected";

/// Describes all metrics of this crate to the recorder.
pub fn describe() {
    describe_counter!(FRAMES_RECEIVED, "frames received whole, by source");
    describe_counter!(FRAMES_ACCEPTED, "frames taken in, by source");
    describe_counter!(FRAMES_REDELIVERED, "copies of frames, told by their bytes, by source");
    describe_counter!(
        FRAMES_REPEATED,
        "frames whose counter was used before with the same values, by source"
    );
    describe_counter!(FRAMES_QUARANTINED, "frames kept as evidence, by source and reason");
    describe_counter!(FRAMES_REFUSED, "frames turned away at a bound, by source");
    describe_counter!(
        EVIDENCE_REFUSED,
        "of the refused, frames that prove nothing and are beyond what is kept of such, by source and reason"
    );
    describe_gauge!(QUEUE_FRAMES, "frames that wait for the journal");
    describe_counter!(SUPPLY_COMMANDS, "steps of commands to relays, by kind (cut, reconnect) and step");
    describe_counter!(SUPPLY_ROUNDS, "rounds of the lanes of supply, by lane (cuts, reconnections)");
    describe_gauge!(SUPPLY_OPEN, "commands to relays of which something is still to come, by kind");
    describe_gauge!(SUPPLY_WAITING, "how long the oldest of them waits since its cause, by kind");
    describe_gauge!(SUPPLY_FROZEN, "1 while all cuts are frozen");
    describe_histogram!(GROUP_RECORDS, "records of a journal group");
    describe_histogram!(GROUP_BYTES, Unit::Bytes, "size of a journal group");
    describe_histogram!(SYNC_SECONDS, Unit::Seconds, "append and sync of a journal group");
    describe_gauge!(JOURNAL_FULL, "1 while the journal has no room and frames are not taken");
    describe_gauge!(DURABLE_POSITION, "last record that survives a power cut");
    describe_gauge!(FOLDED_POSITION, "last record applied");
    describe_gauge!(FOLD_LAG, "durable records that are not applied yet");
    describe_gauge!(CHECKPOINT_POSITION, "record up to which lake and state are committed");
    describe_histogram!(CHECKPOINT_SECONDS, Unit::Seconds, "lake commit, state and trim together");
    describe_gauge!(CHECKPOINT_FAILING, "1 while checkpoints fail; the journal grows meanwhile");
    describe_gauge!(CONTESTED_OPEN, "contested readings that wait for their answer");
    describe_gauge!(CONTESTED_FAILING, "1 while contested readings cannot be looked up");
    describe_gauge!(WAITING_FRAMES, "frames that wait for the registration of their meter");
    describe_counter!(
        WAITING_DROPPED,
        "frames of unregistered meters dropped at a bound; they stay in quarantine"
    );
    describe_gauge!(HOT_BYTES, Unit::Bytes, "rows that are not committed to the lake");
    describe_gauge!(TCP_CONNECTIONS, "open TCP connections of meters");
    describe_gauge!(
        TCP_PARTIAL_BYTES,
        Unit::Bytes,
        "room held for long frames of TCP connections that are not whole"
    );
    describe_gauge!(
        TCP_WAITING_TURNS,
        "TCP connections that wait for their turn to send a long frame before anything is proven"
    );
    describe_counter!(TCP_CLOSED, "TCP connections closed by us, by reason");
    describe_counter!(TCP_HEARTBEATS, "messages of vendors before frames, which are passed over");
    describe_counter!(
        RECEIPTS_REFUSED,
        "exceptions of meters that do not know the receipt of a push, passed over"
    );
    describe_gauge!(METER_LINES, "meters that can be asked over a connection that they opened");
    describe_gauge!(MQTT_CONNECTED, "1 while the MQTT broker is connected");
}

/// Frames of one batch by what they became, counted once per batch.
#[derive(Debug, Default)]
pub(crate) struct FrameCounts(Vec<((Source, Disposition), u64)>);

impl FrameCounts {
    pub(crate) fn add(&mut self, source: Source, disposition: Disposition) {
        let key = (source, disposition);
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    pub(crate) fn emit(&mut self) {
        for ((source, disposition), count) in self.0.drain(..) {
            let source = source.name();
            counter!(FRAMES_RECEIVED, "source" => source).increment(count);
            match disposition {
                Disposition::Accepted => counter!(FRAMES_ACCEPTED, "source" => source).increment(count),
                Disposition::Redelivered => counter!(FRAMES_REDELIVERED, "source" => source).increment(count),
                Disposition::Repeated => counter!(FRAMES_REPEATED, "source" => source).increment(count),
                Disposition::Refused(reason) => {
                    counter!(FRAMES_REFUSED, "source" => source).increment(count);
                    counter!(EVIDENCE_REFUSED, "source" => source, "reason" => reason.name())
                        .increment(count);
                }
                Disposition::Quarantined(reason) => {
                    counter!(FRAMES_QUARANTINED, "source" => source, "reason" => reason.name())
                        .increment(count);
                }
            }
        }
    }
}
