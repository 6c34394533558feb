"""The views name queries that are longer than the model server takes."""

from __future__ import annotations

import pytest
import shop_oracle
from browsing import Tab

QUERY = "milk powder"
LONG = ["zzlong <b>" + "x" * 5000, *(f"zz{number} " + "y" * 5000 for number in range(6))]


@pytest.fixture
def book(tab: Tab) -> str:
    shop_oracle.ask(tab.address, "POST", "books", {"name": "refused", "queries": [QUERY, *LONG]})
    for query in (QUERY, *LONG):
        body = {"book": "refused", "judge": "ann", "query": query, "item_id": "x", "grade": 2}
        shop_oracle.ask(tab.address, "PUT", "judgements", body)
    return "refused"


def test_figures_and_snapshots_name_them(tab: Tab, book: str) -> None:
    tab.fresh(f"#judge/{book}?at=1", judge="ann")
    line = tab.one("#figures [data-refused='7']").text
    assert line.startswith("as served, ")
    assert ": 7 queries are longer than the server takes and without results:" in line
    assert len(tab.all("#figures [data-refused]")) == 1
    quoted = tab.texts("#figures [data-refused='7'] q")
    assert len(quoted) == 5
    assert quoted[0].strip("\u201c\u201d").startswith("zzlong <b>xxx")
    assert all(len(each) < 120 for each in quoted)
    assert tab.violations() == []

    shop_oracle.ask(tab.address, "POST", "snapshots", {"name": "refused", "book": book, "columns": [{}]})
    tab.fresh("#snapshots")
    assert "7 queries are longer" in tab.one("#snapshots-table [data-refused='7']").text
    assert tab.violations() == []
