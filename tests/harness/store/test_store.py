import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import Timeout

from harness.store import (
    DAMAGED,
    DONE,
    SCHEMA,
    DamagedError,
    RecordError,
    Store,
    UserError,
    canonical,
    key_of,
    write_json,
)


def test_keys_do_not_depend_on_the_order_of_settings():
    assert key_of({"a": 1, "b": {"c": 2.0, "d": [1]}}) == key_of(
        {"b": {"d": [1], "c": 2.0}, "a": 1}
    )
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_keys_never_change_by_accident():
    spec = {"kind": "cell", "method": "das3d", "seed": 0, "settings": {"lr": 0.0001}, "needs": {}}
    assert key_of(spec) == "82eef9b792270bdf"


def test_keys_refuse_what_has_no_single_meaning():
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})


def test_a_job_appears_whole_by_one_rename(tmp_path):
    store = Store(tmp_path)
    work = store.work("k")
    (work / "maps.npy").write_bytes(b"x")
    assert not store.done("k") and store.result("k") is None
    store.publish("k", {"status": DONE, "value": float("nan")})
    assert store.done("k") and not work.exists()
    values = dict(store.result("k").values)
    assert list(values.pop("files")) == ["maps.npy"]
    assert values == {"schema": SCHEMA, "status": DONE, "value": None}
    assert (store.folder("k") / "maps.npy").read_bytes() == b"x"


def test_a_failure_is_a_result_until_the_job_finishes_and_its_work_stays(tmp_path):
    store = Store(tmp_path)
    (store.work("k") / "checkpoint.pt").write_bytes(b"half")
    store.fail("k", {"status": "failed", "reason": "why"})
    assert store.result("k").reason == "why" and not store.done("k")
    assert [r.status for r in store.results()] == ["failed"]
    assert (store.work("k") / "checkpoint.pt").read_bytes() == b"half"
    store.publish("k", {"status": DONE})
    assert [r.status for r in store.results()] == [DONE]


@pytest.mark.parametrize(
    "text", ['{"status": ', "null", "{}", "[]", '{"status": "done"}', '{"schema": 1}', "\xff", ""]
)
def test_a_damaged_record_is_not_done_and_names_its_file(tmp_path, text):
    store = Store(tmp_path)
    store.publish("k", {"status": DONE})
    (store.folder("k") / "result.json").write_text(text, encoding="latin-1")
    assert not store.done("k") and "k/result.json is damaged" in store.damage("k")
    found = store.result("k")
    assert found.status == DAMAGED and "k/result.json is damaged" in found.reason
    with pytest.raises(DamagedError, match=r"k/result.json is damaged"):
        store.finished("k")


def publish(store):
    (store.work("k") / "a").mkdir()
    (store.work("k") / "a" / "maps.npy").write_bytes(b"0123456789")
    store.publish("k", {"status": DONE, "key": "k"})
    return store.folder("k") / "a" / "maps.npy"


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_bytes(b"01234")])
def test_a_job_whose_files_do_not_fit_is_not_done(tmp_path, damage):
    store = Store(tmp_path)
    file = publish(store)
    assert store.done("k") and store.result("k").status == DONE
    damage(file)
    other = Store(tmp_path)
    assert not other.done("k") and str(file) in other.damage("k")
    assert other.result("k").status == DAMAGED


def test_a_flipped_byte_is_found_where_files_are_read(tmp_path):
    store = Store(tmp_path)
    file = publish(store)
    assert store.verified("k").key == "k"
    file.write_bytes(b"0123456780")
    other = Store(tmp_path)
    assert other.done("k") and other.damage("k") is None
    assert "has other bytes" in other.damage("k", contents=True)
    with pytest.raises(DamagedError, match=r"maps.npy has other bytes than its job wrote"):
        other.verified("k")


def test_what_is_damaged_is_set_aside_whole_and_published_anew(tmp_path):
    store = Store(tmp_path)
    publish(store).write_bytes(b"torn")
    aside = store.set_aside("k", "torn")
    assert (aside / "a" / "maps.npy").read_bytes() == b"torn"
    assert (aside / "why.txt").read_text() == "torn\n" and not store.folder("k").exists()
    publish(store)
    assert store.done("k")


def test_a_folder_without_a_record_is_no_hindrance(tmp_path):
    store = Store(tmp_path)
    publish(store)
    (store.folder("k") / "result.json").unlink()
    assert not store.done("k") and "result.json is missing" in store.damage("k")
    publish(store)
    assert store.done("k") and len(list((tmp_path / "damaged").iterdir())) == 1


def test_half_files_of_killed_writers_are_not_published(tmp_path):
    store = Store(tmp_path)
    (store.work("k") / "index.json.abc.part").write_text("half")
    publish(store)
    names = {p.name for p in store.folder("k").rglob("*") if p.is_file()}
    assert names == {"result.json", "maps.npy"}


@pytest.mark.parametrize("text", ["", '{"id": ', "null", "[]", '{"id": "b"}'])
def test_a_damaged_launch_is_left_out_and_named(tmp_path, caplog, text):
    store = Store(tmp_path)
    write_json(tmp_path / "launches" / "a.json", {"id": "a", "started": 1, "cells": []})
    (tmp_path / "launches" / "b.json").write_text(text)
    assert [launch["id"] for launch in store.launches()] == ["a"]
    assert "launches/b.json is damaged" in caplog.text


def test_a_launch_is_found_by_what_it_alone_begins_with(tmp_path):
    for started, name in enumerate(("demo-1a", "demo-2", "demo")):
        launch = {"id": name, "started": started, "cells": []}
        write_json(tmp_path / "launches" / f"{name}.json", launch)
    store = Store(tmp_path)
    found = [store.launch(name)["id"] for name in ("demo-1", "demo", "demo-2", None)]
    assert found == ["demo-1a", "demo", "demo-2", "demo"]
    with pytest.raises(UserError, match="'demo-' is the beginning of demo-1a, demo-2: give more"):
        store.launch("demo-")
    with pytest.raises(UserError, match="no launch 'tiny'.*; there are demo-1a, demo-2, demo"):
        store.launch("tiny")


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    store = Store(tmp_path)
    store.publish("k", {"status": DONE, "schema": SCHEMA + 1})
    with pytest.raises(RecordError, match="written by a newer version .*update this installation"):
        store.result("k")


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match="--store"):
        Store(file / "store").check_writable()


def test_a_lock_is_held_once_and_freed_when_its_holder_is_killed(tmp_path):
    code = (
        "import sys, time; from harness.store import Store\n"
        "with Store(sys.argv[1]).lock('k'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    store = Store(tmp_path)
    assert store.locked("k")
    with pytest.raises(Timeout), store.lock("k", timeout=0):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not store.locked("k")


def test_readers_never_see_half_a_file_while_writers_are_killed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from harness.store import write_json\n"
        "i = 0\n"
        "while True: i += 1; write_json(Path(sys.argv[1]), {'i': [i] * 5000})"
    )
    path = tmp_path / "result.json"
    write_json(path, {"i": [0] * 5000})
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            assert len(json.loads(path.read_text())["i"]) == 5000
        writer.kill()
        writer.wait()
    assert len(json.loads(path.read_text())["i"]) == 5000
