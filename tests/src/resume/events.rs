//! A run's event files say what its metrics say, read by another reader than the one beside their writer.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Scalars by tag.
type Scalars = BTreeMap<String, f32>;

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

/// Number and value of each field.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Bytes(take(&mut message, 8)),
            2 => {
                let len = varint(&mut message);
                Field::Bytes(take(&mut message, usize::try_from(len).unwrap()))
            }
            5 => Field::Bytes(take(&mut message, 4)),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The bytes of the fields with this number.
fn inner(message: &[u8], number: u64) -> Vec<&[u8]> {
    let bytes = |(found, field)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

/// Step and scalars of every event of a file but the first, which holds the version.
fn read(path: &Path) -> Vec<(u64, Scalars)> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rest = &file[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let len = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
        take(&mut rest, 4);
        events.push(take(&mut rest, usize::try_from(len).unwrap()));
        take(&mut rest, 4);
    }
    let first = events.remove(0);
    assert_eq!(inner(first, 3), [b"brain.Event:2"]);
    let number = |message: &[u8]| {
        let mut steps = fields(message).into_iter().filter_map(|(number, field)| match field {
            Field::Number(step) if number == 2 => Some(step),
            _ => None,
        });
        steps.next().unwrap()
    };
    let scalar = |value: &[u8]| {
        let tag = String::from_utf8(inner(value, 1)[0].to_vec()).unwrap();
        (tag, f32::from_le_bytes(inner(value, 2)[0].try_into().unwrap()))
    };
    events
        .into_iter()
        .map(|event| (number(event), inner(inner(event, 5)[0], 1).into_iter().map(scalar).collect()))
        .collect()
}

/// The steps and numbers of `metrics.jsonl`, by stage.
fn of_metrics(metrics: &str) -> BTreeMap<u64, Vec<(u64, Scalars)>> {
    let mut stages: BTreeMap<u64, Vec<(u64, Scalars)>> = BTreeMap::new();
    for line in metrics.lines() {
        let Value::Object(mut line) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        let [stage, step] = ["stage", "step"].map(|key| line.remove(key).unwrap().as_u64().unwrap());
        let scalars = line.into_iter().map(|(name, value)| (name, value.as_f64().unwrap() as f32)).collect();
        stages.entry(stage).or_default().push((step, scalars));
    }
    stages
}

/// Whether there is one file for each stage, with every step once and in order.
pub(super) fn assert_same_as_metrics(folder: &Path, metrics: &str) {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let stages = of_metrics(metrics);
    assert_eq!(folders.len(), stages.len(), "{folders:?}");
    for (folder, (stage, steps)) in folders.iter().zip(stages) {
        assert!(folder.file_name().unwrap().to_str().unwrap().starts_with(&format!("{stage:02}-")));
        assert_eq!(super::names(folder), ["events.out.tfevents.medgrpo"], "{}", folder.display());
        assert_eq!(read(&folder.join("events.out.tfevents.medgrpo")), steps, "{}", folder.display());
    }
}
