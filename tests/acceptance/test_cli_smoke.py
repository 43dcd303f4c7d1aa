"""`holdfast dev smoke`, against fakes and without any key."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from holdfast.testing.providers import (
    FakeAnswer,
    FakeAnthropic,
    FakeGoogle,
    FakeOllama,
    FakeOpenAI,
)

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


def smoked(folder, *options, **environ):
    return subprocess.run(
        [HOLDFAST, "dev", "smoke", *options],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_key_it_says_what_it_skipped_and_why(tmp_path):
    done = smoked(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "anthropic  skipped: ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL not set",
        "google     skipped: GOOGLE_API_KEY and GOOGLE_GEMINI_BASE_URL not set",
        "ollama     skipped: OLLAMA_HOST not set",
        "openai     skipped: OPENAI_API_KEY and OPENAI_BASE_URL not set",
    ]
    assert not any(tmp_path.iterdir())


def test_one_call_each_and_what_was_recorded_of_it(tmp_path):
    fakes = [FakeAnthropic(["ready"]), FakeGoogle(["ready"]), FakeOllama(["ready"])]
    refusing = FakeOpenAI([FakeAnswer(status=401, text="no such key")])
    with ExitStack() as stack:
        anthropic, google, ollama, openai = (
            stack.enter_context(fake) for fake in (*fakes, refusing)
        )
        done = smoked(
            tmp_path,
            "--model",
            "ollama=qwen3",
            ANTHROPIC_BASE_URL=anthropic.url,
            GOOGLE_GEMINI_BASE_URL=google.url,
            OLLAMA_HOST=ollama.url,
            OPENAI_BASE_URL=openai.url,
            HOLDFAST_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
        )
    assert done.returncode == 1, done.stderr  # one call failed
    shown = done.stdout
    for server, name in ((anthropic, "anthropic"), (google, "google"), (ollama, "ollama")):
        (request,) = server.requests
        part = shown[shown.index(f"{name:<10} succeeded") :]
        assert f"{request.tokens_input} in, {request.tokens_output} out (reported)" in part
        assert "answer     ready" in part
    assert "model      qwen3" in shown
    assert anthropic.requests[0].request_id in shown
    assert "openai     failed" in shown
    assert "error " in shown[shown.index("openai     failed") :]
    assert len(openai.requests) == 1
    assert "skipped" not in shown
