"""What tests of whole runs share: the digits, tiny networks, programs of their own; nothing is left in the home."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from programs import Program

ROOT = Path(__file__).parents[1]
# Before torch is imported: tiny networks gain nothing from more, and tests run side by side.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def folders_of_its_own(tmp_path_factory):
    """Decoded pixels and all that W&B keeps lie in a temporary folder, in this process and in those it starts."""
    folder = tmp_path_factory.mktemp("home")
    given = {name: str(folder / name.lower()) for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    given["ABLATIONS_CACHE"] = str(folder / "pixels")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)`: a folder that `make(folder)` fills, and the JSON it gives; made once for all workers."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    shared.mkdir(exist_ok=True)

    def share(name, make):
        folder, told = shared / name, shared / f"{name}.json"
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                folder.mkdir()  # and not twice: what failed once fails every test that needs it, at once
                told.write_text(json.dumps(make(folder)))
        return folder, json.loads(told.read_text())

    return share


@pytest.fixture(scope="session")
def environment(folders_of_its_own):
    """For a program of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def python(environment):
    """Runs `python *words` from the root of the repository, or `folder`, to its end and gives what it left."""

    def run(*words, folder=ROOT, **changes):
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=folder, env={**environment, **changes}, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def start(environment, tmp_path_factory):
    """Starts `python *words` without waiting and at once, as programs.py says; it ends with the tests at the latest."""
    started = []

    def begin(*words, folder=ROOT, **changes):
        streams = tmp_path_factory.mktemp("streams")
        started.append(Program([*map(str, words)], folder, {**environment, **changes}, streams))
        return started[-1]

    yield begin
    for program in started:
        program.kill()


@pytest.fixture(scope="session")
def program(start):
    """As `python`, but of a program that starts at once: where neither the start nor imports are the point."""

    def run(*words, **given):
        started = start(*words, **given)
        out, err = started.communicate(240)
        return subprocess.CompletedProcess(words, started.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def smoke_of(once, program):
    """The root and the words of `python ablations/NAME.py --budget smoke`, run once; tests only read it."""

    def run(name):
        def make(out):
            words = ["--budget", "smoke", "--trainer.accelerator", "cpu", "--out", out]
            tracked = "offline" if name == "remove_layers" else "disabled"  # once is enough, and it takes its time
            done = program(f"ablations/{name}.py", *words, "--wandb", tracked)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return once(name, make)

    return run


@pytest.fixture(scope="session")
def smoke(smoke_of):
    """As `smoke_of`, of remove_layers.py."""
    return smoke_of("remove_layers")


@pytest.fixture
def smoke_copy(smoke, tmp_path):
    """As `smoke`, to write to: what other workers read must stand still."""
    out, told = smoke
    return shutil.copytree(out, tmp_path / "copy", symlinks=True), told


@pytest.fixture(scope="session")
def digits():
    """The embedded digits; tests must not change them."""
    import datamodules

    return datamodules.load("digits")


@pytest.fixture
def tiny(digits):
    """Makes runs of seconds on the digits: `tiny(seed=1, epochs=3, arguments={...})`."""
    from ablations.harness.store.runs import Run
    from modules.training.recipe import HE2015_CIFAR

    def make(network="resnet_cifar", arguments=None, seed=0, trainer=None, data=digits, **recipe):
        if arguments is None:
            arguments = {"depth": 8, "width": 4}
        chosen = replace(HE2015_CIFAR, **{"epochs": 2, "batch_size": 64, "learning_rate": 0.05, **recipe})
        return Run(network, arguments, chosen, data.identity, seed, trainer or {})

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Below --out of the command of tiny_trial.py that nothing disturbed; tests work on copies."""
    from tiny_trial import carry_on, make_cheap

    out = tmp_path_factory.mktemp("tiny") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        carry_on(out)
    return out


SMALL_SCRIPT = """
from dataclasses import replace
from ablations.harness.launch import main
from ablations.remove_layers import ABLATION

SMALL = {"resnet_cifar": {"depth": 8, "width": 4}, "vgg_cifar": {"width": 4, "hidden": 16, "dropout": 0.3}}

def small(at):
    planned = ABLATION.plan(at)
    arms = [
        replace(arm, arguments={**arm.arguments, **SMALL[arm.network]}, recipe={**arm.recipe, **RECIPE})
        for arm in planned.arms
    ]
    return replace(planned, arms=tuple(arms), seeds=1)

small_ablation = replace(ABLATION, plan=small)
"""


@pytest.fixture
def script(tmp_path):
    """Writes a script as `remove_layers.py` with tiny arms, `recipe` over theirs, and `extra` code before it starts."""

    def write(recipe, extra=""):
        start = 'if __name__ == "__main__":\n    main(small_ablation)\n'
        (tmp_path / "small.py").write_text(f"RECIPE = {recipe!r}\n{SMALL_SCRIPT}\n{extra}\n{start}")
        return tmp_path / "small.py"

    return write


@pytest.fixture(scope="session")
def small_ablation():
    """The ablation that `script` declares, in this process: `small_ablation(epochs=2)`."""

    def make(**recipe):
        space = {"__name__": "small", "RECIPE": {"epochs": 1, **recipe}}
        exec(SMALL_SCRIPT, space)
        return space["small_ablation"]

    return make


@pytest.fixture
def command(tmp_path, capsys):
    """Runs an ablation in this process; gives exit code, stdout and stderr. Every run is recorded in files alone."""

    from ablations.harness.launch import main
    from ablations.remove_layers import ABLATION

    def run(*words, ablation=ABLATION):
        words = [str(word) for word in words]
        if "--out" not in words:
            words += ["--out", str(tmp_path / "runs")]
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(ablation, [*words, "--wandb", "disabled"])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run
