"""What tests read of W&B's offline runs."""

import json
import subprocess
import sys
from pathlib import Path


class Kept:
    """An offline run as W&B's own reader gives it: run, config, history rows, last summary, media files, artifacts."""

    def __init__(self, folder):
        command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]

        def of(kind):
            return [record[kind] for record in records if record["type"] == kind]

        self.folder, (self.run,) = folder, of("run")
        self.config = self.run["config"]["update"]
        self.history = [row["item"] for row in of("history")]
        self.summary = {name: value for part in of("summary") for name, value in part["update"].items()}
        artifacts = of("artifact")
        self.uses = [artifact for artifact in artifacts if artifact.get("use_after_commit")]
        self.makes = [artifact for artifact in artifacts if not artifact.get("use_after_commit")]
        self.exit_code = of("exit")[0].get("exit_code", 0)

    def table(self, name):
        """Columns and rows of a logged table."""
        content = json.loads((self.folder / "files" / self.summary[f"tables/{name}.path"]).read_text())
        return content["columns"], content["data"]


def models(artifacts):
    """Names of the networks among artifacts, but not of the tables, which W&B keeps as artifacts too."""
    return [artifact["name"] for artifact in artifacts if artifact["type"] == "model"]
