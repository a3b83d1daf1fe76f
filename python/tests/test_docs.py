"""Docstrings, the quick start and the stubs say what is true."""

import doctest
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import pennon
from pennon import _pennon

ROOT = pathlib.Path(__file__).parent.parent
CLASSES = [value for value in vars(_pennon).values() if inspect.isclass(value)]


def test_docstrings_run():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for found in CLASSES:
        for test in finder.find(found, found.__name__, globs={}):
            runner.run(test)
    assert runner.summarize().attempted >= 8 and runner.summarize().failed == 0


def test_everything_public_is_documented():
    for name in pennon.__all__:
        value = getattr(pennon, name)
        if not inspect.isclass(value):
            continue
        assert value.__doc__, name
        for member, found in vars(value).items():
            if not member.startswith("_"):
                assert found.__doc__, f"{name}.{member}"


def test_the_quick_start_runs(tmp_path):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    needs = {"pyarrow": "pyarrow", "lance": "lance"}
    names = {}
    for block in blocks:
        for module, text in needs.items():
            if f"import {text}" in block:
                pytest.importorskip(module)
        exec(compile(block, "README.md", "exec"), names)


def test_stubs_agree_with_the_module():
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy.stubtest", "pennon", "--ignore-missing-stub", "--ignore-unused-allowlist"]
    allow = ROOT / "tests" / "stubtest-allowlist.txt"
    found = subprocess.run(
        command + ["--allowlist", str(allow), "--mypy-config-file", str(ROOT / "pyproject.toml")],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_import_is_light():
    program = "import sys, pennon; print(sorted({'numpy', 'pyarrow', 'lance', 'polars'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_example_measures_a_curve(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "recall_vs_speed.py"), "--rows", "3000"]
    image = tmp_path / "recall.svg"
    try:
        import matplotlib  # noqa: F401

        command += ["--plot", str(image)]
    except ImportError:
        pass
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    points = [line.split() for line in found.stdout.splitlines()[1:]]
    recalls = [float(recall) for _, recall, _ in points]
    assert len(points) == 10 and recalls[-1] > 0.99 and recalls[0] <= recalls[-1], found.stdout
    assert "--plot" not in command or image.read_text().count("<path") > 10


def test_an_import_takes_less_than_a_tenth_of_a_second():
    sys.path.insert(0, str(ROOT / "benches"))
    try:
        import overhead
    finally:
        sys.path.pop(0)
    assert overhead.import_time() < 0.1
