//! The right to change what is saved in a directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::Result;
use crate::persist::directory::{at, make_directory};

/// Locked by those who replace what is saved by what they made of it.
const FILE: &str = "pennon.writer.lock";

/// The right to change what is saved in a directory: one writer at a time has it, in this process or another, until it is
/// dropped or its process ends.
///
/// Take it before you load what you are going to change, and drop it after the save. Otherwise the save of another writer
/// in between is replaced as a whole, and its changes are lost. Saves work without it, and loads and searches never wait.
///
/// ```
/// # use pennon::{DistanceType, Index, WriterLock};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # Index::flat(2, DistanceType::L2)?.save(&dir)?;
/// let lock = WriterLock::acquire(&dir)?;
/// let index = Index::load(&dir)?.index;
/// // ... changes ...
/// assert!(WriterLock::try_acquire(&dir)?.is_none());
/// index.save(&dir)?;
/// drop(lock);
/// assert!(WriterLock::try_acquire(&dir)?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the right ends with the value"]
pub struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Waits until nobody else has the right. Makes the directory if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the directory cannot be written or its file system has no locks.
    pub fn acquire(dir: impl AsRef<Path>) -> Result<Self> {
        let file = open(dir.as_ref())?;
        file.lock().map_err(at(dir.as_ref()))?;
        Ok(Self { _file: file })
    }

    /// The right, if nobody else has it. Makes the directory if it is not there.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(dir: impl AsRef<Path>) -> Result<Option<Self>> {
        let file = open(dir.as_ref())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at(dir.as_ref())(error)),
        }
    }
}

fn open(dir: &Path) -> Result<File> {
    make_directory(dir)?;
    let path = dir.join(FILE);
    OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))
}
