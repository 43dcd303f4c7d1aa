"""The examples of docs/reliability.md declare what the page says."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"


class Data(BaseModel):
    customer: str = "ada"


class WarehouseBusy(Exception):
    pass


def test_the_examples_declare_what_the_page_says() -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {
        "Pipeline": Pipeline,
        "timedelta": timedelta,
        "WarehouseBusy": WarehouseBusy,
        **dict.fromkeys(("Order", "Customer", "Email"), Data),
    }
    exec(compile("\n".join(examples), str(PAGE), "exec"), names)
    orders, sync, mails = (names[name] for name in ("orders", "sync", "mails"))
    assert (orders.retries, orders.retry_on, orders.redeliver) == (5, (WarehouseBusy,), True)
    assert orders.backoff == Backoff(first=2, factor=2, most=600, jitter=1.0)
    assert sync.singleton_key(Data(customer="eve")) == "eve"
    assert mails.dedup == timedelta(hours=1)
