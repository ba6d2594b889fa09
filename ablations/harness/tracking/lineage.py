"""What W&B's runs are made from and leave, as artifacts: the data as a reference, a trained network as its files.

An artifact is described by plain values, so that a run in another process can be told of it. One with the content of a
version that the project has becomes that version: what two runs name alike is one node of the lineage.

`Run.use_artifact` refuses an offline run, and online waits for the server. What it does is a record "log this, and note
that it was used" among those of the run, which is written here in both modes: `wandb sync` sends it later, in the order
of the runs, so that a network is known before what was asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.harness.store.runs import WEIGHTS, digest, outcome

DATASET, MODEL = "dataset", "model"  # types of artifacts
FILES = (WEIGHTS, "config.json")  # of a model
MAX_NAME = 128  # characters, of W&B


def dataset(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a run, by `ImageData.identity`: its name, digest and counts; no image leaves the machine.

    Augmentation is left out, which belongs to the run. Nobody can follow the reference; it tells versions apart.
    """
    kept = {key: value for key, value in identity.items() if key != "augment"}
    name = str(identity["name"])
    return {"type": DATASET, "name": name, "reference": f"cnn-ablations://{name}/{digest(kept)}", "metadata": kept}


def model(folder: Path) -> dict[str, Any]:
    """The trained network in a run's folder, named as the run, with what its test said."""
    files = [str((folder / name).resolve()) for name in FILES]
    tested = {key: value for key, value in (outcome(folder) or {}).items() if key.startswith("test/")}
    return {"type": MODEL, "name": folder.name, "files": files, "metadata": tested}


def record(experiment: Any, described: Mapping[str, Any], *, used: bool) -> None:
    """Notes an artifact as used by the W&B run, or else as made by it; raises whatever wandb and missing files raise.

    Files stay where they are until they are sent, and are read once for their digests.
    """
    import wandb

    name = re.sub(r"[^\w.-]", "-", described["name"])[:MAX_NAME]
    artifact = wandb.Artifact(name, type=described["type"], metadata=dict(described["metadata"]))
    if "reference" in described:
        artifact.add_reference(described["reference"], name=name, checksum=False)
    for file in described.get("files", ()):
        artifact.add_file(file, policy="immutable", skip_cache=True)
    artifact.finalize()
    aliases = [] if used else ["latest"]
    experiment._interface.publish_artifact(experiment, artifact, aliases, is_user_created=True, use_after_commit=used)
