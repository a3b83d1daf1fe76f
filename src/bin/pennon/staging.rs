//! Outputs that appear complete or not at all.
//!
//! An output is written inside a temporary directory on the file system of its destination and
//! renamed into place at the end. The temporary directory goes away with everything left in it,
//! also after an error. What is left of a process that was killed goes away with the next output
//! beside it.

mod directory;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::failure::{Context, Result, fail};
use directory::Staging;

/// Where an output directory goes, known to be acceptable.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    replaceable: &'static [&'static str],
}

impl OutputDirectory {
    /// Fails unless `path` can be created, or is a directory with no files but `replaceable`
    /// ones. Creates nothing.
    pub fn check(path: &Path, replaceable: &'static [&'static str]) -> Result<Self> {
        clear_abandoned(path);
        let output = Self { path: resolve(path)?, replaceable };
        output.check_content()?;
        probe(&output.path)?;
        Ok(output)
    }

    /// Lets `fill` write into a new directory, which then takes the place of the old one.
    pub fn write(&self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.write_with(fill, exchange)
    }

    fn write_with(
        &self,
        fill: impl FnOnce(&Path) -> Result<()>,
        exchange: impl Fn(&Path, &Path) -> bool,
    ) -> Result<()> {
        let staging = staging_for(&self.path)?;
        let fresh = staging.fresh();
        fs::create_dir(&fresh).context(|| cannot_write(&self.path))?;
        fill(&fresh)?;
        // Hours may have passed since the first look.
        if !self.check_content()? {
            return move_into_place(&fresh, &self.path);
        }
        if exchange(&fresh, &self.path) {
            return Ok(()); // What was there goes with the temporary directory.
        }
        let old = staging.set_aside(&self.path).context(|| cannot_write(&self.path))?;
        move_into_place(&fresh, &self.path).or_else(|failure| {
            if fs::rename(&old, &self.path).is_ok() {
                return Err(failure);
            }
            staging.keep();
            fail(format!("{failure}; what was there is {}", old.display()))
        })
    }

    /// Whether the directory exists; fails if something in it is not ours to replace.
    fn check_content(&self) -> Result<bool> {
        let name = self.path.display();
        match fs::symlink_metadata(&self.path) {
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return fail(format!("{}: {error}", cannot_write(&self.path))),
            Ok(metadata) if !metadata.is_dir() => {
                return fail(format!("cannot write {name}: it exists and is not a directory"));
            }
            Ok(_) => {}
        }
        for entry in fs::read_dir(&self.path).context(|| cannot_write(&self.path))? {
            let entry = entry.context(|| cannot_write(&self.path))?.file_name();
            if !self.replaceable.iter().any(|file| entry == *file) {
                return fail(format!(
                    "cannot write {name}: it holds '{}', so it is not an earlier index to replace",
                    entry.display()
                ));
            }
        }
        Ok(true)
    }
}

/// Where an output file goes, known to be acceptable.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Fails unless `path` can be created or is a regular file. Creates nothing.
    pub fn check(path: &Path) -> Result<Self> {
        clear_abandoned(path);
        let path = resolve(path)?;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let name = path.display();
            return fail(format!("cannot write {name}: it exists and is not a regular file"));
        }
        probe(&path)?;
        Ok(Self { path })
    }

    /// Replaces the file.
    pub fn write(&self, content: &str) -> Result<()> {
        let staging = staging_for(&self.path)?;
        let fresh = staging.fresh();
        fs::write(&fresh, content).context(|| cannot_write(&self.path))?;
        move_into_place(&fresh, &self.path)
    }
}

/// Removes what processes that were killed left beside an output, and puts back what one of them
/// had set aside. Whoever looks at what is there calls this first.
pub fn clear_abandoned(path: &Path) {
    if let Ok(path) = resolve(path)
        && let Ok(parent) = existing_parent(&path)
    {
        directory::clear_abandoned(parent);
    }
}

/// Exchanges two directories at one instant, if the system can.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// The absolute path, without symbolic links if it exists: what they point to is replaced.
fn resolve(path: &Path) -> Result<PathBuf> {
    let resolved = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let resolved = resolved.context(|| cannot_write(path))?;
    // Without the trailing slash, with which a rename would have another meaning.
    Ok(resolved.components().collect())
}

/// Creates and removes a temporary directory where the output will need one.
fn probe(path: &Path) -> Result<()> {
    staging_for(path).map(drop)
}

/// A temporary directory on the file system of `path`.
fn staging_for(path: &Path) -> Result<Staging> {
    Staging::create(existing_parent(path)?).context(|| cannot_write(path))
}

/// The nearest parent of an absolute path that exists.
fn existing_parent(path: &Path) -> Result<&Path> {
    let mut parents = path.ancestors().skip(1);
    let exists = |parent: &&Path| {
        // A file counts: it gives the error that says what is in the way.
        !matches!(fs::symlink_metadata(parent), Err(error) if is_missing(&error))
    };
    let Some(parent) = parents.find(exists) else {
        return fail(format!("{}: it has no parent", cannot_write(path)));
    };
    if !parent.is_dir() {
        let parent = parent.display();
        return fail(format!("{}: {parent} is not a directory", cannot_write(path)));
    }
    Ok(parent)
}

fn is_missing(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn move_into_place(fresh: &Path, path: &Path) -> Result<()> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::rename(fresh, path)).context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILES: &[&str] = &["a"];

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let none: fn(&Path, &Path) -> bool = |_, _| false;
        for exchange in [exchange, none] {
            let write = |content: &'static str| {
                let output = OutputDirectory::check(&path, FILES).unwrap();
                let fill = |fresh: &Path| {
                    fs::write(fresh.join("a"), content).unwrap();
                    if content == "bad" { fail("bad") } else { Ok(()) }
                };
                output.write_with(fill, exchange)
            };
            assert!(write("bad").is_err());
            assert_eq!(names(home.path()), Vec::<String>::new());
            write("first").unwrap();
            assert!(write("bad").is_err());
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "first");
            write("second").unwrap();
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "second");
            assert_eq!(names(home.path()), ["out"]);
            fs::remove_dir_all(&path).unwrap();
        }
    }

    /// What is there goes back if the new content cannot take its place.
    #[test]
    fn a_failed_replacement_restores_what_was_there() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let output = OutputDirectory::check(&path, FILES).unwrap();
        let fill = |content: &'static str| {
            move |fresh: &Path| {
                fs::write(fresh.join("a"), content).unwrap();
                Ok(())
            }
        };
        output.write(fill("first")).unwrap();
        // The new content is gone when it is to be moved.
        let lose = |fresh: &Path, _: &Path| {
            fs::remove_dir_all(fresh).unwrap();
            false
        };
        assert!(output.write_with(fill("second"), lose).is_err());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "first");
        assert_eq!(names(home.path()), ["out"]);
    }

    #[test]
    fn what_a_killed_process_set_aside_is_looked_at() {
        let home = tempfile::tempdir().unwrap();
        let left = home.path().join(".pennon-x7Kq2f");
        fs::create_dir_all(left.join("new")).unwrap();
        fs::create_dir_all(left.join("old/out")).unwrap();
        fs::write(left.join("old/out/notes"), "").unwrap();
        fs::write(left.join("lock"), "").unwrap();
        let failure = OutputDirectory::check(&home.path().join("out"), FILES).unwrap_err();
        assert!(failure.to_string().contains("it holds 'notes'"), "{failure}");
        assert_eq!(names(home.path()), ["out"]);
    }

    #[test]
    fn missing_parents_are_created_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let output = OutputFile::check(&home.path().join("x/y/plot.svg")).unwrap();
        assert_eq!(names(home.path()), Vec::<String>::new());
        output.write("<svg/>").unwrap();
        let written = home.path().join("x/y/plot.svg");
        assert_eq!(fs::read_to_string(written).unwrap(), "<svg/>");
    }

    #[test]
    fn foreign_content_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("notes"), "").unwrap();
        let failure = OutputDirectory::check(home.path(), FILES).unwrap_err();
        assert!(failure.to_string().contains("it holds 'notes'"));
        let failure = OutputDirectory::check(&home.path().join("notes"), FILES).unwrap_err();
        assert!(failure.to_string().contains("not a directory"));
        let below = home.path().join("notes/out");
        let failure = OutputDirectory::check(&below, FILES).unwrap_err();
        assert!(failure.to_string().contains("notes is not a directory"));
    }
}
