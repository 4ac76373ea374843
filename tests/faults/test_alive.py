"""What hangs, dies or is cut off in the middle of a launch on a real Ray: jobs go on by themselves.

Each test prints how long that took: `pytest -m "" -s tests/faults/test_alive.py`.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness.engine.driver import Driver
from harness.engine.heartbeat import Heartbeat
from harness.engine.on_ray import OnRay
from harness.engine.outcomes import Outcome
from harness.planning.config import Schedule
from harness.store import DONE, TIMEOUT, Store
from tests.harness import toy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults need Linux's /proc")


def task(job: dict, store_path: str, attempt: int) -> Outcome:
    """A job of spec["do"] seconds at its first attempt, of half a second later."""
    store, key = Store(store_path), job["key"]
    beat = Heartbeat(store, key)
    with beat, store.lock(key, waits=beat.wait):
        if store.done(key):
            return Outcome(key, DONE)
        with (store.path / "ran.txt").open("a") as f:
            f.write(f"{job['title']} {attempt} {os.getpid()}\n")
        time.sleep(float(job["spec"]["do"]) if attempt == 1 else 0.5)
        toy.publish(store, job, attempt)
    return Outcome(key, DONE)


class Launch:
    """Two CPUs, and a fault as soon as both are busy; `events` has (s since the fault, event)."""

    def __init__(self, path, fault, *jobs, address=None, **schedule):
        self.store, self.fault, self.at = Store(path), fault, None
        self.events = []
        size = {} if address else {"cpus": 2, "gpus": 0}
        self.executor = OnRay(address, **size, task=task)
        self.servers = dict(self.executor.servers)
        plan = toy.plan(*jobs)
        thread = threading.Thread(target=self.strike, args=(min(2, len(jobs)),), daemon=True)
        driver = Driver(plan, self.store, self.executor, Schedule(**schedule), self.hear)
        thread.start()
        self.summary = driver.run()

    def strike(self, busy):
        while len(toy.ran(self.store)) < busy:
            time.sleep(0.1)
        time.sleep(1)
        self.at = time.monotonic()
        self.fault(self)

    def hear(self, event):
        after = time.monotonic() - self.at if self.at else 0.0
        self.events.append((after, event.name, event.job and event.job.title, event.reason))
        title = event.job.title if event.job else ""
        print(f"{after:6.1f} s", event.name, title, event.reason, flush=True)

    def after(self, name):
        """When the first such event came, s after the fault."""
        return next(after for after, event, *_ in self.events if event == name)


def pid_of(launch, title):
    lines = [line.split() for line in toy.ran(launch.store)]
    return next(int(pid) for name, _, pid in lines if name == title)


def stop(title):
    def fault(launch):
        os.kill(pid_of(launch, title), signal.SIGSTOP)

    return fault


def kill(name):
    def fault(launch):
        os.kill(launch.servers[name].pid, signal.SIGKILL)

    return fault


def test_a_stopped_worker_is_ended_and_its_job_tried_again(tmp_path):
    hung, other = toy.job("hung", "600"), toy.job("other", "2")
    launch = Launch(tmp_path, stop("hung"), hung, other, silence_minutes=0.1)
    assert launch.summary.counts == {DONE: 2}
    why = next(reason for _, name, _, reason in launch.events if name == "retry")
    assert "no sign of life from process" in why and "(stopped)" in why
    assert [line.split()[:2] for line in toy.ran(launch.store)].count(["hung", "2"]) == 1
    assert not list(launch.store.alive.iterdir())


@pytest.mark.slow
def test_a_stopped_worker_holds_its_job_for_less_than_ninety_seconds(tmp_path):
    launch = Launch(tmp_path, stop("hung"), toy.job("hung", "600"), toy.job("other", "2"))
    assert launch.summary.counts == {DONE: 2}
    assert launch.events[-1][0] < 90


@pytest.mark.slow
def test_a_launch_ends_though_a_worker_over_its_time_is_stopped(tmp_path):
    launch = Launch(tmp_path, stop("hung"), toy.job("hung", "600", hours=5 / 3600))
    assert launch.summary.counts == {TIMEOUT: 1}
    assert launch.events[-1][0] < 60


@pytest.mark.slow
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_jobs_go_on_though_a_server_of_our_own_ray_is_killed(server, tmp_path, capfd):
    jobs = [toy.job("long", "25"), toy.job("other", "25"), toy.job("third", "1")]
    for job in jobs[:2]:
        assert job.resources.cpus == 1
    launch = Launch(tmp_path, kill(server), *jobs, toy.job("fourth", "1", needs=(jobs[2],)))
    assert launch.after("back") < 60
    output = capfd.readouterr()
    assert "Raylet is terminated" not in output.out + output.err
    print(output.out)


@pytest.fixture
def two_nodes(tmp_path):
    """A Ray cluster of two nodes in network namespaces, one CPU each; -> the link between them."""
    if os.geteuid() or subprocess.run(["ip", "netns", "list"], capture_output=True).returncode:
        pytest.skip("network namespaces need root and iproute2")
    tag = f"{os.getpid() % 10000}{next(CLUSTERS)}"  # what an earlier one left is not in the way
    head, node, ends = f"rh{tag}", f"rn{tag}", (f"vh{tag}", f"vn{tag}")
    commands = [f"netns add {head}", f"netns add {node}"]
    commands += [f"link add {ends[0]} type veth peer name {ends[1]}"]
    for name, end, address in zip((head, node), ends, ("10.77.0.1", "10.77.0.2")):
        commands += [
            f"link set {end} netns {name}",
            f"-n {name} addr add {address}/24 dev {end}",
            f"-n {name} link set {end} up",
            f"-n {name} link set lo up",
        ]
    made = [subprocess.run(["ip", *command.split()], capture_output=True) for command in commands]
    servers = []
    try:
        if any(m.returncode for m in made):
            pytest.skip(f"no network namespaces here: {made[-1].stderr.decode().strip()}")
        for name, address, more in (
            (head, "10.77.0.1", ["--head", "--port=6390", "--include-dashboard=false"]),
            (node, "10.77.0.2", ["--address=10.77.0.1:6390"]),
        ):
            servers.append(ray_node(name, address, more, tmp_path / f"{name}.log"))
        yield head, ends[0]
    finally:
        for server in reversed(servers):
            end_group(server)
        for name in (head, node):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def end_group(server):
    """A node with its servers and workers: told to end, killed if it takes too long."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(30)
        except ProcessLookupError:  # nothing is left of it
            return
        except subprocess.TimeoutExpired:
            continue


CLUSTERS = itertools.count()
STARTED = "Ray runtime started"
START_S = 120  # of a node on a busy machine
ON_CLUSTER = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def ray_node(namespace, address, more, log):
    """A node with a host name of its own, as if on another machine, when it has started."""
    command = f"ip netns exec {namespace} unshare --uts sh -c"
    size = ["--num-cpus=1", "--num-gpus=0", f"--node-ip-address={address}"]
    size += ["--object-store-memory=100000000"]
    start = f"hostname {namespace} && exec {sys.executable} -m ray.scripts.scripts start --block"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command.split(), " ".join([start, *size, *more])],
            stdout=file,
            stderr=file,
            env=ON_CLUSTER,
            start_new_session=True,
        )
    until = time.monotonic() + START_S
    while STARTED not in log.read_text() and server.poll() is None and time.monotonic() < until:
        time.sleep(0.5)
    if STARTED not in log.read_text():
        end_group(server)
        pytest.fail(f"no node within {START_S} s: {log.read_text()[-2000:]}")
    return server


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, 30, 90])
def test_jobs_go_on_though_the_link_to_a_node_is_down(seconds, two_nodes, tmp_path):
    assert "ended" in on_cluster(two_nodes, tmp_path, str(seconds))


@pytest.mark.slow
def test_a_stopped_worker_of_another_machine_is_ended_by_a_task_sent_there(two_nodes, tmp_path):
    output = on_cluster(two_nodes, tmp_path, "stop")
    assert "no sign of life from process" in output
    assert int(re.search(r"ended (\d+) s after", output).group(1)) < 90


def on_cluster(two_nodes, tmp_path, fault):
    """What a launch of `main` prints that the head's namespace runs."""
    head, end = two_nodes
    command = f"ip netns exec {head} {sys.executable} -m {__name__} {tmp_path / 'store'}"
    driver = subprocess.Popen(
        [*command.split(), "10.77.0.1:6390", head, end, fault],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ON_CLUSTER,
    )
    output, _ = driver.communicate(timeout=400)
    print(output)
    assert driver.returncode == 0, output
    return output


def main(store, address, namespace, end, fault):
    """A launch in a namespace: once both nodes work, its link goes down for `fault` seconds."""

    def cut(launch):
        if fault == "stop":
            return stop("job0")(launch)
        subprocess.run(["ip", "-n", namespace, "link", "set", end, "down"], check=True)
        time.sleep(float(fault))
        subprocess.run(["ip", "-n", namespace, "link", "set", end, "up"], check=True)
        return None

    jobs = [toy.job(f"job{i}", "8") for i in range(6)]
    launch = Launch(store, cut, *jobs, address=address)
    assert launch.summary.counts == {DONE: 6}
    print(f"ended {time.monotonic() - launch.at:.0f} s after the fault")


if __name__ == "__main__":
    main(*sys.argv[1:])
