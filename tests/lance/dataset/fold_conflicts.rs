//! What happens when somebody else commits while an index is folded: with ours what happens with Lance's own
//! `optimize_indices`.

use std::sync::Arc;

use lance::Dataset;
use lance::dataset::optimize::compact_files;
use lance::dataset::{UpdateBuilder, WriteMode, WriteParams};
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{FoldParams, attach_index, optimize_index};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, params, reader, recall, rows, run,
};

/// A commit that comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Append,
    Delete,
    Update,
    Compaction,
    Overwrite,
    Optimize,
    FurtherSegment,
    OtherIndex,
    Drop,
}

const CHANGES: [Change; 9] = [
    Change::Append,
    Change::Delete,
    Change::Update,
    Change::Compaction,
    Change::Overwrite,
    Change::Optimize,
    Change::FurtherSegment,
    Change::OtherIndex,
    Change::Drop,
];

/// Who brings the index up to date.
#[derive(Clone, Copy, Debug)]
enum Maintainer {
    Lance,
    Pennon,
}

impl Maintainer {
    async fn optimize(self, dataset: &mut Dataset) -> Result<(), lance::Error> {
        match self {
            Self::Lance => dataset.optimize_indices(&OptimizeOptions::merge(10)).await,
            Self::Pennon => match optimize_index(dataset, INDEX, FoldParams::default()).await {
                Ok(_) => Ok(()),
                Err(Error::LanceDataset { source }) => Err(*source),
                Err(other) => panic!("{other}"),
            },
        }
    }
}

async fn change(change: Change, uri: &str) {
    let mut dataset = Dataset::open(uri).await.unwrap();
    match change {
        Change::Append => {
            dataset.append(reader(vec![rows(1_200..1_300, |_| false)]), None).await.unwrap();
        }
        Change::Delete => {
            dataset.delete("id % 3 = 0").await.unwrap();
        }
        Change::Update => {
            // Rows move to a new fragment.
            let update = UpdateBuilder::new(Arc::new(dataset));
            let update = update.update_where("id < 50").unwrap().set("id", "id + 5000").unwrap();
            update.build().unwrap().execute().await.unwrap();
        }
        Change::Compaction => {
            compact_files(&mut dataset, Default::default(), None).await.unwrap();
        }
        Change::Overwrite => {
            let write = WriteParams { mode: WriteMode::Overwrite, ..Default::default() };
            Dataset::write(reader(vec![rows(0..300, |_| false)]), uri, Some(write)).await.unwrap();
        }
        Change::Optimize => dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap(),
        Change::FurtherSegment => {
            attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        }
        Change::OtherIndex => {
            attach_index(&mut dataset, "vector", params(DistanceType::L2).name("other")).await.unwrap();
        }
        Change::Drop => dataset.drop_index(INDEX).await.unwrap(),
    }
}

/// The name of the error's variant, or `Ok`.
async fn outcome(home: &Home, what: Change, maintainer: Maintainer) -> String {
    let uri = home.uri(&format!("{maintainer:?}_{what:?}"));
    let mut early = dataset(&uri, 1_000, 500).await;
    attach_index(&mut early, "vector", params(DistanceType::L2)).await.unwrap();
    early.append(reader(vec![rows(1_000..1_200, |_| false)]), None).await.unwrap();
    change(what, &uri).await;
    let version = Dataset::open(&uri).await.unwrap().version().version;
    let dirs = index_dirs(&uri);
    let outcome = maintainer.optimize(&mut early).await;
    let late = Dataset::open(&uri).await.unwrap();
    match outcome {
        Ok(()) => {
            assert_eq!(late.version().version, version + 1);
            if what != Change::Overwrite {
                // Of two indexes on a column Lance takes either.
                if what != Change::OtherIndex {
                    assert_used(&late).await;
                }
                let recall = recall(&late, DistanceType::L2).await;
                assert_recall(recall, 0.97, &format!("{maintainer:?} {what:?}"));
            }
            "Ok".to_string()
        }
        Err(error) => {
            assert_eq!(late.version().version, version, "nothing was committed");
            if matches!(maintainer, Maintainer::Pennon) {
                assert_eq!(index_dirs(&uri), dirs, "no files are left");
            }
            let name = format!("{error:?}");
            name.split([' ', '(', '{']).next().unwrap_or_default().to_string()
        }
    }
}

#[test]
fn folds_conflict_as_lances_own_merges_do() {
    let home = Home::new();
    run(async {
        for what in CHANGES {
            let lances = outcome(&home, what, Maintainer::Lance).await;
            let ours = outcome(&home, what, Maintainer::Pennon).await;
            println!("{what:?}: {ours}");
            assert_eq!(ours, lances, "{what:?}");
            match what {
                Change::Append | Change::Delete | Change::OtherIndex => assert_eq!(ours, "Ok"),
                Change::Optimize | Change::FurtherSegment => assert_eq!(ours, "RetryableCommitConflict"),
                _ => {}
            }
        }
    });
}
