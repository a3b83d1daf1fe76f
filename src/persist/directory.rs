//! The names in a directory, and the system calls that change them for good.

use std::collections::BTreeSet;
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
    /// The other columns of a collection.
    Rows,
    /// Compact codes of the vectors, which can be made from them again.
    Codes,
}

impl Part {
    const ALL: [Self; 6] =
        [Self::Graph, Self::Vectors, Self::Tombstones, Self::Labels, Self::Rows, Self::Codes];

    pub fn file_name(self, generation: u64) -> String {
        let part = match self {
            Self::Graph => "graph",
            Self::Vectors => "vectors",
            Self::Tombstones => "tombstones",
            Self::Labels => "labels",
            Self::Rows => "rows",
            Self::Codes => "codes",
        };
        format!("pennon-{part}-{generation}.arrow")
    }
}

/// The name of the directory of another column of vectors.
pub(super) fn column_directory(number: usize, generation: u64) -> String {
    format!("pennon-column-{number}-{generation}")
}

/// Whether a name is one that [`column_directory`] gives.
pub(super) fn is_column_directory(name: &str) -> bool {
    let numbers = name.strip_prefix("pennon-column-").and_then(|numbers| numbers.split_once('-'));
    let parsed = numbers.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    parsed.is_some_and(|(number, of)| column_directory(number, of) == name)
}

/// The generation of a file of an index, by its name.
fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_suffix(".arrow")?.rsplit_once('-')?.1.parse().ok()?;
    // Only what a save would write: not `+7` or `07`.
    Part::ALL.iter().any(|part| part.file_name(generation) == name).then_some(generation)
}

/// The files of all generations, with their generation.
fn of_all_generations(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        if let Some(generation) = entry.file_name().to_str().and_then(generation_of) {
            files.push((entry.path(), generation));
        }
    }
    Ok(files)
}

/// The files that a save writes. Those that it made go with it, unless it keeps them.
pub(super) struct Generation<'a> {
    dir: &'a Path,
    pub number: u64,
    made: Vec<PathBuf>,
}

impl<'a> Generation<'a> {
    /// The first that is free after the one that the manifest names, or after 0 if there is none.
    pub fn after(named: u64, dir: &'a Path) -> Result<Self> {
        let taken: BTreeSet<u64> = of_all_generations(dir)?.into_iter().map(|file| file.1).collect();
        // What a killed save left has the next number; what somebody else put there may have the last of all.
        let mut numbers = (named..=u64::MAX).skip(1).chain(1..=named);
        let number = numbers.find(|number| !taken.contains(number)).unwrap_or(named);
        Ok(Self { dir, number, made: Vec::new() })
    }

    /// Makes a file, which must not be there yet.
    pub fn create(&mut self, part: Part) -> Result<(PathBuf, File)> {
        let path = self.dir.join(part.file_name(self.number));
        let file = File::create_new(&path).map_err(at(&path))?;
        self.made.push(path.clone());
        Ok((path, file))
    }

    /// Leaves the files where they are.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        for path in &self.made {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes the files of all other generations, as far as that can be done: they are in nobody's way.
pub(super) fn remove_all_but(generation: u64, dir: &Path) {
    for (path, of) in of_all_generations(dir).unwrap_or_default() {
        if of != generation {
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes the right to write to a file from everybody: others may have it mapped. Whoever has it open keeps it. On
/// Windows such a file could not be removed, and not all file systems know rights, so nothing depends on it.
pub(super) fn make_read_only(file: &File) {
    if cfg!(unix)
        && let Ok(mut permissions) = file.metadata().map(|metadata| metadata.permissions())
    {
        permissions.set_readonly(true);
        let _ = file.set_permissions(permissions);
    }
}

/// Makes a directory, and those above it, as far as they are missing, and makes their names durable.
pub(super) fn make_directory(dir: &Path) -> Result<()> {
    let is_missing = |ancestor: &&Path| !ancestor.as_os_str().is_empty() && !ancestor.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(dir).map_err(at(dir))?;
    for made in missing {
        // A name of one part is in the current directory.
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Waits until nobody else saves into the directory. The lock ends with the file, and with the process.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    file.lock().map_err(at(&path))?;
    Ok(file)
}

/// Makes the names in a directory durable. Systems other than Unix do not let directories be opened for that.
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
        for name in ["pennon-column-1-7", "pennon-column-12-18446744073709551615"] {
            assert!(is_column_directory(name), "{name}");
        }
        for name in [
            "pennon-column-1",
            "pennon-column-01-7",
            "pennon-column-1-7-8",
            "pennon-column-1-+7",
            "column-1-7",
        ] {
            assert!(!is_column_directory(name), "{name}");
        }
        let overflow = format!("pennon-graph-{}0.arrow", u64::MAX);
        let foreign = [
            "graph-7.arrow",
            "pennon-graph-07.arrow",
            "pennon-graph-+7.arrow",
            "pennon-graph.arrow",
            "pennon-graph-7",
            "pennon-7.arrow",
            "pennon-a-7.arrow",
            "a-pennon-graph-7.arrow",
            "pennon.json",
            "",
        ];
        for name in foreign.into_iter().chain([overflow.as_str()]) {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }
}
