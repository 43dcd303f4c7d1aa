"""What docs/recorder.md shows runs as it stands and is recorded whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from holdfast.journal.folder import orphans
from holdfast.journal.replay import replay
from holdfast.testing.ports import ASSESSOR

PAGE = Path(__file__).parents[3] / "docs" / "recorder.md"


def test_every_example_is_recorded(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    subprocess.run([sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, check=True)
    told: list[tuple[str, str, int, int]] = []
    for orphan in orphans(tmp_path / ".holdfast" / "journal", "recorder-"):
        for run in replay(orphan.entries(), ASSESSOR, fail):
            one = run.execution()
            told.append((one.name, one.status, one.steps_succeeded, one.totals.tokens_input))
        orphan.release()
    assert sorted(told) == [
        ("LangGraph", "succeeded", 1, 0),
        ("report", "succeeded", 1, 900),
        ("report", "succeeded", 2, 900),
    ]


def fail(error: Exception) -> None:
    raise error
