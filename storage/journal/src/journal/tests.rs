//! The journal against disks that lose, tear, fill up and fail, and against a model that cannot.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use model::Source;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::read::read;
use crate::verify::verify;

/// A disk whose writes are safe only once synced, and which fails on request.
#[derive(Default)]
struct TestDisk {
    /// No space for new files.
    full: AtomicBool,
    /// Syncs fail.
    broken: AtomicBool,
    /// Writes and syncs that still succeed, if limited; afterwards the process counts as dead.
    life: AtomicU64,
    /// Writes since the last sync of their file.
    unsynced: Mutex<Vec<Write>>,
    /// Files that became segments, by inode, whose names a power cut may still take.
    unnamed: Mutex<HashSet<u64>>,
}

struct Write {
    /// Its sync failed: it is in memory, but no sync will ever take it to the disk.
    lost: bool,
    inode: u64,
    file: File,
    offset: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl TestDisk {
    fn healthy() -> Arc<TestDisk> {
        Arc::new(TestDisk { life: AtomicU64::new(u64::MAX), ..TestDisk::default() })
    }

    fn live(&self) -> io::Result<()> {
        // The thread that makes segments runs when it likes; without it the same actions die at the same point.
        if thread::current().name() == Some("journal-maker") {
            return Ok(());
        }
        let left = self.life.load(SeqCst);
        self.life.store(left.saturating_sub(u64::from(left != u64::MAX)), SeqCst);
        if left == 0 { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    /// Notes a segment's header, and insists that a group is written only where the segment's name stays.
    fn note_name(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let mut unnamed = self.unnamed.lock().unwrap();
        if offset == 0 && bytes.starts_with(b"URJASEG\0") {
            unnamed.insert(inode);
        }
        let is_group = offset >= FIRST_GROUP && bytes.starts_with(&crate::group::MAGIC);
        assert!(!is_group || !unnamed.contains(&inode), "a group in a segment whose name may be lost");
        Ok(())
    }

    /// Syncs a directory: the names that are in it now stay.
    fn sync_names(&self, dir: &File) -> io::Result<()> {
        if self.broken.load(SeqCst) {
            return Err(io::Error::other("lost names"));
        }
        let mut unnamed = self.unnamed.lock().unwrap();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(".segment") {
                unnamed.remove(&entry.ino());
            }
        }
        Ok(())
    }

    /// Loses power: each byte that an unsynced write changed arrives, does not, or becomes something else.
    fn lose_power(&self, mut random: u64) {
        let mut random = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let writes = std::mem::take(&mut *self.unsynced.lock().unwrap());
        for write in writes.iter().rev() {
            write.file.write_all_at(&write.old, write.offset).unwrap();
        }
        for write in writes.into_iter().filter(|write| !write.lost) {
            let new = write.new;
            let mut torn = vec![0; new.len()];
            write.file.read_exact_at(&mut torn, write.offset).unwrap();
            let part = random() as usize % (new.len() + 1);
            match random() % 5 {
                0 => {}
                1 => torn = new,
                2 => torn[..part].copy_from_slice(&new[..part]),
                3 => torn[part..].copy_from_slice(&new[part..]),
                _ => torn.iter_mut().zip(&new).filter(|(old, new)| old != new).for_each(|(byte, new)| {
                    match random() % 16 {
                        0 => {}
                        1 => *byte = random() as u8,
                        _ => *byte = *new,
                    }
                }),
            }
            write.file.write_all_at(&torn, write.offset).unwrap();
        }
    }
}

impl Disk for TestDisk {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.live()?;
        if self.full.load(SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.set_len(bytes)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.live()?;
        self.note_name(file, bytes, offset)?;
        let mut old = vec![0; bytes.len()];
        // A file that is only being made cannot be read; it is synced before it counts.
        if file.read_exact_at(&mut old, offset).is_ok() {
            let (inode, file, new) = (file.metadata()?.ino(), file.try_clone()?, bytes.to_vec());
            self.unsynced.lock().unwrap().push(Write { lost: false, inode, file, offset, old, new });
        }
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.live()?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return self.sync_names(file);
        }
        let inode = metadata.ino();
        let mut unsynced = self.unsynced.lock().unwrap();
        let (of_file, others) = unsynced.drain(..).partition(|write| write.inode == inode);
        *unsynced = others;
        let (mut lost, mut synced): (Vec<Write>, Vec<_>) = of_file.into_iter().partition(|write| write.lost);
        let broken = self.broken.load(SeqCst);
        if broken {
            synced.iter_mut().for_each(|write| write.lost = true);
            lost.append(&mut synced);
        }
        for write in &synced {
            lost.iter_mut().for_each(|lost| lost.lies_under(write));
        }
        unsynced.append(&mut lost);
        if broken { Err(io::Error::other("lost pages")) } else { Ok(()) }
    }
}

impl Write {
    /// Where a later write of the same bytes has arrived, nothing is lost.
    fn lies_under(&mut self, synced: &Write) {
        for (index, old) in self.old.iter_mut().enumerate() {
            let place = (self.offset + index as u64).checked_sub(synced.offset);
            if let Some(new) = place.and_then(|place| synced.new.get(place as usize)) {
                *old = *new;
            }
        }
    }
}

const SMALL: Options = Options { segment_bytes: 4096, keep_bytes: 0, keep: Duration::ZERO, reserve_bytes: 0 };

fn open(dir: &TempDir, options: &Options, disk: &Arc<TestDisk>) -> (Journal, Recovery) {
    Journal::open_on(dir.path(), options.clone(), Arc::clone(disk) as Arc<dyn Disk>).unwrap()
}

fn group(records: &[impl AsRef<[u8]>]) -> Group {
    let mut group = Group::new();
    for record in records {
        group.push(record.as_ref());
    }
    group
}

/// Appends one record, which fits four times into a small segment.
fn append(journal: &mut Journal, text: &str) -> Result<Position, Error> {
    let mut record = text.as_bytes().to_vec();
    record.resize(800, b'.');
    journal.append(&mut group(&[record])).map(|range| *range.end())
}

/// Lets the thread that makes the next segment end, for what must not depend on when it does.
fn wait_for_maker(journal: &mut Journal) {
    journal.maker = journal.maker.take().map(join).map(|made| thread::spawn(move || made));
}

fn records(dir: &TempDir, after: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let mut records = Vec::new();
    for view in read(dir.path(), Position(after))? {
        records.extend(view?.records().map(|(position, record)| (position.0, record.to_vec())));
    }
    Ok(records)
}

fn texts(dir: &TempDir, after: u64) -> Vec<String> {
    let text = |record: Vec<u8>| String::from_utf8(record).unwrap().trim_end_matches('.').to_owned();
    records(dir, after).unwrap().into_iter().map(|(_, record)| text(record)).collect()
}

fn last_segment(journal: &Journal) -> PathBuf {
    journal.segments().pop().unwrap().path
}

fn damage(path: &Path, offset: u64, change: impl FnOnce(u8) -> u8) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[change(byte[0])], offset).unwrap();
}

#[test]
fn positions_are_dense_and_records_read_back() {
    let dir = TempDir::new().unwrap();
    let (mut journal, recovery) = Journal::open(dir.path(), SMALL).unwrap();
    assert!(recovery.created);
    assert_eq!(journal.append(&mut group(&["a", "b"])).unwrap(), Position(1)..=Position(2));
    let idle = journal.append(&mut Group::new()).unwrap();
    assert!(idle.is_empty() && *idle.start() == Position(3));
    assert_eq!(journal.append(&mut group(&["c"])).unwrap(), Position(3)..=Position(3));
    assert_eq!(journal.sync().unwrap().upto(), Position(3));
    drop(journal);
    let (journal, recovery) = Journal::open(dir.path(), SMALL).unwrap();
    assert_eq!((recovery.created, recovery.last, recovery.cut), (false, Position(3), None));
    assert_eq!(journal.next_position(), Position(4));
    let expected = [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())];
    assert_eq!(records(&dir, 0).unwrap(), expected);
    assert_eq!(records(&dir, 1).unwrap(), expected[1..]);
    assert!(records(&dir, 3).unwrap().is_empty());
}

#[test]
fn a_durable_covers_what_was_appended_before_its_sync_and_no_more() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    assert_eq!(journal.sync().unwrap().upto(), Position(0));
    append(&mut journal, "one").unwrap();
    let durable = journal.sync().unwrap();
    append(&mut journal, "two").unwrap();
    assert_eq!((durable.upto(), journal.durable_upto()), (Position(1), Position(1)));
}

#[test]
fn counts_are_read_back_with_their_group() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    let mut group = group(&["frame"]);
    group.counts_mut(Source::Udp).received = 9;
    group.counts_mut(Source::Udp).redelivered = 8;
    journal.append(&mut group).unwrap();
    assert!(group.is_empty());
    let view = read(dir.path(), Position(0)).unwrap().next().unwrap().unwrap();
    let udp = view.header.counts[Source::Udp.index()];
    assert_eq!((udp.received, udp.redelivered, udp.refused), (9, 8, 0));
}

#[test]
fn a_live_journal_can_be_read() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    for number in 0..20 {
        append(&mut journal, &number.to_string()).unwrap();
        assert_eq!(texts(&dir, 0).len(), number + 1);
    }
}

#[test]
fn a_reader_beside_the_writer_sees_a_prefix_and_never_a_hole() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut trimmed = Position(0);
            while !done.load(SeqCst) {
                match verify(dir.path()) {
                    Ok(report) => assert!(report.is_sound(), "{report:?}"),
                    Err(Error::Recycled { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                match records(&dir, trimmed.0) {
                    Ok(read) => assert!(
                        read.iter().map(|(position, _)| *position).eq((trimmed.0 + 1..).take(read.len()))
                    ),
                    Err(Error::Trimmed { first, .. }) => trimmed = Position(first.0 - 1),
                    Err(Error::Recycled { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for number in 0..1000 {
            append(&mut journal, "record").unwrap();
            journal.sync().unwrap();
            if number % 100 == 0 {
                journal.trim(journal.durable_upto()).unwrap();
            }
            if reader.is_finished() {
                break;
            }
        }
        done.store(true, SeqCst);
        reader.join().unwrap();
    });
}

#[test]
fn restart_keeps_records_before_a_torn_tail() {
    for whole in [false, true] {
        let dir = TempDir::new().unwrap();
        let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
        append(&mut journal, "kept").unwrap();
        journal.sync().unwrap();
        append(&mut journal, "torn").unwrap();
        append(&mut journal, "after the torn one").unwrap();
        let offset = read(dir.path(), Position(1)).unwrap().next().unwrap().unwrap().offset;
        let segment = last_segment(&journal);
        drop(journal);
        // Once inside of the group, once its very beginning.
        damage(&segment, offset + if whole { 0 } else { 300 }, |byte| !byte);
        let (mut journal, recovery) = open(&dir, &SMALL, &TestDisk::healthy());
        let cut = recovery.cut.unwrap();
        assert_eq!((recovery.last, recovery.durable_upto, cut.offset), (Position(1), Position(0), offset));
        append(&mut journal, "new").unwrap();
        assert_eq!(texts(&dir, 0), ["kept", "new"]);
    }
}

#[test]
fn a_torn_first_group_of_a_segment_is_cut() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    for text in ["1", "2", "3", "4"] {
        append(&mut journal, text).unwrap();
    }
    journal.sync().unwrap();
    append(&mut journal, "torn").unwrap();
    assert_eq!(journal.segments().len(), 2);
    let segment = last_segment(&journal);
    drop(journal);
    damage(&segment, FIRST_GROUP + 400, |byte| !byte);
    let (mut journal, recovery) = open(&dir, &SMALL, &TestDisk::healthy());
    assert_eq!(recovery.cut.unwrap().reason, Fault::Checksum);
    append(&mut journal, "new").unwrap();
    assert_eq!(texts(&dir, 0), ["1", "2", "3", "4", "new"]);
}

#[test]
fn what_was_cut_never_comes_back() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 16384, ..SMALL };
    let (mut journal, _) = open(&dir, &options, &TestDisk::healthy());
    journal.append(&mut group(&[vec![b'1'; 9000]])).unwrap();
    append(&mut journal, "2, whole but after a torn one").unwrap();
    let segment = last_segment(&journal);
    drop(journal);
    damage(&segment, FIRST_GROUP + 500, |byte| !byte);
    let (mut journal, recovery) = open(&dir, &options, &TestDisk::healthy());
    assert!(recovery.cut.is_some());
    append(&mut journal, "1").unwrap();
    journal.sync().unwrap();
    drop(journal);
    let (_, recovery) = open(&dir, &options, &TestDisk::healthy());
    assert_eq!((recovery.last, recovery.cut), (Position(1), None));
}

#[test]
fn what_a_failed_sync_lost_is_written_again_by_the_next_start() {
    for idle in [false, true] {
        let dir = TempDir::new().unwrap();
        let disk = TestDisk::healthy();
        let (mut journal, _) = open(&dir, &SMALL, &disk);
        append(&mut journal, "1").unwrap();
        if idle {
            journal.sync().unwrap();
            journal.append(&mut Group::new()).unwrap();
        }
        disk.broken.store(true, SeqCst);
        journal.sync().unwrap_err();
        disk.broken.store(false, SeqCst);
        drop(journal);
        let (mut journal, recovery) = open(&dir, &SMALL, &disk);
        assert_eq!(recovery.last, Position(1));
        append(&mut journal, "2").unwrap();
        journal.sync().unwrap();
        drop(journal);
        disk.lose_power(1);
        let (_, recovery) = open(&dir, &SMALL, &disk);
        assert_eq!((recovery.last, recovery.cut), (Position(2), None));
    }
}

#[test]
fn a_group_exchanged_for_another_valid_one_is_a_hole() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    append(&mut journal, "true").unwrap();
    append(&mut journal, "next").unwrap();
    let mut other = group(&[vec![b'f'; 800]]);
    other.seal(journal.current.generation, Position(1), Position(0), model::Digest::default());
    let bytes = other.byte_len();
    let file = &journal.current.file;
    other.with_padded(FIRST_GROUP, |image| file.write_all_at(&image[..bytes], FIRST_GROUP)).unwrap();
    drop(journal);
    let error = Journal::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(error, Error::Hole { fault: Fault::Chain, .. }));
}

#[test]
fn groups_of_another_generation_are_not_there() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    append(&mut journal, "here").unwrap();
    append(&mut journal, "here too").unwrap();
    wait_for_maker(&mut journal);
    let here = fs::read(last_segment(&journal)).unwrap();
    drop(journal);
    let ahead = File::options().write(true).open(segment::path(dir.path(), 2)).unwrap();
    ahead.write_all_at(&here[FIRST_GROUP as usize..], FIRST_GROUP).unwrap();
    assert_eq!(texts(&dir, 0), ["here", "here too"]);
    let (_, recovery) = open(&dir, &SMALL, &TestDisk::healthy());
    assert_eq!((recovery.last, recovery.cut), (Position(2), None));
}

#[test]
fn a_hole_refuses_to_start_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    for text in ["one", "two"] {
        append(&mut journal, text).unwrap();
        journal.sync().unwrap();
    }
    let segment = last_segment(&journal);
    drop(journal);
    damage(&segment, FIRST_GROUP + 200, |byte| !byte);
    let before = fs::read(&segment).unwrap();
    let error = Journal::open(dir.path(), SMALL).unwrap_err();
    assert!(
        matches!(&error, Error::Hole { path, offset: FIRST_GROUP, fault: Fault::Checksum } if *path == segment)
    );
    assert_eq!(fs::read(&segment).unwrap(), before);
    assert!(matches!(records(&dir, 0), Err(Error::Hole { .. })));
}

#[test]
fn going_idle_makes_damage_to_the_last_records_a_hole() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    append(&mut journal, "last").unwrap();
    journal.sync().unwrap();
    journal.append(&mut Group::new()).unwrap();
    journal.sync().unwrap();
    let segment = last_segment(&journal);
    drop(journal);
    damage(&segment, FIRST_GROUP + 200, |byte| !byte);
    assert!(matches!(Journal::open(dir.path(), SMALL), Err(Error::Hole { .. })));
}

#[test]
fn a_damaged_idle_group_before_records_is_a_hole() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    journal.append(&mut Group::new()).unwrap();
    append(&mut journal, "acknowledged").unwrap();
    journal.sync().unwrap();
    let segment = last_segment(&journal);
    drop(journal);
    damage(&segment, FIRST_GROUP + 17, |byte| !byte);
    assert!(matches!(Journal::open(dir.path(), SMALL), Err(Error::Hole { .. })));
}

#[test]
fn opening_vouches_for_what_nothing_vouched_for() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    append(&mut journal, "never synced").unwrap();
    drop(journal);
    let disk = TestDisk::healthy();
    let (journal, recovery) = open(&dir, &SMALL, &disk);
    assert_eq!((recovery.last, recovery.durable_upto), (Position(1), Position(0)));
    let segment = last_segment(&journal);
    drop(journal);
    assert!(disk.unsynced.lock().unwrap().is_empty());
    damage(&segment, FIRST_GROUP + 200, |byte| !byte);
    assert!(matches!(Journal::open(dir.path(), SMALL), Err(Error::Hole { .. })));
}

#[test]
fn a_missing_segment_is_named() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    for number in 0..12 {
        append(&mut journal, &number.to_string()).unwrap();
    }
    let second = journal.segments()[1].path.clone();
    drop(journal);
    fs::remove_file(&second).unwrap();
    assert!(matches!(Journal::open(dir.path(), SMALL), Err(Error::MissingSegment { sequence: 2, .. })));
    assert!(matches!(records(&dir, 0), Err(Error::MissingSegment { sequence: 2, .. })));
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.faults[0].path, second);
    assert_eq!(report.faults[0].fault, Fault::Missing);
}

#[test]
fn verify_names_every_fault() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    let mut places = Vec::new();
    for number in 0..12 {
        append(&mut journal, &number.to_string()).unwrap();
    }
    journal.append(&mut Group::new()).unwrap();
    let sound = verify(dir.path()).unwrap();
    assert!(sound.is_sound());
    assert_eq!((sound.first, sound.last, sound.records, sound.torn), (Position(1), Position(12), 12, None));
    for view in read(dir.path(), Position(0)).unwrap() {
        let view = view.unwrap();
        if [2, 7, 8].contains(&view.header.first_position.0) {
            places.push((journal.segments()[view.segment as usize - 1].path.clone(), view.offset));
        }
    }
    for (path, offset) in &places {
        damage(path, offset + 500, |byte| byte ^ 4);
    }
    let report = verify(dir.path()).unwrap();
    let faults: Vec<_> = report.faults.iter().map(|fault| (fault.path.clone(), fault.offset)).collect();
    // Two damaged groups in a row are one place.
    assert_eq!(faults, places[..2]);
    assert_eq!(report.records, 9);
}

#[test]
fn every_flipped_bit_is_noticed_or_cut() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    for number in 0..9 {
        append(&mut journal, &format!("record {number}")).unwrap();
        journal.sync().unwrap();
    }
    let segments = journal.segments();
    drop(journal);
    let whole = records(&dir, 0).unwrap();
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> = files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let mut cut = 0;
    for (number, segment) in segments.iter().enumerate() {
        let bytes = fs::read(&segment.path).unwrap();
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        for offset in 0..(used + 16).min(bytes.len()) {
            let place = format!("segment {number}, offset {offset}");
            let flip = |byte| byte ^ (1 << (offset % 8));
            damage(&segment.path, offset as u64, flip);
            let read = records(&dir, 0);
            match &read {
                Ok(read) => {
                    assert!(read.len() >= 8 && *read == whole[..read.len()], "{place}");
                    if read.len() == 8 {
                        assert!(verify(dir.path()).unwrap().torn.is_some(), "{place}: cut without a word");
                        cut += 1;
                    }
                }
                Err(_) => assert!(!verify(dir.path()).unwrap().is_sound(), "{place}"),
            }
            // To open it takes long: one of five will do, every bit of a byte among them.
            if offset % 5 != 0 {
                damage(&segment.path, offset as u64, flip);
                continue;
            }
            match (&read, Journal::open_on(dir.path(), SMALL, Arc::clone(&disk) as Arc<dyn Disk>)) {
                (Ok(read), Ok((_, recovery))) => {
                    assert_eq!(recovery.last.0 as usize, read.len(), "{place}");
                    assert_eq!(&records(&dir, 0).unwrap(), read, "{place}");
                }
                (Ok(_), Err(error)) => panic!("{place}: {error}"),
                // The inside of an older segment is read by a replay and by `verify`, not at every start.
                (Err(_), opened) => assert!(opened.is_err() || number + 2 < segments.len(), "{place}"),
            }
            fs::read_dir(dir.path())
                .unwrap()
                .for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
            files.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
        }
    }
    assert!(cut > 800, "the last record is cut when it is damaged: {cut} times");
}

#[test]
fn trim_keeps_what_is_above_and_what_is_young() {
    let dir = TempDir::new().unwrap();
    let young = Options { keep: Duration::from_secs(3600), keep_bytes: u64::MAX, ..SMALL };
    let (mut journal, _) = open(&dir, &young, &TestDisk::healthy());
    for number in 1..=12 {
        append(&mut journal, &number.to_string()).unwrap();
    }
    journal.sync().unwrap();
    let segments = journal.segments();
    assert_eq!((segments.len(), segments[0].last, segments[1].last), (3, Position(4), Position(8)));
    assert_eq!(journal.trim(Position(12)).unwrap(), 0);
    let hours_ago = SystemTime::now() - Duration::from_secs(7200);
    File::options().write(true).open(&segments[0].path).unwrap().set_modified(hours_ago).unwrap();
    assert_eq!(journal.trim(Position(3)).unwrap(), 0);
    assert_eq!(journal.trim(Position(12)).unwrap(), 1);
    journal.options.keep_bytes = 4096;
    assert_eq!(journal.trim(Position(7)).unwrap(), 0);
    assert_eq!(journal.trim(Position(8)).unwrap(), 1);
    assert_eq!(journal.trim(Position(12)).unwrap(), 0, "the segment that is written to stays");
    assert_eq!(texts(&dir, 8), ["9", "10", "11", "12"]);
    assert!(matches!(records(&dir, 7), Err(Error::Trimmed { after: Position(7), first: Position(9) })));
    drop(journal);
    let (journal, recovery) = open(&dir, &young, &TestDisk::healthy());
    assert_eq!((recovery.last, journal.segments().len()), (Position(12), 1));
}

#[test]
fn positions_survive_a_trim_before_the_new_segment_is_synced() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    for number in 1..=5 {
        append(&mut journal, &number.to_string()).unwrap();
    }
    assert_eq!(journal.segments().len(), 2);
    assert_eq!(journal.trim(Position(4)).unwrap(), 0, "nothing in the new segment is durable");
    drop(journal);
    for write in disk.unsynced.lock().unwrap().iter().rev() {
        write.file.write_all_at(&write.old, write.offset).unwrap();
    }
    let (mut journal, recovery) = open(&dir, &SMALL, &disk);
    assert_eq!(recovery.last, Position(4));
    append(&mut journal, "five again").unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.trim(Position(4)).unwrap(), 1);
    drop(journal);
    assert_eq!(open(&dir, &SMALL, &disk).1.last, Position(5));
}

#[test]
fn recycled_segments_never_resurrect_old_records() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 16384, ..SMALL };
    let (mut journal, _) = open(&dir, &options, &TestDisk::healthy());
    for number in 1..=160 {
        append(&mut journal, &format!("old {number}")).unwrap();
        journal.sync().unwrap();
        journal.trim(journal.durable_upto()).unwrap();
    }
    append(&mut journal, "new").unwrap();
    let file = fs::read(last_segment(&journal)).unwrap();
    assert!(file.windows(4).any(|window| window == b"old "), "the file has been another segment");
    let first = journal.segments()[0].first;
    drop(journal);
    let (_, recovery) = open(&dir, &options, &TestDisk::healthy());
    assert_eq!((recovery.last, recovery.cut), (Position(161), None));
    let texts = texts(&dir, first.0 - 1);
    assert_eq!(texts.last().unwrap(), "new");
    assert_eq!(texts.len() as u64, 162 - first.0);
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 4, "{files} files: one or two segments, the next one and a blank file");
}

#[test]
fn no_group_goes_into_a_segment_whose_name_may_be_lost() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    // The disk looks at every write; here segments are made ahead, made when needed and recycled.
    for number in 1..=30 {
        append(&mut journal, &number.to_string()).unwrap();
        journal.sync().unwrap();
        if number % 10 == 0 {
            journal.trim(journal.durable_upto()).unwrap();
        }
    }
    assert!(journal.segments().last().unwrap().sequence > 6);
    assert!(disk.unnamed.lock().unwrap().len() <= 1, "but for the one that is being made");
}

#[test]
fn a_record_that_holds_a_group_is_only_a_record() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    // The best a sender can do: a valid group that vouches for everything, but whose generation is a guess.
    let mut forged = Vec::new();
    let mut inner = group(&["forged"]);
    inner.seal(7, Position(9), Position(8), model::Digest::default());
    inner.with_padded(0, |image| forged.extend_from_slice(image));
    assert!(crate::group::parse_group(&forged).is_ok());
    forged.truncate(1000);
    append(&mut journal, "kept").unwrap();
    journal.sync().unwrap();
    let range = journal.append(&mut group(&[forged])).unwrap();
    let offset = read(dir.path(), Position(1)).unwrap().next().unwrap().unwrap().offset;
    let segment = last_segment(&journal);
    assert_eq!(range, Position(2)..=Position(2));
    drop(journal);
    damage(&segment, offset + 9, |byte| !byte);
    let (_, recovery) = open(&dir, &SMALL, &TestDisk::healthy());
    assert_eq!(recovery.last, Position(1), "a torn tail, no hole");
}

#[test]
fn a_failed_sync_poisons_the_journal() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    append(&mut journal, "lost").unwrap();
    disk.broken.store(true, SeqCst);
    assert!(matches!(journal.sync(), Err(Error::Sync { .. })));
    disk.broken.store(false, SeqCst);
    assert!(matches!(journal.sync(), Err(Error::Poisoned)));
    assert!(matches!(append(&mut journal, "more"), Err(Error::Poisoned)));
    assert!(matches!(journal.append_urgent(&mut Group::new()), Err(Error::Poisoned)));
    assert!(matches!(journal.trim(Position(1)), Err(Error::Poisoned)));
}

#[test]
fn a_failed_sync_between_segments_poisons_the_journal() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    for text in ["1", "2", "3", "4"] {
        append(&mut journal, text).unwrap();
    }
    wait_for_maker(&mut journal);
    disk.broken.store(true, SeqCst);
    assert!(matches!(append(&mut journal, "5"), Err(Error::Sync { .. })));
    assert!(matches!(append(&mut journal, "5"), Err(Error::Poisoned)));
}

#[test]
fn a_failed_sync_of_the_segment_made_ahead_poisons_the_journal_before_it_is_needed() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    wait_for_maker(&mut journal);
    let lost = || Err(Error::sync("next.segment")(io::Error::other("lost pages")));
    journal.maker = Some(thread::spawn(lost));
    while !journal.maker.as_ref().is_some_and(JoinHandle::is_finished) {
        thread::yield_now();
    }
    assert!(matches!(append(&mut journal, "more"), Err(Error::Sync { .. })));
    assert!(matches!(append(&mut journal, "more"), Err(Error::Poisoned)));
    assert!(matches!(journal.sync(), Err(Error::Poisoned)));
}

#[test]
fn a_full_disk_leaves_the_journal_usable() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    disk.full.store(true, SeqCst);
    let mut number = 0;
    let error = loop {
        match append(&mut journal, &number.to_string()) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }) && number >= 4);
    assert_eq!(journal.sync().unwrap().upto().0, number);
    let mut waiting = group(&[vec![b'w'; 800]]);
    assert!(matches!(journal.append(&mut waiting), Err(Error::Full { .. })));
    assert_eq!(waiting.len(), 1, "it can be tried again");
    disk.full.store(false, SeqCst);
    assert_eq!(*journal.append(&mut waiting).unwrap().end(), Position(number + 1));
    assert_eq!(journal.sync().unwrap().upto(), Position(number + 1));
    assert_eq!(records(&dir, 0).unwrap().len() as u64, number + 1);
}

#[test]
fn a_segment_made_ahead_serves_after_a_restart_on_a_full_disk() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    wait_for_maker(&mut journal);
    drop(journal);
    disk.full.store(true, SeqCst);
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    while append(&mut journal, "fill").is_ok() {}
    assert_eq!(journal.segments().len(), 2);
}

#[test]
fn trimming_makes_room_on_a_full_disk() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let (mut journal, _) = open(&dir, &SMALL, &disk);
    while journal.segments().len() < 2 {
        append(&mut journal, "fill").unwrap();
    }
    disk.full.store(true, SeqCst);
    while append(&mut journal, "fill").is_ok() {}
    journal.sync().unwrap();
    assert!(journal.trim(journal.durable_upto()).unwrap() > 0);
    append(&mut journal, "room").unwrap();
}

#[test]
fn the_reserve_lets_urgent_groups_through_and_is_filled_again() {
    let dir = TempDir::new().unwrap();
    let disk = TestDisk::healthy();
    let options = Options { reserve_bytes: 4096, ..SMALL };
    let (mut journal, _) = open(&dir, &options, &disk);
    disk.full.store(true, SeqCst);
    while append(&mut journal, "frame").is_ok() {}
    let ordinary = journal.next_position();
    let mut recharges = 0;
    while journal.append_urgent(&mut group(&[vec![b'r'; 800]])).is_ok() {
        recharges += 1;
        let refused = append(&mut journal, "frame");
        assert!(matches!(refused, Err(Error::Full { .. })), "frames do not eat the reserve");
    }
    assert_eq!(recharges, 4);
    assert_eq!(journal.sync().unwrap().upto().0, ordinary.0 - 1 + recharges);
    drop(journal);
    let (mut journal, recovery) = open(&dir, &options, &disk);
    assert_eq!(recovery.last.0, ordinary.0 - 1 + recharges);
    assert!(matches!(append(&mut journal, "frame"), Err(Error::Full { .. })), "also after a restart");
    disk.full.store(false, SeqCst);
    append(&mut journal, "frame").unwrap();
    assert_eq!(journal.blanks.len(), 1);
}

#[test]
fn a_group_larger_than_a_segment_is_refused_alone() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    let room = journal.max_group_bytes() as usize - crate::GROUP_HEADER_BYTES - 4;
    let refused = journal.append(&mut group(&[vec![0; room + 1]]));
    assert!(matches!(refused, Err(Error::GroupTooLarge { bytes: 4033, limit: 4032 })));
    journal.append(&mut group(&[vec![1; room]])).unwrap();
    append(&mut journal, "next").unwrap();
    assert_eq!(records(&dir, 0).unwrap().len(), 2);
}

#[test]
fn segments_of_another_size_stay_readable() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir, &SMALL, &TestDisk::healthy());
    for number in 0..6 {
        append(&mut journal, &number.to_string()).unwrap();
    }
    drop(journal);
    let larger = Options { segment_bytes: 8192, ..SMALL };
    let (mut journal, _) = open(&dir, &larger, &TestDisk::healthy());
    journal.append(&mut group(&[vec![b'x'; 6000]])).unwrap();
    assert_eq!(journal.segments().last().unwrap().bytes, 8192);
    assert_eq!(records(&dir, 0).unwrap().len(), 7);
}

#[test]
fn sizes_that_no_segment_can_have_are_refused() {
    let dir = TempDir::new().unwrap();
    for bytes in [0, 2048, 5000, 2 << 30] {
        let options = Options { segment_bytes: bytes, ..SMALL };
        assert!(matches!(Journal::open(dir.path(), options), Err(Error::SegmentBytes { .. })));
    }
}

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<usize>),
    Urgent(usize),
    Idle,
    Sync,
    Trim(u64),
    Full(bool),
    /// Dies after so many more writes and syncs, at some point of the actions that follow.
    Die(u64),
    /// Syncs in vain, after which the process ends; nothing else is lost yet.
    Break,
    /// Ends here and starts again; with a power cut, or without; dying on the way, or not.
    Restart {
        power_cut: Option<u64>,
        die: Option<u64>,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => prop::collection::vec(0..900_usize, 1..4).prop_map(Action::Append),
        1 => (0..900_usize).prop_map(Action::Urgent),
        2 => Just(Action::Idle),
        4 => Just(Action::Sync),
        2 => (0..6_u64).prop_map(Action::Trim),
        1 => any::<bool>().prop_map(Action::Full),
        1 => (0..12_u64).prop_map(Action::Die),
        1 => Just(Action::Break),
        2 => (prop::option::weighted(0.8, 1..u64::MAX), prop::option::weighted(0.3, 0..8_u64))
            .prop_map(|(power_cut, die)| Action::Restart { power_cut, die }),
    ]
}

/// The journal as it should be: a list.
struct Model {
    records: Vec<Vec<u8>>,
    durable: usize,
    trimmed: u64,
    made: u64,
}

impl Model {
    /// A record unlike all others.
    fn record(&mut self, size: usize) -> Vec<u8> {
        self.made += 1;
        let mut record = self.made.to_le_bytes().to_vec();
        record.resize(8 + size, self.made as u8);
        record
    }

    /// What is on disk must be a prefix that holds all that is durable; it is what there is from now on.
    fn check(&mut self, dir: &TempDir, recovery: &Recovery) {
        let last = recovery.last.0 as usize;
        assert!(last >= self.durable, "{last} of {} durable records are there", self.durable);
        assert!(last <= self.records.len());
        self.records.truncate(last);
        self.durable = last;
        let read = records(dir, self.trimmed).unwrap();
        let expected = (self.trimmed + 1..).zip(self.records[self.trimmed as usize..].iter().cloned());
        assert!(read.into_iter().eq(expected), "the records are unchanged");
        assert!(verify(dir.path()).unwrap().is_sound());
    }
}

/// Carries out one action; an error means that the process has died.
fn act(action: &Action, journal: &mut Journal, model: &mut Model, disk: &TestDisk) -> Result<(), Error> {
    match action {
        Action::Append(sizes) => {
            let records: Vec<_> = sizes.iter().map(|size| model.record(*size)).collect();
            appended(journal.append(&mut group(&records)), records, model)
        }
        Action::Urgent(size) => {
            let records = vec![model.record(*size)];
            appended(journal.append_urgent(&mut group(&records)), records, model)
        }
        Action::Idle => appended(journal.append(&mut Group::new()), Vec::new(), model),
        Action::Sync => {
            let durable = journal.sync()?;
            assert_eq!(durable.upto().0 as usize, model.records.len());
            model.durable = model.records.len();
            Ok(())
        }
        Action::Trim(back) => {
            let upto = Position(journal.durable_upto().0.saturating_sub(*back));
            let trimmed = journal.trim(upto);
            let before = std::mem::replace(&mut model.trimmed, journal.segments()[0].first.0 - 1);
            assert!(model.trimmed <= upto.0.max(before));
            trimmed.map(|_| ())
        }
        Action::Full(full) => {
            wait_for_maker(journal);
            disk.full.store(*full, SeqCst);
            Ok(())
        }
        Action::Die(life) => {
            disk.life.store(*life, SeqCst);
            Ok(())
        }
        Action::Break => {
            disk.broken.store(true, SeqCst);
            let synced = journal.sync();
            disk.broken.store(false, SeqCst);
            synced.map(|_| ())
        }
        Action::Restart { .. } => Err(Error::Poisoned),
    }
}

fn appended(
    result: Result<RangeInclusive<Position>, Error>,
    records: Vec<Vec<u8>>,
    model: &mut Model,
) -> Result<(), Error> {
    match result {
        Ok(range) => {
            assert_eq!(range.start().0 as usize, model.records.len() + 1);
            model.records.extend(records);
            assert_eq!(range.end().0 as usize, model.records.len());
            Ok(())
        }
        Err(Error::Full { .. }) => Ok(()),
        Err(error) => {
            // A group whose write failed may be on disk nevertheless.
            model.records.extend(records);
            Err(error)
        }
    }
}

/// Starts again after the process has died, or the whole machine.
fn restart(
    dir: &TempDir,
    options: &Options,
    disk: &Arc<TestDisk>,
    action: &Action,
    random: u64,
) -> (Journal, Recovery) {
    let (power_cut, die) = match action {
        Action::Restart { power_cut, die } => (*power_cut, *die),
        Action::Break => (None, None),
        _ => (Some(random), None),
    };
    let lose = |random: Option<u64>| {
        if let Some(random) = random {
            disk.lose_power(random);
        }
    };
    lose(power_cut);
    if let Some(life) = die {
        disk.life.store(life, SeqCst);
        drop(Journal::open_on(dir.path(), options.clone(), Arc::clone(disk) as Arc<dyn Disk>));
        lose(power_cut);
    }
    disk.life.store(u64::MAX, SeqCst);
    open(dir, options, disk)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_synced_records_stay_and_the_rest_is_a_prefix(
        actions in prop::collection::vec(action(), 1..80),
        pages in 1..5_u64,
        reserve in any::<bool>(),
    ) {
        let dir = TempDir::new().unwrap();
        let disk = TestDisk::healthy();
        let options = Options { segment_bytes: 4096 * pages, reserve_bytes: u64::from(reserve), ..SMALL };
        let mut model = Model { records: Vec::new(), durable: 0, trimmed: 0, made: 0 };
        let mut journal = Some(open(&dir, &options, &disk).0);
        let last = Action::Restart { power_cut: Some(1), die: None };
        for action in actions.iter().chain([&last]) {
            if act(action, journal.as_mut().unwrap(), &mut model, &disk).is_err() {
                drop(journal.take());
                let (reopened, recovery) = restart(&dir, &options, &disk, action, model.made + 1);
                model.check(&dir, &recovery);
                journal = Some(reopened);
            }
        }
    }
}
