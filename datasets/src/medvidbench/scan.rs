//! One pass over a data file that finds where each row starts and ends, without parsing the rows.
//!
//! Works on a stream in fixed memory. Only strings, escapes and bracket depth are tracked, so that a broken row stays
//! inside its own brackets; what is wrong with it is told when it is read. Where a row's own brackets or quotes are
//! broken, [`recover`](super::recover) finds the others.

use std::io::{Read, Seek};

use memchr::{memchr, memchr2};

use super::recover::recover;

/// How rows stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One JSON array of rows.
    Array,
    /// One row a line; blank lines are none.
    Lines,
}

/// The bytes of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowSpan {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Why a file has no rows to speak of.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(std::io::Error),
    /// The file is not what its layout says; the message says what to do.
    Shape(String),
}

impl From<std::io::Error> for ScanError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

const CHUNK_BYTES: usize = 1 << 16;

/// Finds the rows of a file.
pub(super) fn scan(mut file: impl Read + Seek, layout: Layout) -> Result<Vec<RowSpan>, ScanError> {
    match layout {
        Layout::Lines => {
            let mut lines = LineScanner::default();
            for_each_chunk(&mut file, |chunk| {
                lines.feed(chunk);
                Ok(())
            })?;
            Ok(lines.finish())
        }
        Layout::Array => {
            let mut array = ArrayScanner::default();
            let fed = for_each_chunk(&mut file, |chunk| array.feed(chunk));
            match fed.and_then(|()| array.finish()) {
                Err(ScanError::Shape(reason)) => match recover(&mut file)? {
                    Some(rows) => {
                        tracing::warn!(
                            "the array's brackets do not match ({reason}); its {} rows were found by their first key \
                             instead",
                            rows.len()
                        );
                        Ok(rows)
                    }
                    None => Err(ScanError::Shape(reason)),
                },
                done => done,
            }
        }
    }
}

pub(super) fn for_each_chunk(
    file: &mut impl Read,
    mut each: impl FnMut(&[u8]) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(num_bytes) => each(&chunk[..num_bytes])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Before,
    Inside,
    After,
}

struct ArrayScanner {
    rows: Vec<RowSpan>,
    place: Place,
    /// Offset of the chunk in the file.
    base: u64,
    /// Open brackets of the current row.
    depth: u64,
    in_string: bool,
    escaped: bool,
    row_start: Option<u64>,
    /// End of the last byte of the current row that is no blank.
    row_end: u64,
    num_bom_bytes: usize,
}

impl Default for ArrayScanner {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            place: Place::Before,
            base: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            row_start: None,
            row_end: 0,
            num_bom_bytes: 0,
        }
    }
}

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Bytes that matter inside a row and outside its strings.
const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

impl ArrayScanner {
    fn feed(&mut self, chunk: &[u8]) -> Result<(), ScanError> {
        let mut at = 0;
        while at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                match memchr2(b'"', b'\\', &chunk[at..]) {
                    None => at = chunk.len(),
                    Some(found) => {
                        at += found + 1;
                        if chunk[at - 1] == b'\\' {
                            self.escaped = true;
                        } else {
                            self.in_string = false;
                            self.row_end = self.base + at as u64;
                        }
                    }
                }
            } else if self.depth > 0 {
                match chunk[at..].iter().position(|&byte| STRUCTURAL[byte as usize]) {
                    None => at = chunk.len(),
                    Some(found) => {
                        at += found + 1;
                        self.row_end = self.base + at as u64;
                        match chunk[at - 1] {
                            b'"' => self.in_string = true,
                            b'{' | b'[' => self.depth += 1,
                            _ => self.depth -= 1,
                        }
                    }
                }
            } else {
                self.between(chunk[at], self.base + at as u64)?;
                at += 1;
            }
        }
        self.base += chunk.len() as u64;
        Ok(())
    }

    /// A byte outside of any row's brackets.
    fn between(&mut self, byte: u8, offset: u64) -> Result<(), ScanError> {
        if byte.is_ascii_whitespace() {
            return Ok(());
        }
        match (self.place, byte) {
            (Place::Before, b'[') => self.place = Place::Inside,
            (Place::Before, byte) => {
                if BOM.get(self.num_bom_bytes) == Some(&byte) {
                    self.num_bom_bytes += 1;
                    return Ok(());
                }
                return Err(ScanError::Shape(
                    "not a JSON array of records (the file does not start with \"[\"); name a file with one record a \
                     line .jsonl"
                        .into(),
                ));
            }
            (Place::Inside, b',') => self.close_row(offset),
            (Place::Inside, b']') => {
                if self.row_start.is_some() || !self.rows.is_empty() {
                    self.close_row(offset);
                }
                self.place = Place::After;
            }
            (Place::Inside, byte) => {
                self.row_start.get_or_insert(offset);
                self.row_end = offset + 1;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = 1,
                    _ => {}
                }
            }
            (Place::After, _) => {
                return Err(ScanError::Shape(format!(
                    "byte {offset} follows the end of the array of {} records; the file must hold one array",
                    self.rows.len()
                )));
            }
        }
        Ok(())
    }

    /// Ends the current row; without one (`,,` or `,]`) it is an empty row, which reading will refuse.
    fn close_row(&mut self, offset: u64) {
        let start = self.row_start.take().unwrap_or(offset);
        self.rows.push(RowSpan { offset: start, len: self.row_end.max(start) - start });
    }

    fn finish(self) -> Result<Vec<RowSpan>, ScanError> {
        match (self.place, self.row_start) {
            (Place::After, _) => Ok(self.rows),
            (Place::Before, _) => {
                Err(ScanError::Shape("the file is empty; expected a JSON array of records".into()))
            }
            (Place::Inside, Some(start)) => Err(ScanError::Shape(format!(
                "the file ends inside row {}, which starts at byte {start}: it was cut short, or a bracket or quote of \
                 that row is never closed",
                self.rows.len()
            ))),
            (Place::Inside, None) => Err(ScanError::Shape(format!(
                "the file ends after {} records without the array's closing \"]\": it was cut short",
                self.rows.len()
            ))),
        }
    }
}

#[derive(Default)]
struct LineScanner {
    rows: Vec<RowSpan>,
    base: u64,
    /// First and one past the last byte of the current line that are no blanks.
    line: Option<(u64, u64)>,
    /// The file's first bytes.
    head: Vec<u8>,
}

impl LineScanner {
    fn feed(&mut self, chunk: &[u8]) {
        self.head.extend(chunk.iter().take(BOM.len() - self.head.len()));
        let mut at = 0;
        while at < chunk.len() {
            let end = memchr(b'\n', &chunk[at..]).map_or(chunk.len(), |found| at + found);
            let piece = &chunk[at..end];
            if let Some(first) = piece.iter().position(|byte| !byte.is_ascii_whitespace()) {
                let last = piece.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap_or(first);
                let (start, stop) = (self.base + (at + first) as u64, self.base + (at + last + 1) as u64);
                self.line = Some((self.line.map_or(start, |(start, _)| start), stop));
            }
            if end < chunk.len() {
                self.close_line();
            }
            at = end + 1;
        }
        self.base += chunk.len() as u64;
    }

    fn close_line(&mut self) {
        let Some((mut start, stop)) = self.line.take() else { return };
        if start == 0 && self.head == BOM {
            start = BOM.len() as u64;
        }
        if start < stop {
            self.rows.push(RowSpan { offset: start, len: stop - start });
        }
    }

    fn finish(mut self) -> Vec<RowSpan> {
        self.close_line();
        self.rows
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Read, Seek, SeekFrom};

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use serde_json::Value;

    use super::{Layout, RowSpan, ScanError, scan};

    fn rows(text: &[u8], layout: Layout) -> Vec<Vec<u8>> {
        let rows = scan(Cursor::new(text), layout).unwrap();
        rows.iter().map(|row| text[row.offset as usize..][..row.len as usize].to_vec()).collect()
    }

    fn texts(text: &str, layout: Layout) -> Vec<String> {
        rows(text.as_bytes(), layout).into_iter().map(|row| String::from_utf8(row).unwrap()).collect()
    }

    /// Reads a few bytes at a time, so that every state is met at the border of two chunks.
    pub(in super::super) struct Dribble<'a> {
        file: Cursor<&'a [u8]>,
        num_bytes: usize,
    }

    impl<'a> Dribble<'a> {
        pub(in super::super) fn new(bytes: &'a [u8], num_bytes: usize) -> Self {
            Self { file: Cursor::new(bytes), num_bytes }
        }
    }

    impl Seek for Dribble<'_> {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.file.seek(to)
        }
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let num_bytes = self.num_bytes.min(buffer.len());
            self.file.read(&mut buffer[..num_bytes])
        }
    }

    #[test]
    fn rows_of_an_array() {
        let text = "\u{feff} [ {\"a\": \"]},\\\"{\"} ,\n [1, [2]], null,\"x,\" , -1.5 ] \n";
        assert_eq!(
            texts(text, Layout::Array),
            ["{\"a\": \"]},\\\"{\"}", "[1, [2]]", "null", "\"x,\"", "-1.5"]
        );
        assert!(texts("[]", Layout::Array).is_empty());
        assert_eq!(texts("[1,]", Layout::Array), ["1", ""]);
    }

    #[test]
    fn a_broken_row_stays_in_its_brackets() {
        assert_eq!(
            texts("[{\"a\": }, {b: [}}, {\"c\": 1}}, 5]", Layout::Array),
            ["{\"a\": }", "{b: [}}", "{\"c\": 1}}", "5"]
        );
        assert_eq!(rows(b"[{\"a\": \"\xff\"}, {\"b\": 1}]", Layout::Array).len(), 2);
    }

    #[test]
    fn what_is_no_array_is_refused() {
        let reason = |text: &str| match scan(Cursor::new(text.as_bytes()), Layout::Array) {
            Err(ScanError::Shape(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason("{\"0\": {}}").contains("not a JSON array"));
        assert!(reason(" ").contains("empty"));
        assert!(reason("[{\"a\": 1}, {\"b\": ").contains("inside row 1, which starts at byte 11"));
        assert!(reason("[{\"a\": 1}").contains("inside row 0"));
        assert!(reason("[{\"a\": 1},").contains("after 1 records"));
        assert!(reason("[] []").contains("byte 3 follows"));
    }

    #[test]
    fn rows_of_lines() {
        let text = "\u{feff}{\"a\": 1}\r\n\n   \n {\"b\": \"x\\ny\"} \n[broken";
        assert_eq!(texts(text, Layout::Lines), ["{\"a\": 1}", "{\"b\": \"x\\ny\"}", "[broken"]);
        assert!(texts("", Layout::Lines).is_empty() && texts("\u{feff}\n", Layout::Lines).is_empty());
        for num_bytes in 1..4 {
            let rows = scan(Dribble::new(text.as_bytes(), num_bytes), Layout::Lines).unwrap();
            assert_eq!((rows.len(), rows[0]), (3, RowSpan { offset: 3, len: 8 }), "{num_bytes} at a time");
        }
    }

    fn random_value(rng: &mut ChaCha8Rng, depth: usize) -> Value {
        match rng.random_range(0..if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::from(rng.random_range(-1e3..1e3)),
            2 | 3 => {
                let letters = ['a', '"', '\\', '{', '}', '[', ']', ',', '\n', 'é', '😀'];
                (0..rng.random_range(0..6))
                    .map(|_| letters[rng.random_range(0..letters.len())])
                    .collect::<String>()
                    .into()
            }
            4 => (0..rng.random_range(0..4)).map(|_| random_value(rng, depth - 1)).collect(),
            _ => Value::Object(
                (0..rng.random_range(0..4))
                    .map(|key| (format!("{key}\""), random_value(rng, depth - 1)))
                    .collect(),
            ),
        }
    }

    #[test]
    fn finds_the_same_rows_as_a_parser_at_every_chunk_size() {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..200 {
            let values: Vec<Value> = (0..rng.random_range(0..5)).map(|_| random_value(&mut rng, 3)).collect();
            let pretty = serde_json::to_string_pretty(&values).unwrap();
            let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
            for (text, layout) in [(pretty, Layout::Array), (lines, Layout::Lines)] {
                let spans = scan(Dribble::new(text.as_bytes(), rng.random_range(1..9)), layout).unwrap();
                let read: Vec<Value> = spans
                    .iter()
                    .map(|span| {
                        serde_json::from_str(&text[span.offset as usize..][..span.len as usize]).unwrap()
                    })
                    .collect();
                assert_eq!(read, values, "{text}");
            }
        }
    }
}
