"""Threads, signals and processes."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from conftest import recall, vectors_of

import pennon


def test_searches_beside_an_append(rng):
    vectors = vectors_of(rng, 30_000, 16, "float32")
    index = pennon.Index(16)
    index.append(vectors[:2_000])
    stop, failures, searches = threading.Event(), [], [0] * 3

    def search(number):
        queries = np.random.default_rng(number)
        while not stop.is_set():
            query = vectors[queries.integers(0, 2_000)]
            reader = index.reader()
            first, second = reader.search(query, k=5), reader.search(query, k=5)
            if list(first) != list(second) or len(first) != 5 or first.distances[0] != 0:
                failures.append((first, second))
            searches[number] += 1

    threads = [threading.Thread(target=search, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for start in range(2_000, 30_000, 7_000):
        index.append(vectors[start : start + 7_000])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and min(searches) > 10, searches
    found = [recall(index.search(query, k=10, ef=200).row_ids, vectors, query, "l2", 10) for query in vectors[:50]]
    assert np.mean(found) > 0.9


def test_writers_of_many_threads(rng):
    vectors = vectors_of(rng, 4_000, 8, "float32")
    index = pennon.Index(8)
    firsts = []

    def append(part):
        firsts.append(index.append(part).first_row_id)

    threads = [threading.Thread(target=append, args=(part,)) for part in np.split(vectors, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == list(range(0, 4_000, 100)) and len(index) == 4_000


def test_the_interpreter_is_free_during_an_append(rng):
    vectors = vectors_of(rng, 20_000, 64, "float32")
    index = pennon.Index(64)
    ticks = [0]
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    index.append(vectors)
    done.set()
    thread.join()
    assert ticks[0] > 20, ticks


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_ctrl_c_ends_an_append():
    program = """
        import numpy, pennon, os, signal, threading, time
        vectors = numpy.random.default_rng(0).standard_normal((400_000, 64), dtype="float32")
        index = pennon.Index(64, ef_construction=200)

        def interrupt():
            while len(index) == 0:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        try:
            index.append(vectors)
        except KeyboardInterrupt:
            rows = len(index)
            assert 0 < rows < 400_000 and rows % 8192 == 0, rows
            assert index.append(vectors[:1]).first_row_id == 400_000
            print("interrupted", rows)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
    )
    assert found.stdout.startswith("interrupted"), (found.stdout, found.stderr)


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("call", ["search_batch(queries, k=10, ef=2_000)", "save(directory)"])
def test_ctrl_c_ends_a_batch_and_a_save(call, tmp_path):
    program = f"""
        import numpy, pennon, os, signal, threading, time
        vectors = numpy.random.default_rng(0).standard_normal((200_000, 64), dtype="float32")
        queries, directory = vectors[:100_000], {str(tmp_path)!r}
        index = pennon.Index(64, flat="save" in {call!r})
        index.append(vectors[: 200_000 if "save" in {call!r} else 20_000])
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.perf_counter()
        try:
            index.{call}
            print("done")
        except KeyboardInterrupt:
            print("interrupted", time.perf_counter() - start)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
    )
    said = found.stdout.split()
    # A disk may be faster than a signal; then there is nothing to be ended.
    assert said and (said[0] == "interrupted" or "save" in call), (found.stdout, found.stderr)
    if "save" in call and said[0] == "done":
        assert len(pennon.Index.load(tmp_path)) == 200_000


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    program = """
        import numpy, os, pennon
        vectors = numpy.random.default_rng(0).standard_normal((5_000, 16), dtype="float32")
        index = pennon.Index(16)
        index.append(vectors)
        expected = list(index.search_batch(vectors[:50], k=3)[7])
        child = os.fork()
        if child == 0:
            same = list(index.search_batch(vectors[:50], k=3)[7]) == expected
            index.append(vectors)
            os._exit(0 if same and len(index) == 10_000 else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=120)
