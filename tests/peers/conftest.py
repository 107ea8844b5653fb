"""What the comparisons share: the built binary, a project in a folder of its own, and a running node.

Everything goes through the program a user runs: files in, files or HTTP out.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data"


class Project:
    """One project folder and the program run in it."""

    def __init__(self, folder: Path, binary: Path):
        self.folder = folder
        self.binary = binary

    def write(self, path: str, content: str | pa.Table) -> str:
        """Writes a text or a Parquet file below the folder; gives its path back."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, target)
        else:
            target.write_text(content)
        return path

    def asof(self, *arguments: str) -> str:
        """Runs a command in the folder; its standard output. A command that fails fails the test with its text."""
        done = subprocess.run(
            [self.binary, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"asof {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def apply(self) -> None:
        self.asof("apply", "--yes")

    def train(self, service: str, spine: pa.Table | str, *flags: str) -> pa.Table:
        """The training set over a spine, as a user gets it: a Parquet file."""
        path = spine if isinstance(spine, str) else self.write("spine.parquet", spine)
        out = self.folder / "train.parquet"
        out.unlink(missing_ok=True)
        self.asof("train", service, "--spine", path, "--out", str(out), *flags)
        return pq.read_table(out)

    def up(self) -> "Node":
        return Node(self)


class Node:
    """A node running in a project, ready to answer; a context manager that stops it."""

    def __init__(self, project: Project):
        self.log = open(project.folder / "up.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [project.binary, "up", "--listen", "127.0.0.1:0"], cwd=project.folder, stdout=self.log, stderr=self.log
        )
        self.url = self._ready(project.folder)

    def _ready(self, folder: Path) -> str:
        described = folder / ".asof" / "node.json"
        for _ in range(1200):
            assert self.process.poll() is None, f"the node ended:\n{(folder / 'up.log').read_text()}"
            try:
                address = json.loads(described.read_text())["address"]
                urllib.request.urlopen(f"{address}/ready", timeout=5).close()
                return address
            except (OSError, ValueError, KeyError, urllib.error.URLError):
                time.sleep(0.1)
        raise AssertionError(f"the node was not ready in time:\n{(folder / 'up.log').read_text()}")

    def features(self, body: dict) -> dict:
        request = urllib.request.Request(
            f"{self.url}/v1/features", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code} for {body}: {error.read().decode()}") from error

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.log.close()


@pytest.fixture(scope="session")
def binary() -> Path:
    path = Path(os.environ.get("ASOF_BINARY", ROOT / "target" / "debug" / "asof"))
    assert path.exists(), f"{path} is not built; run `cargo build` or `cargo xtask test`"
    return path


@pytest.fixture
def project(tmp_path: Path, binary: Path) -> Project:
    """An empty project."""
    made = Project(tmp_path, binary)
    made.write("asof.yaml", "project: compared\n")
    return made


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory, binary: Path):
    """Copies an example and applies it, once each."""
    made: dict[str, Project] = {}

    def get(name: str) -> Project:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            shutil.copytree(ROOT / "examples" / name, folder, dirs_exist_ok=True)
            made[name] = Project(folder, binary)
            made[name].apply()
        return made[name]

    return get
