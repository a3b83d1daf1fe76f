"""Import time, size of the native module, and what a call costs beyond its work.

    python benches/overhead.py [--check]

`--check` fails above the limits: 100 ms, 10 MB, 5 microseconds.
"""

import pathlib
import subprocess
import sys
import time

import numpy

import pennon


def import_time():
    program = "import time; start = time.perf_counter(); import pennon; print(time.perf_counter() - start)"
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(7)
    ]
    return sorted(float(run.stdout) for run in runs)[3]


def per_call(call, calls=20_000):
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def main():
    index = pennon.Index(8, flat=True)
    index.append(numpy.ones((1, 8), dtype=numpy.float32))
    query, plain = numpy.ones(8, dtype=numpy.float32), [1.0] * 8
    hits = index.search(query, k=1)
    native = pathlib.Path(pennon._pennon.__file__)
    calls = {
        "search(numpy)": per_call(lambda: index.search(query, k=1)),
        "search(list)": per_call(lambda: index.search(plain, k=1)),
        "hits.row_ids": per_call(lambda: hits.row_ids),
        "contains": per_call(lambda: 0 in index),
    }
    seconds, megabytes = import_time(), native.stat().st_size / 1e6
    print(f"import {seconds * 1e3:.1f} ms, native module {megabytes:.1f} MB")
    for name, cost in calls.items():
        print(f"{name:16} {cost * 1e6:.2f} microseconds")
    if "--check" in sys.argv:
        assert seconds < 0.1 and megabytes < 10 and max(calls.values()) < 5e-6


if __name__ == "__main__":
    main()
