"""Builds an index of a Lance dataset on Ray: workers build a segment each, the driver commits them at once.

python ray_index.py path/to/dataset.lance vector
"""

import sys

import lance
import ray
from lance.indices import IndicesBuilder

import pennon.lance


@ray.remote
def build(uri, version, column, fragments, **options):
    # All workers read the version that the driver saw.
    dataset = lance.dataset(uri, version=version)
    return pennon.lance.build_index_segment(dataset, column, fragments, **options)


def build_on_ray(uri, column, workers=2, num_partitions=4, **options):
    dataset = lance.dataset(uri)
    # All segments have one model, so that Lance can merge them later.
    centroids = IndicesBuilder(dataset, column).train_ivf(num_partitions, sample_rate=64).centroids
    fragments = [fragment.fragment_id for fragment in dataset.get_fragments()]
    groups = [group for group in (fragments[start::workers] for start in range(workers)) if group]
    segments = ray.get(
        [build.remote(uri, dataset.version, column, group, ivf_centroids=centroids, **options) for group in groups]
    )
    return dataset.commit_existing_index_segments(f"{column}_idx", column, segments)


if __name__ == "__main__":
    ray.init(num_cpus=2)
    dataset = build_on_ray(sys.argv[1], sys.argv[2])
    print(dataset.describe_indices())
