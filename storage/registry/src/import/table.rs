//! A CSV file with a header, read in chunks of lines.

use std::io::{self, Read};

use super::{BadLines, CHUNK_LINES, ImportError};

/// Lines of one import, header apart. It holds the registry's write lock for its time, so it is bounded.
pub const MAX_IMPORT_LINES: usize = 200_000;
/// Bytes of one import.
pub const MAX_IMPORT_BYTES: u64 = 64 * 1024 * 1024;

/// Name of a column and whether it must be there and hold something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) header: Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Required,
    Optional,
}

/// One line: its number in the file and its fields in the order of the columns asked for.
pub(super) struct Line<const N: usize> {
    pub(super) number: u64,
    fields: [String; N],
}

impl<const N: usize> Line<N> {
    /// Text of a column, trimmed; empty where there is none.
    pub(super) fn field(&self, column: usize) -> &str {
        &self.fields[column]
    }
}

/// Stops with an error after [`MAX_IMPORT_BYTES`], so that a line without end cannot fill the memory; drops carriage
/// returns and ends with a line feed, so that lines can be counted.
struct Source<R> {
    inner: R,
    left: u64,
    ended: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.inner.read(buffer)?;
            if count == 0 {
                return Ok(self.end(buffer));
            }
            self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
            let kept = drop_carriage_returns(&mut buffer[..count]);
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

impl<R> Source<R> {
    fn end(&mut self, buffer: &mut [u8]) -> usize {
        match buffer.first_mut() {
            Some(byte) if !self.ended => {
                *byte = b'\n';
                self.ended = true;
                1
            }
            _ => 0,
        }
    }
}

/// Moves what is kept to the front; how much that is.
fn drop_carriage_returns(bytes: &mut [u8]) -> usize {
    let mut kept = 0;
    for index in 0..bytes.len() {
        if bytes[index] != b'\r' {
            bytes[kept] = bytes[index];
            kept += 1;
        }
    }
    kept
}

pub(super) struct Table<R, const N: usize> {
    reader: csv::Reader<Source<R>>,
    columns: [Column; N],
    /// Place of each column in the file.
    places: [Option<usize>; N],
    width: usize,
    lines: usize,
}

impl<R: Read, const N: usize> Table<R, N> {
    /// Reads the header. Columns may stand in any order; unknown, repeated and missing ones are faults.
    pub(super) fn open(csv: R, columns: [Column; N], faults: &mut BadLines) -> Result<Self, ImportError> {
        let source = Source { inner: csv, left: MAX_IMPORT_BYTES, ended: false };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(source);
        let mut record = csv::ByteRecord::new();
        reader.read_byte_record(&mut record).map_err(read_error)?;
        let names: Vec<String> =
            record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let places = places(&names, &columns, faults);
        Ok(Table { reader, columns, places, width: names.len(), lines: 0 })
    }

    /// The next lines that are whole; empty at the end of the file.
    pub(super) fn next_chunk(&mut self, faults: &mut BadLines) -> Result<Vec<Line<N>>, ImportError> {
        let mut lines = Vec::new();
        let mut record = csv::ByteRecord::new();
        while lines.len() < CHUNK_LINES && self.reader.read_byte_record(&mut record).map_err(read_error)? {
            self.lines += 1;
            if self.lines > MAX_IMPORT_LINES {
                return Err(ImportError::TooManyLines);
            }
            lines.extend(self.line(&record, faults));
        }
        Ok(lines)
    }

    fn line(&self, record: &csv::ByteRecord, faults: &mut BadLines) -> Option<Line<N>> {
        let number = self.line_number(record);
        if record.len() > self.width {
            faults.add(
                number,
                "",
                format_args!("{} fields, but the header has {}", record.len(), self.width),
            );
            return None;
        }
        let mut whole = true;
        let fields = std::array::from_fn(|index| {
            let column = self.columns[index];
            let bytes = self.places[index].and_then(|place| record.get(place)).unwrap_or_default();
            let Ok(text) = str::from_utf8(bytes) else {
                faults.add(number, column.name, "not UTF-8");
                whole = false;
                return String::new();
            };
            text.trim().to_owned()
        });
        whole.then_some(Line { number, fields })
    }

    /// Line on which the record just read begins. The reader's own mark lies before the empty lines it skips, so it
    /// is counted back from the line feed that ends the record.
    fn line_number(&self, record: &csv::ByteRecord) -> u64 {
        let inside = record.iter().flatten().filter(|&&byte| byte == b'\n').count();
        self.reader.position().line().saturating_sub(1 + inside as u64)
    }
}

fn places<const N: usize>(
    names: &[String],
    columns: &[Column; N],
    faults: &mut BadLines,
) -> [Option<usize>; N] {
    let plain = |name: &str| name.trim_start_matches('\u{feff}').to_owned();
    for name in names.iter().map(|name| plain(name)) {
        if !columns.iter().any(|column| column.name == name) {
            let known = columns.map(|column| column.name).join(", ");
            faults.add(1, "", format_args!("unknown column {name:?}; the columns are {known}"));
        }
    }
    columns.map(|column| {
        let mut found =
            names.iter().enumerate().filter(|(_, name)| plain(name) == column.name).map(|(place, _)| place);
        let place = found.next();
        if found.next().is_some() {
            faults.add(1, column.name, "the column is there twice");
        }
        if place.is_none() && column.header == Header::Required {
            faults.add(1, column.name, "the column is missing");
        }
        place
    })
}

fn read_error(error: csv::Error) -> ImportError {
    match error.kind() {
        csv::ErrorKind::Io(cause) if cause.kind() == io::ErrorKind::FileTooLarge => ImportError::TooLong,
        _ => ImportError::Read(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] =
        [Column { name: "a", header: Header::Required }, Column { name: "b", header: Header::Optional }];

    fn read(csv: &[u8]) -> (Vec<(u64, String, String)>, Vec<String>) {
        let mut faults = BadLines::default();
        let mut table = Table::open(csv, COLUMNS, &mut faults).unwrap();
        let lines = table.next_chunk(&mut faults).unwrap();
        let lines =
            lines.iter().map(|line| (line.number, line.field(0).to_owned(), line.field(1).to_owned()));
        (lines.collect(), faults.listed.iter().map(ToString::to_string).collect())
    }

    fn line(number: u64, a: &str, b: &str) -> (u64, String, String) {
        (number, a.to_owned(), b.to_owned())
    }

    #[test]
    fn columns_may_stand_in_any_order_and_lines_keep_their_numbers() {
        let (lines, faults) = read("\u{feff}b , a\r\n1, 2 \r\n\r\n\"x,\ny\",3\n4".as_bytes());
        assert_eq!(faults, [""; 0]);
        assert_eq!(lines, [line(2, "2", "1"), line(4, "3", "x,\ny"), line(6, "", "4")]);
    }

    #[test]
    fn a_bad_header_is_told_by_column() {
        assert_eq!(
            read(b"b,c,b\n").1,
            [
                "line 1: unknown column \"c\"; the columns are a, b",
                "line 1, a: the column is missing",
                "line 1, b: the column is there twice",
            ]
        );
        assert_eq!(read(b"").1, ["line 1, a: the column is missing"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_a_fault_of_their_line_only() {
        let (lines, faults) = read(b"a,b\n\xff,1\n2,3\n4,5,6\n");
        assert_eq!(lines, [line(3, "2", "3")]);
        assert_eq!(faults, ["line 2, a: not UTF-8", "line 4: 3 fields, but the header has 2"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut faults = BadLines::default();
        let endless = io::repeat(b'a');
        let outcome = Table::open(endless, COLUMNS, &mut faults).err();
        assert!(matches!(outcome, Some(ImportError::TooLong)), "{outcome:?}");
    }
}
