"""How much recall costs how much speed: choose `ef` for your own vectors.

    python examples/recall_vs_speed.py [vectors.npy] [--rows N] [--plot recall.svg]

Without a file the vectors are random around centers, which is easier than most real data. The cells between the lines
`# %%` run one by one in a notebook (Jupyter, VS Code). matplotlib is needed for the plot alone.
"""

# %% Vectors and queries
import argparse
import time

import numpy

import pennon


def data(path, rows, dim=64, centers=200):
    """Vectors and 200 queries that are not among them."""
    if path:
        vectors = numpy.load(path).astype("float32")
    else:
        rng = numpy.random.default_rng(0)
        middles = rng.standard_normal((centers, dim))
        vectors = middles[rng.integers(0, centers, rows + 200)] + 0.7 * rng.standard_normal((rows + 200, dim))
        vectors = vectors.astype("float32")
    vectors = vectors[: rows + 200]
    return vectors[:-200], vectors[-200:]


# %% The truth, by comparing every row
def truth_of(index, queries, k):
    return [set(index.search_exact(query, k=k).row_ids) for query in queries]


# %% One point of the curve for each width
def curve(index, queries, truth, k, widths):
    points = []
    for ef in widths:
        start = time.perf_counter()
        found = [index.search(query, k=k, ef=ef) for query in queries]
        seconds = time.perf_counter() - start
        hits = sum(len(set(hits.row_ids) & nearest) for hits, nearest in zip(found, truth))
        points.append((ef, hits / (k * len(queries)), len(queries) / seconds))
    return points


# %% The plot
def plot(points, k, path=None):
    import matplotlib

    if path:
        matplotlib.use("Agg")
    from matplotlib import pyplot

    widths, recalls, speeds = zip(*points)
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    axes.plot(recalls, speeds, marker="o")
    for ef, recall, speed in points:
        axes.annotate(f"ef {ef}", (recall, speed), textcoords="offset points", xytext=(5, 5), fontsize=8)
    axes.set(xlabel=f"recall@{k}", ylabel="queries per second, one thread", yscale="log")
    axes.grid(True, which="both", alpha=0.3)
    figure.tight_layout()
    if path:
        figure.savefig(path)
    return figure


# %% All of it
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", nargs="?", help="a file of numpy, rows by elements")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--metric", default="l2")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--plot", help="an image file")
    arguments = parser.parse_args()
    vectors, queries = data(arguments.vectors, arguments.rows)
    index = pennon.Index(vectors.shape[1], metric=arguments.metric)
    index.append(vectors)
    truth = truth_of(index, queries, arguments.k)
    points = curve(index, queries, truth, arguments.k, [10, 16, 24, 32, 48, 64, 96, 128, 192, 256])
    print("  ef  recall  queries/s")
    for ef, recall, speed in points:
        print(f"{ef:4}  {recall:.4f}  {speed:9.0f}")
    if arguments.plot:
        plot(points, arguments.k, arguments.plot)


if __name__ == "__main__":
    main()
