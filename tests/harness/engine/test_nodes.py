"""A node is examined before it gets jobs; what it lacks is said in a line."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from harness import api
from harness.cli.launch import execute
from harness.engine import code, nodes
from harness.engine.cluster import ClusterError, reach
from harness.engine.executors import InfeasibleError, InProcess
from harness.planning.room import Offer
from harness.store import Store
from tests.harness.conftest import TINY, planned


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    from dataclasses import replace

    from harness.data.synthetic import PRESETS
    from harness.data.synthetic.generate import write_category

    folder = tmp_path_factory.mktemp("data")
    given = dict(categories=("cookie",), train=2, validation=1, good=1, per_defect=1)
    write_category(folder, "cookie", replace(PRESETS["tiny"], **given))
    return folder


def on_data(dataset: Path):
    return planned("seeds=[0]", data=dataset)


def examined(want: dict) -> dict[str, nodes.Finding]:
    return {finding.check: finding for finding in nodes.examine_here(want).findings}


def test_a_machine_that_has_what_the_driver_has_is_fit(tmp_path, dataset):
    report = nodes.examine_here(nodes.wanted(on_data(dataset), Store(tmp_path)))
    assert [finding.check for finding in report.findings] == list(nodes.CHECKS)
    assert not report.faults
    assert report.found("data").says == nodes.OK
    assert not any((tmp_path / code.TOKENS).iterdir())


def test_what_differs_from_the_driver_is_a_fault_that_names_both(tmp_path):
    want = nodes.wanted(None, Store(tmp_path))
    for check, other in [("code", "0" * 16), ("python", "3.99.1"), ("torch", "9.9.0+cpu")]:
        finding = examined(want | {check: other})[check]
        here = {"code": code.fingerprint(), "torch": torch.__version__}.get(check, want[check])
        assert finding.state == nodes.FAULT
        assert other in finding.says and here in finding.says
        assert "install the same" in nodes.line(finding)


def test_another_build_of_the_same_torch_is_only_told(tmp_path):
    plain = torch.__version__.partition("+")[0]
    want = nodes.wanted(None, Store(tmp_path)) | {"torch": f"{plain}+other"}
    assert examined(want)["torch"].state == nodes.WARNING


def test_a_node_without_the_store_is_unfit_and_gets_no_folder(tmp_path):
    want = nodes.wanted(None, Store(tmp_path / "none")) | {"token": "0" * 32}
    finding = nodes._store(want, "here")
    assert finding.state == nodes.FAULT
    assert str(tmp_path / "none") in finding.says and "--store" in finding.remedy
    assert not (tmp_path / "none").exists()
    (tmp_path / "none").mkdir()
    assert "another folder" in nodes._store(want, "here").says


def test_a_store_that_takes_no_answer_to_the_driver_is_a_fault(tmp_path):
    found = [{"check": "store", "state": nodes.OK, "says": nodes.OK, "remedy": ""}]
    nodes.SEEN_S, patience = 0.0, nodes.SEEN_S
    try:
        report = nodes._report("vm", "id", found, str(tmp_path), "token")
    finally:
        nodes.SEEN_S = patience
    assert "does not find it" in report.faults[0].says


def test_data_that_are_missing_or_differ_are_named_with_their_folder(tmp_path, dataset):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    want = nodes.wanted(on_data(copy), Store(tmp_path / "store"))
    assert examined(want)["data"].state == nodes.OK
    some = next(copy.rglob("*.png"))
    os.utime(some, (1, 1))
    assert examined(want)["data"].state == nodes.OK  # the same bytes, copied without their times
    some.write_bytes(some.read_bytes() + b"\0")
    assert "differ" in examined(want)["data"].says
    shutil.rmtree(copy)
    finding = examined(want)["data"]
    assert finding.state == nodes.FAULT and str(copy) in finding.says and "cookie" in finding.says
    want |= {"inputs": [str(tmp_path / "weights.pth")]}
    assert "weights.pth" in examined(want)["data"].says


def test_little_room_is_told_and_none_is_a_fault(tmp_path, monkeypatch):
    want = nodes.wanted(None, Store(tmp_path)) | {"memory_gb": 1e6}
    assert examined(want)["memory"].state == nodes.WARNING
    for free, state in [(50, nodes.OK), (1, nodes.WARNING), (0.01, nodes.FAULT)]:
        usage = shutil._ntuple_diskusage(100 * nodes.GIB, 0, free * nodes.GIB)
        monkeypatch.setattr(nodes.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert nodes._disk(str(tmp_path)).state == state


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPU")
def test_gpus_that_are_offered_and_do_not_compute_are_a_fault():
    finding = nodes._gpu(1)
    assert finding.state == nodes.FAULT and "resources.default.gpus=0" in finding.remedy
    assert nodes._gpu(0).state == nodes.OK


@pytest.mark.parametrize("serial", [True, False])
def test_no_job_starts_where_torch_cannot_use_the_gpu_that_it_asks_for(
    tmp_path, monkeypatch, serial
):
    class Local:
        address, offers = None, [Offer(cpus=2, gpus=1)]

    monkeypatch.setattr(InProcess, "_gpus", lambda self: 1)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(nodes, "KERNEL", "raise RuntimeError('no kernel image is available')")
    executor, store = InProcess() if serial else Local(), Store(tmp_path)
    with pytest.raises(InfeasibleError, match="no kernel image.*which build.*default.gpus=0"):
        nodes.admit(executor, planned("resources.default.gpus=0.5"), store, print)
    nodes.admit(executor, planned(), store, print)  # which asks for none
    monkeypatch.setattr(nodes, "KERNEL", "print('NVIDIA A')")
    nodes.admit(executor, planned("resources.default.gpus=0.5"), store, print)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InfeasibleError, match="built without CUDA"):
        nodes.admit(executor, planned("resources.default.gpus=0.5"), store, print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPU")
def test_a_driver_that_torch_cannot_use_is_told_before_the_first_job(tmp_path, monkeypatch):
    """The machine has the driver's tools, and torch sees no GPU; by the command and from Python."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setattr(nodes, "KERNEL", "raise RuntimeError('driver too old: 12020')")
    ask = dict(overrides=["resources.default.gpus=1"], store=tmp_path / "store", serial=True)
    with pytest.raises(InfeasibleError, match="driver too old: 12020"):
        api.run(str(TINY), **ask)
    with pytest.raises(InfeasibleError, match="driver too old: 12020"):
        execute(planned(*ask["overrides"]), Store(ask["store"]), "none", serial=True)
    assert not any((tmp_path / "store" / "jobs").glob("*"))


def test_the_gpu_that_computes_nothing_is_named_with_the_first_line_of_its_error(
    tmp_path, monkeypatch
):
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    init, device_count = (lambda: None), (lambda: 2)\n"
        "    get_device_name = 'NVIDIA {}'.format\n"
        "class ones:\n"
        "    __matmul__ = lambda self, other: 64\n"
        "    def __init__(self, count, device):\n"
        "        if device == 'cuda:1':\n"
        "            raise RuntimeError('CUDA error: no kernel image\\nCompile with DSA')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    found = nodes._gpu(2)
    assert found.state == nodes.FAULT and "CUDA_VISIBLE_DEVICES" in found.remedy
    assert found.says.startswith("GPU 1 (NVIDIA 1): RuntimeError: CUDA error: no kernel image (")


def test_addresses_that_lead_nowhere_are_said_in_seconds(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"nothing answers at {address}.*ray start --head"):
        reach(address)
    with pytest.raises(ClusterError, match="HOST:PORT"):
        reach("head")
    with pytest.raises(ClusterError, match="HOST:PORT"):
        reach("ray://head:10001")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "answers, said",
    [
        ([{"refused": True}] * 2, "asks for a token.*RAY_AUTH_TOKEN"),
        ([{"ray_version": "1.0"}], "has Ray 1.0, this machine"),
        ([{"ray_version": "", "python_version": "2.7"}], "has Python 2.7, this machine"),
    ],
)
def test_a_cluster_that_cannot_be_joined_says_why(answers, said, monkeypatch):
    from harness.engine import cluster

    known = [
        a | ({"ray_version": cluster.metadata.version("ray")} if a.get("python_version") else {})
        for a in answers
    ]
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(cluster, "_knock", lambda address: None)
    monkeypatch.setattr(cluster, "_ask", lambda address, environment: known.pop(0))
    with pytest.raises(ClusterError, match=said):
        reach("head:6379")


class Cluster:
    """Several nodes on this machine, each in a mount namespace of its own."""

    def __init__(self, folder: Path, token: str = ""):
        self.folder, self.processes = folder, []
        mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        self.environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }
        self.environment |= {"PYTHONPATH": str(code.ROOT)} | (mode if token else {})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def start(self, *mounts: str, cpus: int = 1) -> None:
        """A node; the first is the head. mounts: shell commands that change what it sees."""
        head = not self.processes
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-gpus=0"]
        ray += (
            ["--head", f"--port={self.port}", "--include-dashboard=false"]
            if head
            else [f"--address={self.address}"]
        )
        ray += [f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        ray += ["--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"]
        start = f"until {' '.join(ray)}; do sleep 1; done"  # a busy machine may be too slow for Ray
        shell = " && ".join([*mounts, start])
        with (self.folder / f"node{len(self.processes)}.log").open("w") as log:
            node = subprocess.Popen(
                ["unshare", "-m", "sh", "-ec", shell],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        self.processes.append(node)
        ends = time.monotonic() + 120
        while head and time.monotonic() < ends:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.5)

    def relief(self, *arguments, **environment: str):
        """A command of the driver; -> its process, ended."""
        program = "import sys; from harness.cli.entry import main; main()"
        return subprocess.run(
            [sys.executable, "-P", "-c", program, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(code.ROOT), "COLUMNS": "80"} | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def stop(self) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


cluster_here = pytest.mark.skipif(not namespaces(), reason="mount namespaces (root on Linux)")
FEW = ("methods=[das3d]", "das3d.train.steps=2", "protocol.latency_samples=0")


@pytest.mark.slow
@cluster_here
def test_nodes_with_other_code_torch_store_or_data_get_no_jobs(tmp_path, dataset):
    other, store, data = tmp_path / "other", tmp_path / "store", tmp_path / "data"
    shutil.copytree(code.ROOT / "harness", other)
    (other / "metrics/extra.py").write_text("")
    shutil.copytree(dataset, data)
    store.mkdir()
    build = Path(torch.__file__).with_name("version.py")
    (tmp_path / "version.py").write_text(build.read_text().replace(torch.__version__, "9.9.0"))
    cluster = Cluster(tmp_path)
    try:
        cluster.start(cpus=2)
        cluster.start(f"mount -t tmpfs none {store}")
        cluster.start(f"mount --bind {other} {code.ROOT / 'harness'}")  # Python may be beside it
        cluster.start(f"mount -t tmpfs none {data}")
        cluster.start(f"mount --bind {tmp_path / 'version.py'} {build}")
        what = (TINY, *FEW, "--data", data, "--store", store, "--address", cluster.address)
        ends = time.monotonic() + 200
        while time.monotonic() < ends:
            done = cluster.relief("doctor", *what, "--json", tmp_path / "found.json")
            if "nodes: 5" in done.stdout:
                break
        print(done.stdout)
        assert done.returncode == 1 and "nodes: 5, of which unfit for jobs: 4" in done.stdout
        faults = re.findall(r"^fault (.*)$", done.stdout, re.MULTILINE)
        for said in (
            f"store: there is another folder {store}",
            f"{code.fingerprint()}: install the same on every node",
            f"data: {data}, cookie",
            f"torch: this node has 9.9.0, the driver {torch.__version__}",
        ):
            assert len([fault for fault in faults if said in fault]) == 1, said
        done = cluster.relief("run", *what, "--tracking", "none")
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("gets no jobs: ") == 4
        assert "1 of 1 cells done" in done.stdout
        assert not list((store / code.TOKENS).iterdir())
    finally:
        cluster.stop()


@pytest.mark.slow
@cluster_here
def test_a_cluster_that_asks_for_a_token_takes_ours_or_says_so(tmp_path):
    cluster = Cluster(tmp_path, token="a" * 32)
    try:
        cluster.start()
        ask = ("doctor", "--store", tmp_path / "store", "--address", cluster.address)
        done = cluster.relief(*ask, HOME=str(tmp_path))
        assert done.returncode == 2 and "asks for a token" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = cluster.relief(*ask, HOME=str(tmp_path), RAY_AUTH_TOKEN="a" * 32)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        cluster.stop()


def test_a_launch_goes_on_with_the_nodes_that_are_fit_and_ends_where_none_is(monkeypatch, tmp_path):
    class Joined:
        ray, address, excluded = None, "head:6379", set()

    fault = nodes.Finding("torch", nodes.FAULT, "this node has 1.0", "install the same")
    fit, unfit = nodes.Report("a", "1", ()), nodes.Report("b", "2", (fault,))
    executor, said = Joined(), []
    for found in ([fit, unfit], [unfit]):
        monkeypatch.setattr(nodes, "examine_all", lambda *_, found=found: found)
        if fit in found:
            nodes.admit(executor, planned(), Store(tmp_path), said.append)
    assert executor.excluded == {"2"}
    assert said == ["b gets no jobs: torch: this node has 1.0; install the same"]
    with pytest.raises(InfeasibleError, match="no node can run jobs.*relief doctor(.|\n)*b gets"):
        nodes.admit(executor, planned(), Store(tmp_path), said.append)
