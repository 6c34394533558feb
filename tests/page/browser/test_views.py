"""What holds of the page in every state: accessible, light and dark, on a phone too; and that no text is lost."""

from __future__ import annotations

import pytest
from browsing import Tab
from states import STATES

PHONE = (360, 740)


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_accessible_light_and_dark_and_fits_a_phone(tab: Tab, state: str) -> None:
    STATES[state](tab)
    for dark in (False, True):
        tab.dark(dark)
        assert tab.violations() == [], f"dark: {dark}"
    tab.size(*PHONE, phone=True)
    width, wide = tab.script(
        "const outside = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361"
        " && !e.closest('.scroll, .quiet, .skip') && getComputedStyle(e).position !== 'fixed');"
        "return [document.documentElement.scrollWidth, outside.slice(0, 3).map(e => e.outerHTML.slice(0, 200))]"
    )
    assert width <= PHONE[0], wide
    assert tab.violations() == [], "phone"


def test_the_dark_page_is_dark(tab: Tab) -> None:
    brightness = "return getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    tab.dark(False)
    light = tab.script(brightness)
    tab.dark(True)
    assert sum(tab.script(brightness)) < 200 < 600 < sum(light)


def test_the_page_speaks_to_its_own_server_alone(tab: Tab) -> None:
    tab.fresh("#search?q=phone", images=False)
    tab.one("#columns[data-query=phone][aria-busy=false] .card")
    asked = tab.script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked
    assert all(address.startswith(f"{tab.address}/") for address in asked), asked


def test_a_list_of_all_results_is_whole(tab: Tab) -> None:
    tab.fresh("#search?q=phone&n=1000")
    tab.until(lambda: len(tab.ids()) == 200, "as many as the servable answers")
    tab.script("window.scrollTo(0, document.body.scrollHeight)")
    assert tab.all("#cards-0 .card")[-1].is_displayed()
