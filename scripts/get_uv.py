"""Put `uv` into a folder with whatever this Python offers: its pip, or a pip of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

UV = "uv==0.13.8"


def main(target: str) -> int:
    """Install uv under `target`/bin; 0 when it is there."""
    with tempfile.TemporaryDirectory() as scratch:
        python = sys.executable
        if importlib.util.find_spec("pip") is None:
            # Some systems ship Python without pip; a virtual environment may bring one.
            made = subprocess.run([python, "-m", "venv", scratch], check=False)
            python = str(Path(scratch) / "bin" / "python")
            if made.returncode != 0:
                sys.stderr.write(
                    "This Python has neither pip nor ensurepip, and uv is not installed.\n"
                    "Install one of them (on Debian: python3-venv) and run make again.\n"
                )
                return 1
        install = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        install.append("--root-user-action=ignore")
        return subprocess.run([*install, "--target", target, UV], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
