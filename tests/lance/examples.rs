//! Every example runs, and what it asserts of itself holds. They are here because two of them link Lance.

use std::path::Path;

#[path = "../../examples/attach.rs"]
mod attach;
#[path = "../../examples/collection.rs"]
mod collection;
#[path = "../../examples/memtable.rs"]
mod memtable;
#[path = "../../examples/metadata_filter.rs"]
mod metadata_filter;
#[path = "../../examples/metrics.rs"]
mod metrics;
#[path = "../../examples/paired.rs"]
mod paired;
#[path = "../../examples/sql.rs"]
mod sql;

/// A test for each of the modules, and the list of their names.
macro_rules! run {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $name::main().unwrap();
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

run! { attach collection memtable metadata_filter metrics paired sql }

#[test]
fn none_is_forgotten() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let paths = examples.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let programs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<_> =
        programs.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, NAMES);
}
