#!/usr/bin/env python3
"""Search and build of Pennon beside other HNSW libraries, in one run.

    compare.py DATA [--peers hnswlib,faiss,usearch,faiss-sq8,symqg] [--rounds 5] [--json FILE]

DATA is a folder with base.fbin, query.fbin and gt.ibin whose name ends in -l2 or -cosine. All indexes are
built first, one after the other, on one thread; then every library makes one pass over all queries for each
ef, in turn, round after round. Figures are medians over the rounds; a ratio at a recall compares the
throughput that each library's own curve has there. The peers' batch calls are used: no Python in their loop.
"""
import argparse, json, math, os, platform, statistics, subprocess, sys, time
from pathlib import Path

import numpy as np

K = 10
EFS = [10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400]
HERE = Path(__file__).resolve().parent


def read(path, dtype):
    n, width = (int(x) for x in np.fromfile(path, dtype=np.uint32, count=2))
    return np.fromfile(path, dtype=dtype, offset=8)[: n * width].reshape(n, width)


class Pennon:
    def __init__(self, data, m, efc, threads, codes="auto"):
        subprocess.run(["cargo", "build", "--release", "-q", "--manifest-path", HERE / "Cargo.toml"], check=True)
        target = os.environ.get("CARGO_TARGET_DIR", HERE / "target")
        binary = os.environ.get("PENNON_PEER", Path(target) / "release" / "pennon-peer")
        self.child = subprocess.Popen([binary, data, str(m), str(efc), str(threads), codes], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        built = json.loads(self.child.stdout.readline())
        self.build_s, self.bytes_per_row = built["build_s"], built["bytes_per_row"]

    def run(self, ef):
        self.child.stdin.write(f"search {ef}\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline())
        return answer["recall"], answer["seconds"]


class Peer:
    def __init__(self, data, m, efc, threads):
        self.metric = "l2" if data.name.endswith("-l2") else "cosine"
        base, self.query = read(data / "base.fbin", np.float32), read(data / "query.fbin", np.float32)
        self.truth = read(data / "gt.ibin", np.uint32)[:, :K]
        base, self.query = self.prepare(base), self.prepare(self.query)
        start = time.perf_counter()
        self.build(base, m, efc, threads)
        self.build_s = time.perf_counter() - start

    def prepare(self, rows):
        return rows

    def run(self, ef):
        self.set_ef(ef)
        start = time.perf_counter()
        ids = self.search()
        seconds = time.perf_counter() - start
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(ids, self.truth))
        return hits / (len(self.query) * K), seconds


class Hnswlib(Peer):
    def build(self, base, m, efc, threads):
        import hnswlib
        self.index = hnswlib.Index(space=self.metric, dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=m, ef_construction=efc, random_seed=42)
        self.index.add_items(base, num_threads=threads)
        self.index.set_num_threads(1)

    def set_ef(self, ef):
        self.index.set_ef(ef)

    def search(self):
        return self.index.knn_query(self.query, k=K, num_threads=1)[0]


class Faiss(Peer):
    def prepare(self, rows):
        return rows if self.metric == "l2" else rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def build(self, base, m, efc, threads):
        import faiss
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.IndexHNSWFlat(base.shape[1], m, metric)
        self.index.hnsw.efConstruction = efc
        self.index.add(base)
        faiss.omp_set_num_threads(1)

    def set_ef(self, ef):
        self.index.hnsw.efSearch = ef

    def search(self):
        return self.index.search(self.query, K)[1]


class FaissSQ8(Faiss):
    """Bytes by a range of each dimension, twice as many re-ranked; faiss is slow where 16 does not divide the dimension."""

    def prepare(self, rows):
        rows = super().prepare(rows)
        return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 16))))

    def build(self, base, m, efc, threads):
        import faiss
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.codes = faiss.IndexHNSWSQ(base.shape[1], faiss.ScalarQuantizer.QT_8bit, m, metric)
        self.codes.hnsw.efConstruction = efc
        self.index = faiss.IndexRefineFlat(self.codes)
        self.index.k_factor = 2
        self.index.train(base)
        self.index.add(base)
        faiss.omp_set_num_threads(1)

    def set_ef(self, ef):
        self.codes.hnsw.efSearch = ef


class SymphonyQG(Faiss):
    """A static graph with the codes of 32 neighbors beside each node (rabitqlib); its metric is L2."""

    def build(self, base, m, efc, threads):
        import rabitqlib
        self.index = rabitqlib.SymqgIndex(base.shape[1], 32, "l2")
        self.index.build(base, efc, threads)

    def set_ef(self, ef):
        self.ef = ef

    def search(self):
        first, second = self.index.search(self.query, K, self.ef, 1)[:2]
        return first if np.issubdtype(np.asarray(first).dtype, np.integer) else second


class Usearch(Peer):
    def build(self, base, m, efc, threads):
        from usearch.index import Index
        self.index = Index(ndim=base.shape[1], metric="l2sq" if self.metric == "l2" else "cos", dtype="f32",
                           connectivity=m, expansion_add=efc)
        self.index.add(np.arange(len(base), dtype=np.uint64), base, threads=threads)

    def set_ef(self, ef):
        self.index.expansion_search = ef

    def search(self):
        return self.index.search(self.query, K, threads=1).keys


def at_recall(curve, recall):
    """Throughput at a recall: interpolated between neighboring ef, None outside the curve."""
    points = sorted(curve)
    for (r0, q0), (r1, q1) in zip(points, points[1:]):
        if r0 <= recall <= r1 and r0 < r1:
            return math.exp(math.log(q0) + (math.log(q1) - math.log(q0)) * (recall - r0) / (r1 - r0))
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", default="hnswlib,faiss")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--efc", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help="of the build")
    parser.add_argument("--efs", default=",".join(map(str, EFS)))
    parser.add_argument("--recalls", default="0.9,0.95,0.99")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    kinds = {"hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch, "faiss-sq8": FaissSQ8, "symqg": SymphonyQG}
    libraries = {"pennon": Pennon(a.data, a.m, a.efc, a.threads)}
    for name in filter(None, a.peers.split(",")):
        if name == "pennon-rows":
            libraries[name] = Pennon(a.data, a.m, a.efc, a.threads, "off")
        else:
            libraries[name] = kinds[name](a.data, a.m, a.efc, a.threads)
    efs = [int(ef) for ef in a.efs.split(",")]
    seconds = {name: {ef: [] for ef in efs} for name in libraries}
    recalls = {name: {} for name in libraries}
    for library in libraries.values():
        library.run(efs[0])
    for _ in range(a.rounds):
        for ef in efs:
            for name, library in libraries.items():
                recalls[name][ef], took = library.run(ef)
                seconds[name][ef].append(took)
    queries = len(read(a.data / "gt.ibin", np.uint32))
    qps = {name: {ef: queries / statistics.median(s) for ef, s in row.items()} for name, row in seconds.items()}

    print(f"{a.data.name}, m {a.m}, ef_construction {a.efc}, build threads {a.threads}, one query thread, "
          f"median of {a.rounds} rounds\n")
    print("| library | build s | " + " | ".join(f"ef {ef}" for ef in efs) + " |")
    print("|---|---|" + "---|" * len(efs))
    for name, library in libraries.items():
        cells = [f"{recalls[name][ef]:.4f} {qps[name][ef]:,.0f}" for ef in efs]
        print(f"| {name} | {library.build_s:.1f} | " + " | ".join(cells) + " |")
    print("\n| at recall | " + " | ".join(libraries) + " | pennon / best peer |")
    print("|---|" + "---|" * (len(libraries) + 1))
    for recall in map(float, a.recalls.split(",")):
        rates = {n: at_recall([(recalls[n][ef], qps[n][ef]) for ef in efs], recall) for n in libraries}
        best = max((rate for name, rate in rates.items() if not name.startswith("pennon") and rate), default=None)
        ratio = f"{rates['pennon'] / best:.2f}" if best and rates["pennon"] else "-"
        print(f"| {recall} | " + " | ".join(f"{r:,.0f}" if r else "-" for r in rates.values()) + f" | {ratio} |")
    if a.json:
        a.json.write_text(json.dumps({
            "data": a.data.name, "m": a.m, "ef_construction": a.efc, "threads": a.threads, "rounds": a.rounds,
            "date": time.strftime("%Y-%m-%d"), "machine": platform.processor() or platform.machine(),
            "build_s": {name: library.build_s for name, library in libraries.items()},
            "recall": recalls, "qps": qps, "command": " ".join(sys.argv)}, indent=1))


if __name__ == "__main__":
    main()
