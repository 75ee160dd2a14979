//! The inputs that fuzzing found, as an ordinary test: what held for them when they were kept still holds.

#[expect(unreachable_pub, reason = "the fuzz targets use the file as a library")]
#[path = "../../fuzz/src/exercise.rs"]
mod exercise;

use std::{path::Path, time::Instant};

#[test]
fn every_kept_input_is_read() {
    for (name, target) in exercise::TARGETS {
        let mut num_inputs = 0;
        for folder in ["seeds", "corpus"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/{folder}/{name}.json"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let inputs: Vec<String> = serde_json::from_str(&text).expect("a list of texts");
            for input in &inputs {
                let start = Instant::now();
                target(input.as_bytes());
                let seconds = start.elapsed().as_secs_f64();
                assert!(seconds < 5.0, "{name}: {seconds} s for {input:.200?}");
            }
            num_inputs += inputs.len();
        }
        assert!(num_inputs > 100, "{name}: only {num_inputs} inputs");
    }
}

#[test]
fn bytes_that_are_no_text_are_read() {
    for (_, target) in exercise::TARGETS {
        for input in
            [&b""[..], b"\xff\xfe\x00", b"1\xc3-\x805 seconds: [\xf0\x9f", b"[{\"qa_type\": \"\xff\"}]"]
        {
            target(input);
        }
    }
}
