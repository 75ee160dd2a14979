//! Files that appear whole or not at all.

use std::{fs::File, path::Path};

/// Fills a new file in the folder of `path`, syncs it, and gives it its name; a failure leaves nothing behind.
pub(crate) fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".medgrpo-").tempfile_in(folder)?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        // A temporary file is private; data beside the user's own file should be as readable as a new file is.
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
