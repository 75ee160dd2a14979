//! The class of the next action (NAP) and the benchmark's closed class lists.
//!
//! The lists, spelling mistakes included, are the benchmark's labels. A source without a list of its own takes the
//! distinct labels of its records, which the caller collects.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::Value;

use super::python::strip;

/// The lists as data: source to labels, NurViD by procedure, and CoPESD's renamed labels.
struct Tables {
    avos: Vec<String>,
    cholec_t50: Vec<String>,
    copesd: Vec<String>,
    copesd_renamed: Vec<(String, String)>,
    /// In table order: lower-cased procedure, procedure, labels.
    nurvid: Vec<(String, String, Vec<String>)>,
    nurvid_all: Vec<String>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let data: Value = serde_json::from_str(include_str!("next_action_classes.json"))
        .expect("the embedded class lists are JSON, as a test shows");
    let labels = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let object = |key: &str| data[key].as_object().cloned().unwrap_or_default();
    let nurvid: Vec<(String, String, Vec<String>)> = object("NurViD")
        .iter()
        .map(|(name, list)| (name.to_lowercase(), name.clone(), labels(list)))
        .collect();
    let all: BTreeSet<String> = nurvid.iter().flat_map(|(_, _, labels)| labels.iter().cloned()).collect();
    Tables {
        avos: labels(&data["AVOS"]),
        cholec_t50: labels(&data["CholecT50"]),
        copesd: labels(&data["CoPESD"]),
        copesd_renamed: object("CoPESD_legacy_labels")
            .iter()
            .filter_map(|(old, new)| Some((old.clone(), new.as_str()?.to_owned())))
            .collect(),
        nurvid,
        nurvid_all: all.into_iter().collect(),
    }
});

/// The answer trimmed, and for CoPESD with renamed labels brought up to date.
pub fn normalise(source: &str, text: &str) -> String {
    let text = strip(text);
    let renamed = TABLES.copesd_renamed.iter().find(|(old, _)| source == "CoPESD" && old == text);
    renamed.map_or(text, |(_, new)| new).to_owned()
}

/// A label for comparison by the strict rules: case, and whether words are joined by blanks, hyphens or underscores, do not
/// matter, nor does a full stop at the end.
pub fn fold(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text.split(|c: char| c == '-' || c == '_' || super::python::is_space(c));
    let folded = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    // After the joints are gone, so that folding what is folded changes nothing.
    folded.trim_end_matches(['.', ' ']).to_owned()
}

/// NurViD's procedure of a question: the first in table order whose name the question contains, case ignored.
pub fn procedure(source: &str, question: &str) -> Option<&'static str> {
    if source != "NurViD" {
        return None;
    }
    let question = question.to_lowercase();
    TABLES.nurvid.iter().find(|(lower, _, _)| question.contains(lower)).map(|(_, name, _)| name.as_str())
}

/// The closed class list for a question; `None` for sources without one.
pub fn classes(source: &str, question: &str) -> Option<&'static [String]> {
    let tables = &*TABLES;
    Some(match source {
        "AVOS" => &tables.avos,
        "CholecT50" => &tables.cholec_t50,
        "CoPESD" => &tables.copesd,
        "NurViD" => match procedure(source, question) {
            Some(name) => &tables.nurvid.iter().find(|(_, other, _)| other == name)?.2,
            None => &tables.nurvid_all,
        },
        _ => return None,
    })
}

/// [`classes`] by the strict rules. Repair: of the procedures that a question contains the longest is meant, not the first
/// in the table, so `Subcutaneous Injection Insulin` has its own classes.
pub fn classes_strict(source: &str, question: &str) -> Option<&'static [String]> {
    if source != "NurViD" {
        return classes(source, question);
    }
    let question = question.to_lowercase();
    let named = TABLES.nurvid.iter().filter(|(lower, _, _)| question.contains(lower));
    let longest = named.max_by_key(|(lower, _, _)| lower.len());
    Some(longest.map_or(&TABLES.nurvid_all, |(_, _, labels)| labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_their_sizes() {
        assert_eq!(classes("AVOS", "").map(<[_]>::len), Some(3));
        assert_eq!(classes("CholecT50", "").map(<[_]>::len), Some(7));
        assert_eq!(classes("CoPESD", "").map(<[_]>::len), Some(8));
        assert_eq!(TABLES.nurvid.len(), 49);
        assert_eq!(TABLES.copesd_renamed.len(), 8);
        assert_eq!(classes("EgoSurgery", ""), None);
        assert_eq!(classes("NurViD", "no procedure here").map(<[_]>::len), Some(TABLES.nurvid_all.len()));
    }

    #[test]
    fn the_first_procedure_in_the_table_wins() {
        assert_eq!(procedure("NurViD", "SUBCUTANEOUS INJECTION INSULIN"), Some("Subcutaneous Injection"));
        assert_eq!(
            procedure("NurViD", "female retention catheterization"),
            Some("Female Retention Catheterization")
        );
    }

    #[test]
    fn folding_ignores_case_and_joints() {
        assert_eq!(fold(" Gallbladder  Dissection.\n"), fold("gallbladder-dissection"));
        assert_ne!(fold("tying"), fold("cutting"));
        assert_eq!(fold("tying . -\n"), "tying");
    }

    #[test]
    fn only_copesd_has_renamed_labels() {
        assert_eq!(normalise("CoPESD", " dissect flap with knife\n"), "dissect flap tissue with knife");
        assert_eq!(normalise("NurViD", "dissect flap with knife"), "dissect flap with knife");
    }
}
