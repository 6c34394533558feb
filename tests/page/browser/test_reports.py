"""The page that `dpsr compare` writes, opened from its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Tab
from selenium.webdriver import Chrome

from dpsr.evaluation.report.comparison_page import write_comparison_page
from dpsr.evaluation.report.model_comparison import evidence

from ...evaluation.small_comparison import small_comparison

LONG = "dpsr+bm25>dpsr+bm25+matchpyramid@1000"


@pytest.mark.parametrize(("width", "phone"), [(1300, False), (400, True)])
def test_a_comparison_is_readable_without_a_network(browser: Chrome, tmp_path: Path, width: int, phone: bool) -> None:
    comparison = small_comparison(LONG)
    page = write_comparison_page(tmp_path / "comparison.html", comparison, [evidence(comparison)])
    tab = Tab(browser, page.as_uri())
    tab.size(width, 900, phone=phone)
    browser.get(page.as_uri())
    assert tab.texts("th[scope=row]").count(LONG) > 1
    assert tab.script("return document.documentElement.scrollWidth") <= width
    assert tab.script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    for dark in (False, True):
        tab.dark(dark)
        assert tab.violations() == [], f"dark: {dark}"
    tab.dark(False)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert tab.console() == []
