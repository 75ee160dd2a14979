//! Finds the rows of an array in which a bracket or quote of some row is broken, so that the others stay readable.
//!
//! Writers begin every record with the same key. `{"key"` with bare quotes cannot stand inside a JSON string, so each
//! place that shows it after a comma is the start of a row. A file without its closing bracket was cut short and is
//! not recovered: nothing would say how many rows are missing.

use std::io::{Read, Seek, SeekFrom};

use memchr::memmem;

use super::scan::{RowSpan, ScanError, for_each_chunk};

/// The first row's opening must lie within this many bytes.
const HEAD_BYTES: u64 = 4096;
/// So many blanks may stand between a comma and the next row.
const MAX_BLANKS: usize = 256;

/// The rows, or `None` where they cannot be told apart.
pub(super) fn recover(file: &mut (impl Read + Seek)) -> Result<Option<Vec<RowSpan>>, ScanError> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let Some(opening) = opening(&head) else { return Ok(None) };
    let finder = memmem::Finder::new(&opening);

    file.seek(SeekFrom::Start(0))?;
    let mut starts = Vec::new();
    let mut last_byte = (0, 0);
    // The chunk in hand with the end of the one before, and the offset of its first byte.
    let (mut window, mut base) = (Vec::new(), 0_u64);
    for_each_chunk(file, |chunk| {
        window.extend_from_slice(chunk);
        let mut from = 0;
        // Every place is looked at, so that it does not matter where the window starts; of two that overlap, which a key
        // that ends in `{` lets them, the first counts.
        while let Some(found) = finder.find(&window[from..]) {
            let at = from + found;
            from = at + 1;
            let before = window[..at].iter().rev().take(MAX_BLANKS).find(|byte| !byte.is_ascii_whitespace());
            let offset = base + at as u64;
            if matches!(before, Some(b',' | b'['))
                && starts.last().is_none_or(|&last| last + opening.len() as u64 <= offset)
            {
                starts.push(offset);
            }
        }
        if let Some(at) = window.iter().rposition(|byte| !byte.is_ascii_whitespace()) {
            last_byte = (base + at as u64, window[at]);
        }
        let num_done = window.len().saturating_sub(MAX_BLANKS + opening.len());
        window.drain(..num_done);
        base += num_done as u64;
        Ok(())
    })?;
    if last_byte.1 != b']' || starts.len() < 2 {
        return Ok(None);
    }
    let mut rows = Vec::with_capacity(starts.len());
    for (index, &start) in starts.iter().enumerate() {
        let limit = starts.get(index + 1).copied().unwrap_or(last_byte.0);
        rows.push(RowSpan { offset: start, len: length(file, start, limit)? });
    }
    Ok(Some(rows))
}

/// `{`, blanks and the first key of the first row, as they are written.
fn opening(head: &[u8]) -> Option<Vec<u8>> {
    let brace = memchr::memchr(b'{', head)?;
    let before = head[..brace].iter().rev().find(|byte| !byte.is_ascii_whitespace());
    let quote = brace + 1 + head[brace + 1..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    let end = quote + 1 + memchr::memchr(b'"', head.get(quote + 1..)?)?;
    let key = &head[quote + 1..end];
    (before == Some(&b'[') && head[quote] == b'"' && !key.is_empty() && !key.contains(&b'\\'))
        .then(|| head[brace..=end].to_vec())
}

/// Bytes of the row that starts at `start`, without the comma and blanks before `limit`.
fn length(file: &mut (impl Read + Seek), start: u64, limit: u64) -> Result<u64, ScanError> {
    let num_bytes = (limit - start).min(MAX_BLANKS as u64);
    file.seek(SeekFrom::Start(limit - num_bytes))?;
    let mut tail = Vec::new();
    file.by_ref().take(num_bytes).read_to_end(&mut tail)?;
    let tail = tail.trim_ascii_end();
    let kept = tail.strip_suffix(b",").unwrap_or(tail).trim_ascii_end();
    Ok(limit - start - num_bytes + kept.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::recover;
    use crate::medvidbench::scan::{Layout, ScanError, scan, tests::Dribble};

    fn rows(text: &str) -> Vec<&str> {
        let rows = scan(Cursor::new(text), Layout::Array).unwrap();
        rows.iter().map(|row| &text[row.offset as usize..][..row.len as usize]).collect()
    }

    #[test]
    fn rows_beside_a_broken_one_are_found() {
        for broken in
            ["{\"id\": \"x, \"b\": [1]}", "{\"id\": [1}, 2", "{\"id\": 1]]}", "{\"id\": \"{\\\"id\\\""]
        {
            for glue in [",", ", ", ",\n  "] {
                let text =
                    ["[ {\"id\": 1, \"c\": {\"id\": 2}}", broken, "{\"id\": \"last\"}\n]\n"].join(glue);
                assert_eq!(
                    rows(&text),
                    ["{\"id\": 1, \"c\": {\"id\": 2}}", broken.trim_end(), "{\"id\": \"last\"}"],
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn rows_are_found_across_chunks() {
        let long = "y".repeat(40_000);
        let mut text = String::from("[{\"id\": \"");
        for row in 0..200 {
            text.push_str(&format!("{}\"}},\n {{\"id\": \"{row}", &long[..row * 197]));
        }
        text.push_str("\"}]");
        // One quote too many.
        let text = text.replacen("\"7", "7", 1);
        let found = rows(&text);
        assert_eq!(found.len(), 201);
        let broken: Vec<usize> =
            (0..201).filter(|&row| serde_json::from_str::<serde_json::Value>(found[row]).is_err()).collect();
        assert_eq!(broken, [8]);
    }

    #[test]
    fn a_key_that_ends_like_a_row_is_the_same_however_it_is_read() {
        let long = format!("{{\"x,{{\"x,{{\"{}", "y".repeat(400));
        let text = format!("[{{\"x,{{\": 1}}}}, {long}, {{\"x,{{\"]");
        assert_eq!(rows(&text), ["{\"x,{\": 1}}", &long, "{\"x,{\""]);
        let whole = scan(Cursor::new(&text), Layout::Array).unwrap();
        for num_bytes in [1, 2, 3, 5, 7] {
            assert_eq!(scan(Dribble::new(text.as_bytes(), num_bytes), Layout::Array).unwrap(), whole);
        }
    }

    #[test]
    fn a_file_cut_short_is_not_recovered() {
        for text in ["[{\"id\": 1}, {\"id\": 2}, {\"id\"", "[{\"id\": 1}, {\"id\": 2},"] {
            assert!(recover(&mut Cursor::new(text)).unwrap().is_none());
            assert!(matches!(scan(Cursor::new(text), Layout::Array), Err(ScanError::Shape(_))));
        }
    }
}
