//! Writing the processor's files: for checkpoints made from nothing, and beside trained weights.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    ImageProcessorConfig, ProcessorError,
    chat::{CHAT_TEMPLATE_FILE, QWEN25_VL_TEMPLATE},
    config::{IMAGE_CONFIG_FILE, VIDEO_CONFIG_FILE},
};

/// Every file of a checkpoint directory that belongs to the processor, present or not.
const PROCESSOR_FILES: [&str; 12] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
];

/// Writes what a new checkpoint needs beside its tokenizer: both preprocessor configurations and the chat template.
///
/// # Errors
/// When a file cannot be written.
pub fn write_processor_files(
    dir: &Path,
    image: &ImageProcessorConfig,
    video: &ImageProcessorConfig,
) -> Result<(), ProcessorError> {
    std::fs::create_dir_all(dir).map_err(ProcessorError::io(dir))?;
    for (file, config) in
        [(IMAGE_CONFIG_FILE, image.to_json(false)), (VIDEO_CONFIG_FILE, video.to_json(true))]
    {
        write_atomically(&dir.join(file), format!("{config:#}\n").as_bytes())?;
    }
    write_atomically(&dir.join(CHAT_TEMPLATE_FILE), QWEN25_VL_TEMPLATE.as_bytes())
}

/// Copies the processor's files from one checkpoint directory to another, byte for byte, and returns their names.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_processor_files(from: &Path, to: &Path) -> Result<Vec<&'static str>, ProcessorError> {
    std::fs::create_dir_all(to).map_err(ProcessorError::io(to))?;
    let mut copied = Vec::new();
    for file in PROCESSOR_FILES {
        let source = from.join(file);
        if source.is_file() {
            let bytes = std::fs::read(&source).map_err(ProcessorError::io(&source))?;
            write_atomically(&to.join(file), &bytes)?;
            copied.push(file);
        }
    }
    Ok(copied)
}

/// Writes under a temporary name, syncs, renames: the file is whole or absent.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ProcessorError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary: PathBuf = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // The error that matters is the first; what is left of the temporary file is removed if it can be.
        let _ = std::fs::remove_file(&temporary);
        ProcessorError::io(path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    #[test]
    fn copies_are_equal_and_leave_nothing_else() {
        let (from, to) = (golden::data().join("checkpoint"), tempfile::tempdir().unwrap());
        let copied = copy_processor_files(&from, to.path()).unwrap();
        assert_eq!(copied.len(), std::fs::read_dir(&from).unwrap().count());
        assert_eq!(copied.len(), std::fs::read_dir(to.path()).unwrap().count());
        for file in copied {
            assert_eq!(std::fs::read(from.join(file)).unwrap(), std::fs::read(to.path().join(file)).unwrap());
        }
    }

    #[test]
    fn a_failed_write_leaves_no_file_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken.json");
        std::fs::create_dir(&taken).unwrap();
        let error = write_atomically(&taken, b"{}").unwrap_err();
        assert!(error.to_string().contains("taken.json"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
