//! The names in a directory, and the system calls that change them for good.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file that says which others are the index.
pub(super) const MANIFEST: &str = "pennon.json";
/// The manifest until it is complete.
const NEW_MANIFEST: &str = "pennon.json.new";
const LOCK: &str = "pennon.lock";

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Graph,
    Vectors,
    Tombstones,
    Labels,
}

impl Part {
    const ALL: [Self; 4] = [Self::Graph, Self::Vectors, Self::Tombstones, Self::Labels];

    pub fn file_name(self, generation: u64) -> String {
        let part = match self {
            Self::Graph => "graph",
            Self::Vectors => "vectors",
            Self::Tombstones => "tombstones",
            Self::Labels => "labels",
        };
        format!("{part}-{generation}.arrow")
    }
}

/// The generation of a file of an index, by its name.
fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_suffix(".arrow")?.rsplit_once('-')?.1.parse().ok()?;
    // Only what a save would write: not `+7` or `07`.
    Part::ALL.iter().any(|part| part.file_name(generation) == name).then_some(generation)
}

/// The files of all generations, with their generation.
pub(super) fn of_all_generations(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        if let Some(generation) = entry.file_name().to_str().and_then(generation_of) {
            files.push((entry.path(), generation));
        }
    }
    Ok(files)
}

/// Removes the files of some generations, as far as that can be done: they are in nobody's way.
pub(super) fn remove(dir: &Path, is_superfluous: impl Fn(u64) -> bool) {
    for (path, generation) in of_all_generations(dir).unwrap_or_default() {
        if is_superfluous(generation) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Waits until nobody else saves into the directory. The lock ends with the file, and with the process.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    file.lock().map_err(at(&path))?;
    Ok(file)
}

/// Makes the names in a directory last. Systems other than Unix do not let directories be opened for that.
pub(super) fn sync_directory(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    }
    Ok(())
}

/// Writes a manifest beside the present one.
pub(super) fn stage_manifest(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join(NEW_MANIFEST);
    let mut file = File::create(&path).map_err(at(&path))?;
    file.write_all(text.as_bytes()).map_err(at(&path))?;
    file.sync_all().map_err(at(&path))
}

/// Puts the staged manifest in the place of the present one, at one instant.
pub(super) fn publish_manifest(dir: &Path) -> Result<()> {
    let path = dir.join(MANIFEST);
    fs::rename(dir.join(NEW_MANIFEST), &path).map_err(at(&path))
}

/// Says where an error came up.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_save_writes_are_of_a_generation() {
        for part in Part::ALL {
            for generation in [0, 7, u64::MAX] {
                assert_eq!(generation_of(&part.file_name(generation)), Some(generation), "{part:?}");
            }
        }
        let overflow = format!("graph-{}0.arrow", u64::MAX);
        let foreign = ["graph-07.arrow", "graph-+7.arrow", "graph.arrow", "graph-7", "a-7.arrow", ""];
        for name in foreign.into_iter().chain([overflow.as_str()]) {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }
}
