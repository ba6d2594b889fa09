"""The commands of reports/ tell what they take before anything heavy is imported."""

import pytest

HEAVY = {"torch", "lightning", "wandb", "captum", "matplotlib", "plotly", "pyarrow"}


@pytest.mark.parametrize(
    ("name", "flag"),
    [("page", "--publish"), ("site", "--out OUT"), ("filters", "--layers"), ("wandb_report", "--sync")],
)
def test_help_needs_nothing_heavy(python, name, flag):
    code = f"import sys\nfrom reports import {name}\ntry: {name}.main(['--help'])\nfinally: print(*sys.modules)"
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert flag in done.stdout
    assert HEAVY.isdisjoint(done.stdout.split())
