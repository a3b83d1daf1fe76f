//! Opens the files to read, which have to be regular ones.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek};
use std::path::Path;

use crate::failure::{Context, Failure, Result, fail};

/// Opens a regular file; returns it with its length.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let name = path.display();
    let failed = |error: io::Error| {
        Failure::new(match error.kind() {
            ErrorKind::NotFound => format!("{name}: no such file"),
            _ => format!("cannot open {name}: {error}"),
        })
    };
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return fail(format!("{name} is a directory, not a file"));
    }
    if !metadata.is_file() {
        return fail(format!("{name} is not a regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    Ok((file, metadata.len()))
}

/// Goes back to the first byte.
pub fn rewind(path: &Path, file: &mut File) -> Result<()> {
    file.rewind().context(|| format!("cannot read {}", path.display()))
}
