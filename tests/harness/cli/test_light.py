"""Commands that compute nothing import nothing that computes, and so answer at once.

They run one after another in one process: what none may import stays out to the end.
"""

import json
import subprocess
import sys
from pathlib import Path

from harness.cli import unchanged
from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category
from tests.harness.conftest import TINY
from tests.reports.fake_store import build_launch

ROOT = Path(__file__).parents[3]
HEAVY = (
    *("torch", "torchvision", "timm", "cv2", "scipy", "sklearn", "pandas", "pyarrow", "ray"),
    *(
        "numpy",
        "PIL",
        "yaml",
        "omegaconf",
        "mlflow",
        "optuna",
        "matplotlib",
        "tifffile",
        "trimesh",
        "pypcd4",
        "jinja2",
    ),
    *("concurrent.futures.process", "multiprocessing", "asyncio"),
)
FIVE = "methods=[dbrn,3dsr,das3d,m3dm,shape_guided,baseline]"
SCRIPT = """
import contextlib, io, json, sys
from harness.cli import app
heavy, commands = json.load(sys.stdin)
for command in commands:
    sys.argv = ["relief", *command]
    told = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([command, code, [m for m in heavy if m in sys.modules], told.getvalue()]))
"""


def test_a_command_imports_its_own_module_and_all_of_them_neither_numpy_nor_configurations():
    code = (
        "import sys; from harness.cli import app\n"
        "app.built(['--quiet', 'models', 'list'])\n"
        "print([m for m in sys.modules if m in ('harness.cli.listing', 'harness.cli.status')])\n"
        "app.built()\n"
        "print([m for m in ('numpy', 'omegaconf', 'yaml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n[]\n", done.stdout + done.stderr


def test_commands_that_compute_nothing_import_nothing_that_computes(tmp_path):
    write_category(tmp_path / "data", "cookie", PRESETS["tiny"])
    fake, launch = build_launch(tmp_path / "store", views=False, arrays=False)
    store, report = fake.path, fake.path / "reports" / launch["id"]
    report.mkdir(parents=True)
    unchanged.keep(report, unchanged.state_of(fake, launch), ["as it was told"], 80)
    at = ["--store", str(store)]
    commands = [  # what one may import, those after it may
        (["--help"], 0, ""),
        (["--version"], 0, ""),
        (["run", "--help"], 0, ""),
        (["run", "--sotre", "X"], 2, ""),
        (["status", *at], 0, ""),
        (["report", *at], 0, ""),  # that stands
        (["models", *at], 0, ""),
        (["weights", "list"], 0, ""),
        *((["list", what], 0, "") for what in ("methods", "variants", "views", "weights")),
        (["list", "settings", "shape_guided"], 0, ""),
        (["status", "fake", *at], 0, "yaml"),  # plans: reads configurations
        (["status", "demo", *at], 0, ""),
        (["studies", "list"], 0, ""),
        *((["list", what], 0, "") for what in ("datasets", "sweeps", "studies")),
        (["plan", "methods=[dass3d]"], 2, ""),
        (["plan", FIVE, *at], 0, ""),
        (["init", str(tmp_path / "my.yaml"), "--data", str(tmp_path / "data")], 0, ""),
        (["plan", FIVE, "--explain", *at], 0, ""),
        (["plan", str(TINY), "demo=true", "--data", str(tmp_path / "data"), *at], 0, ""),
        (["list", "metrics"], 0, "numpy"),  # they are functions of arrays
        (["store", "check", *at], 0, ""),
        (["plan", "das3d.train.stepz=1"], 2, "omegaconf"),  # says what is wrong with it
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([HEAVY, [command for command, *_ in commands]]),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(commands), done.stderr
    allowed: set[str] = set()
    for (command, wanted, needed), (_, code, heavy, told) in zip(commands, found):
        allowed |= set(needed.split())
        assert set(heavy) <= allowed, f"{command} imports {set(heavy) - allowed}"
        assert code == wanted, f"{command}: {told}"
        assert command[0] != "report" or told == "as it was told\n"
