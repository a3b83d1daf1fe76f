//! What happens when somebody else commits while an index is built: with ours what happens with Lance's own.

use lance::Dataset;
use lance::dataset::optimize::compact_files;
use lance::dataset::{WriteMode, WriteParams};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::attach_index;
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, dataset, index_dirs, params, reader, recall, rows, run,
};

/// A commit that comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Append,
    Delete,
    Update,
    Compaction,
    Overwrite,
    SameIndex,
    OtherIndex,
}

const CHANGES: [Change; 7] = [
    Change::Append,
    Change::Delete,
    Change::Update,
    Change::Compaction,
    Change::Overwrite,
    Change::SameIndex,
    Change::OtherIndex,
];

/// Whose index it is.
#[derive(Clone, Copy, Debug)]
enum Builder {
    Lance,
    Pennon,
}

impl Builder {
    async fn build(self, dataset: &mut Dataset, name: &str) -> Result<(), lance::Error> {
        match self {
            Self::Lance => {
                let params = VectorIndexParams::ivf_flat(1, LanceMetric::L2);
                let name = Some(name.to_string());
                dataset.create_index(&["vector"], IndexType::Vector, name, &params, false).await.map(drop)
            }
            Self::Pennon => {
                let params = params(DistanceType::L2).name(name);
                match attach_index(dataset, "vector", params).await {
                    Ok(_) => Ok(()),
                    Err(Error::LanceDataset { source }) => Err(*source),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

async fn change(change: Change, uri: &str, builder: Builder) {
    let mut dataset = Dataset::open(uri).await.unwrap();
    match change {
        Change::Append => {
            dataset.append(reader(vec![rows(1_000..1_100, |_| false)]), None).await.unwrap();
        }
        Change::Delete => {
            dataset.delete("id % 3 = 0").await.unwrap();
        }
        Change::Update => {
            // Rows move to a new fragment.
            let update = lance::dataset::UpdateBuilder::new(std::sync::Arc::new(dataset));
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
        Change::SameIndex => builder.build(&mut dataset, INDEX).await.unwrap(),
        Change::OtherIndex => builder.build(&mut dataset, "other").await.unwrap(),
    }
}

/// The name of the error's variant, or `Ok`.
async fn outcome(home: &Home, what: Change, builder: Builder) -> String {
    let uri = home.uri(&format!("{builder:?}_{what:?}"));
    let mut early = dataset(&uri, 1_000, 500).await;
    change(what, &uri, builder).await;
    let version = Dataset::open(&uri).await.unwrap().version().version;
    let outcome = builder.build(&mut early, INDEX).await;
    let late = Dataset::open(&uri).await.unwrap();
    let indices = late.load_indices().await.unwrap();
    match outcome {
        Ok(()) => {
            assert_eq!((late.version().version, early.version().version), (version + 1, version + 1));
            assert!(indices.iter().any(|index| index.name == INDEX));
            if what != Change::Overwrite {
                assert_recall(recall(&late, DistanceType::L2).await, 0.97, &format!("{builder:?} {what:?}"));
            }
            "Ok".to_string()
        }
        Err(error) => {
            assert_eq!(late.version().version, version, "nothing was committed");
            if matches!(builder, Builder::Pennon) {
                assert_eq!(index_dirs(&uri), indices.len(), "no files are left");
            }
            let name = format!("{error:?}");
            name.split([' ', '(', '{']).next().unwrap_or_default().to_string()
        }
    }
}

#[test]
fn commits_conflict_as_those_of_lances_own_indexes() {
    let home = Home::new();
    run(async {
        for what in CHANGES {
            let lances = outcome(&home, what, Builder::Lance).await;
            let ours = outcome(&home, what, Builder::Pennon).await;
            println!("{what:?}: {ours}");
            assert_eq!(ours, lances, "{what:?}");
            match what {
                Change::Append | Change::Delete | Change::OtherIndex => assert_eq!(ours, "Ok"),
                Change::SameIndex => assert_eq!(ours, "RetryableCommitConflict"),
                Change::Update | Change::Compaction | Change::Overwrite => {}
            }
        }
    });
}
