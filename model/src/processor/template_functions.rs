//! Functions that transformers gives to chat templates and Jinja itself lacks or does otherwise.

use minijinja::{Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `strftime_now`: the local date and time in `strftime`'s format. A template that uses it renders differently every day.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let text = jiff::fmt::strtime::format(format, &jiff::Zoned::now());
    text.map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// `tojson`: Python's `json.dumps(value, ensure_ascii=False, indent=…)`; unlike Jinja's, it escapes no HTML.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a template filter")]
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: ensure_ascii=True is not implemented"));
    }
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let mut json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    match indent {
        Some(width) => write(&json, PrettyFormatter::with_indent(" ".repeat(width.min(64)).as_bytes())),
        None => write(&json, PythonFormatter),
    }
}

fn write(json: &serde_json::Value, formatter: impl Formatter) -> Result<String, Error> {
    let mut out = Vec::new();
    let written = json.serialize(&mut Serializer::with_formatter(&mut out, formatter));
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    String::from_utf8(out).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Python's separators: a space after comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
