//! The temporary directory of an output, and those that are left of processes which were killed.
//!
//! ```text
//! .pennon-x7Kq2f/
//!   lock         locked by the process that made the directory, as long as it lives
//!   new          the output
//!   old/NAME     what was in its place, from the moment in which it gives way
//! ```
//! However a process ends, its lock ends with it: a directory whose lock can be taken is nobody's, and whoever takes
//! it may remove the directory. The lock goes last, for without it nobody would know that the rest may go.
//!
//! If there is still a `new` beside an `old`, the process was killed between the two renames of a replacement. Then
//! what is in `old` goes back to its place. It is never removed before `new` has taken that.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const PREFIX: &str = ".pennon-";
/// Letters and digits after the prefix.
const RANDOM: usize = 6;
const LOCK: &str = "lock";
const NEW: &str = "new";
const OLD: &str = "old";

/// A directory that goes away with everything left in it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    is_kept: bool,
    _lock: File,
}

impl Staging {
    /// Makes one that nobody else touches.
    pub fn create(parent: &Path) -> io::Result<Self> {
        loop {
            let directory = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(parent)?;
            let path = directory.path().join(LOCK);
            let lock = match File::create_new(&path) {
                Ok(lock) => lock,
                // Another process took the empty directory for one that was left.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // The same, a moment later. Where the file system has no locks nobody can take one, which is as good.
            let is_lost = matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists();
            if !is_lost {
                return Ok(Self { path: directory.keep(), is_kept: false, _lock: lock });
            }
        }
    }

    /// Where the output is written. Nothing is there yet.
    pub fn fresh(&self) -> PathBuf {
        self.path.join(NEW)
    }

    /// Takes away what is in the place of the output; returns where it is now.
    pub fn set_aside(&self, place: &Path) -> io::Result<PathBuf> {
        let old = self.path.join(OLD);
        fs::create_dir(&old)?;
        let aside = old.join(place.file_name().unwrap_or_default());
        fs::rename(place, &aside)?;
        Ok(aside)
    }

    /// Leaves everything where it is.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed is left, and is for the next process to try.
            let _ = remove(&self.path);
        }
    }
}

/// Removes the directories in `parent` that are nobody's, as far as that can be done: they are in nobody's way.
pub fn clear_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if is_name(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = clear(&entry.path());
        }
    }
}

fn is_name(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn clear(directory: &Path) -> io::Result<()> {
    let lock = match OpenOptions::new().write(true).open(directory.join(LOCK)) {
        Ok(lock) => lock,
        // Of a process that had no time for a lock it is empty. One that is not stays.
        Err(error) if error.kind() == ErrorKind::NotFound => return fs::remove_dir(directory),
        Err(error) => return Err(error),
    };
    if lock.try_lock().is_err() || !is_ours(directory)? {
        return Ok(());
    }
    put_back(directory)?;
    remove(directory)
}

/// Whether there is nothing in it but what this program puts there.
fn is_ours(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if ![LOCK, NEW, OLD].iter().any(|part| name == *part) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns what was set aside to its place, unless the output is there. Fails if anything else is.
fn put_back(directory: &Path) -> io::Result<()> {
    let old = directory.join(OLD);
    if !directory.join(NEW).try_exists()? || !old.try_exists()? {
        return Ok(());
    }
    for entry in fs::read_dir(&old)? {
        let entry = entry?;
        let place = directory.with_file_name(entry.file_name());
        if fs::symlink_metadata(&place).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        fs::rename(entry.path(), place)?;
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    for part in [NEW, OLD] {
        let part = directory.join(part);
        let removed = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(directory.join(LOCK))?;
    fs::remove_dir(directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LEFT: &str = ".pennon-x7Kq2f";

    fn lay_out(directory: &Path, files: &[&str]) {
        fs::create_dir(directory).unwrap();
        for file in files {
            let file = directory.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_has_a_name_that_is_known_and_goes_away() {
        let home = tempfile::tempdir().unwrap();
        let staging = Staging::create(home.path()).unwrap();
        assert!(is_name(staging.path.file_name().unwrap()), "{staging:?}");
        fs::create_dir_all(staging.fresh().join("below")).unwrap();
        let place = home.path().join("out");
        fs::create_dir(&place).unwrap();
        assert!(staging.set_aside(&place).unwrap().is_dir() && !place.exists());
        drop(staging);
        assert_eq!(names(home.path()), Vec::<String>::new());

        let staging = Staging::create(home.path()).unwrap();
        fs::write(staging.fresh(), "a file").unwrap();
        drop(staging);
        assert_eq!(names(home.path()), Vec::<String>::new());
    }

    #[test]
    fn only_what_is_nobodys_is_cleared() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let staging = Staging::create(home.path()).unwrap();
        fs::create_dir(staging.fresh()).unwrap();
        lay_out(&at(".pennon-empty1"), &[]);
        lay_out(&at(".pennon-locked"), &["lock"]);
        lay_out(&at(".pennon-afile1"), &["lock", "new"]);
        lay_out(&at(".pennon-nested"), &["lock", "new/data/a", "new/_versions/b"]);

        lay_out(&at(".pennon-nolock"), &["new/a"]);
        lay_out(&at(".pennon-shared"), &["lock", "new/a", "notes"]);
        lay_out(&at(".pennon-longer1"), &["lock"]);
        lay_out(&at(".pennon-minus-"), &["lock"]);
        lay_out(&at("pennon-x7Kq2f"), &["lock"]);
        fs::write(at(".pennon-notdir"), "").unwrap();
        clear_abandoned(home.path());
        let own = staging.path.file_name().unwrap().to_str().unwrap();
        let mut expected = [
            own,
            ".pennon-longer1",
            ".pennon-minus-",
            ".pennon-nolock",
            ".pennon-notdir",
            ".pennon-shared",
            "pennon-x7Kq2f",
        ];
        expected.sort_unstable();
        assert_eq!(names(home.path()), expected);
        assert_eq!(names(&staging.path), ["lock", "new"]);
        assert_eq!(names(&at(".pennon-shared")), ["lock", "new", "notes"]);

        // It is nobody's as soon as its lock ends, as it does with a process.
        let path = staging.path.clone();
        staging.keep();
        clear_abandoned(home.path());
        assert!(!path.exists());
    }

    #[test]
    fn what_was_set_aside_goes_back_unless_it_was_replaced() {
        let home = tempfile::tempdir().unwrap();
        let (left, out) = (home.path().join(LEFT), home.path().join("out"));
        lay_out(&left, &["lock", "new/fresh", "old/out/a"]);
        clear_abandoned(home.path());
        assert_eq!(names(home.path()), ["out"]);
        assert_eq!(names(&out), ["a"]);

        // Both renames were done.
        lay_out(&left, &["lock", "old/out/older"]);
        clear_abandoned(home.path());
        assert_eq!(names(home.path()), ["out"]);
        assert_eq!(names(&out), ["a"]);

        // The first one was not, and then somebody else took the place: what was set aside is nowhere else.
        lay_out(&left, &["lock", "new/fresh", "old/out/older"]);
        clear_abandoned(home.path());
        assert_eq!(names(home.path()), [LEFT, "out"]);
        assert_eq!(names(&left.join("old/out")), ["older"]);
        assert_eq!(names(&out), ["a"]);

        lay_out(&home.path().join(".pennon-before"), &["lock", "new/fresh"]);
        fs::create_dir(home.path().join(".pennon-before/old")).unwrap();
        clear_abandoned(home.path());
        assert_eq!(names(home.path()), [LEFT, "out"]);
    }
}
