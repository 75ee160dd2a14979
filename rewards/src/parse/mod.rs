//! Model text to typed answers, one file a task.
//!
//! Every parser is total: any text gives an answer (perhaps an empty one) in time linear in its length, sorting aside.
//! `parse` follows the benchmark's official scorer, oddities included, because training should optimise what is
//! reported; it was written from a description of the scorer's behaviour and is checked against values made with it
//! (`tests/data/eval`). `parse_strict` is what it should have been: each repair is named and tested beside the oddity.

pub mod cvs;
pub mod dvc;
pub mod next_action;
pub mod python;
mod readable;
pub mod skill;
pub mod stg;
pub mod tag;
pub mod vqa;

pub use readable::is_readable;

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Runs every parser; the answers do not matter here.
    fn parse_all(text: &str) -> usize {
        let events = dvc::parse(text);
        tag::parse(text).len()
            + tag::parse_strict(text).len()
            + stg::entries(text).len()
            + stg::entries_strict(text, &[0.0, 8.0]).len()
            + usize::from(stg::parse(text).is_empty())
            + dvc::flatten_longest(&events).len()
            + usize::from(dvc::has_overlap(&events))
            + dvc::parse_strict(text).len()
            + cvs::parse(text).len()
            + cvs::parse_strict(text).len()
            + skill::parse(text).aspects.len()
            + skill::parse_strict(text).map_or(0, |scores| scores.len())
            + skill::by_aspect(text).len()
            + vqa::tagged(text).map_or(0, |tagged| tagged.answer.len())
            + vqa::answer_part(text).map_or(0, str::len)
            + vqa::options(text).len()
            + usize::from(vqa::choice(text, &[]).is_some())
            + next_action::normalise("CoPESD", text).len()
            + next_action::fold(text).len()
    }

    #[test]
    fn any_text_is_parsed() {
        let seed = 99;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pieces = [
            "0",
            "12.5",
            "9999999999999999999999",
            "-",
            " - ",
            "–",
            " to ",
            "From ",
            ".",
            ",",
            "[",
            "]",
            "[[1,2,3,4]]",
            " seconds",
            " seconds: ",
            " second: ",
            "\n",
            "\n0-5 seconds: ",
            "**Description:**",
            "two structures: ",
            "Cystic plate",
            "/5",
            ": 3/5",
            "Time and motion",
            "00:01:05",
            "٣",
            "０",
            "𝟘",
            "é",
            "\u{0}",
            "\u{1c}",
            "\u{a0}",
            "nan",
            "inf",
            "1_0",
            "1e9",
            "ſ",
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "(B) ",
            "A: ",
            "B.",
            "İ",
        ];
        let mut total = 0;
        for _ in 0..3000 {
            let length = rng.random_range(0..30);
            let text: String = (0..length).map(|_| pieces[rng.random_range(0..pieces.len())]).collect();
            total += parse_all(&text);
        }
        assert!(total > 3000, "seed {seed}: the pieces no longer make answers");
    }

    #[test]
    fn repetition_costs_no_more_than_linear_time() {
        let pieces = [
            "1",
            "1-",
            "1 to ",
            "1:1:1 to ",
            "5 seconds: [",
            "5 seconds: [1,2",
            "[[1",
            "0-5 seconds: ",
            "1 - 2 s ",
            "a:",
            " ",
            "<answer>",
            "<think></think><answer>",
            "A. ",
            "the answer is ",
        ];
        for piece in pieces {
            parse_all(&piece.repeat(30_000 / piece.len()));
        }
    }
}
