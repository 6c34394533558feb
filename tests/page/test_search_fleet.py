"""Searches of the page through a real fleet: the variants of an alias."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from page_shop import NAME

from dpsr.config import Config
from dpsr.data.judgements.records import Column
from dpsr.page.contract import SearchRequest
from dpsr.page.search.searcher import Searcher
from dpsr.serving.fleet.up import free_ports

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")


@pytest.fixture(scope="module")
def target(shop_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fleet whose alias of the shop's name has both versions as variants, the first for all requests."""
    folder = tmp_path_factory.mktemp("fleet")
    ports = dict(zip(("port", "rest_port", "metrics_port"), free_ports(3), strict=True))
    text = f'state_dir = "{folder}/state"\n'
    for version in (1, 2):
        base = folder / f"{NAME}_v{version}"
        shutil.copytree(shop_config.model_base_path / str(version), base / str(version))
        text += f'[models.{base.name}]\nbase_path = "{base}"\n'
    text += f"[aliases.{NAME}]\nvariants = {{ {NAME}_v1 = 999999, {NAME}_v2 = 1 }}\n"
    text += "[proxy]\n" + "".join(f"{name} = {port}\n" for name, port in ports.items())
    file = folder / "fleet.toml"
    file.write_text(text, encoding="utf-8")
    log = folder / "up.log"
    command = [sys.executable, "-m", "dpsr.cli", "fleet"]
    with log.open("wb") as output:
        up = subprocess.Popen([*command, "up", "-c", str(file), "--local", "1"], stdout=output, stderr=output)
    try:
        waiting = [*command, "status", "-c", str(file), "--wait", "120"]
        while subprocess.run(waiting, check=False, capture_output=True).returncode:
            assert up.poll() is None, log.read_text()
        yield f"127.0.0.1:{ports['port']}"
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)


def test_variants_of_an_alias_are_columns(shop_config: Config, target: str) -> None:
    alone = shop_config.model_copy(
        update={"serving": shop_config.serving.model_copy(update={"model_config_file": None})}
    )
    searcher = Searcher(alone, target, None)
    try:
        variants = [column for column in searcher.shop().columns if column.variant]
        assert [column.variant for column in variants] == [f"{NAME}_v1", f"{NAME}_v2"]
        columns = (Column(), *variants)
        results = searcher.search(SearchRequest(query="phone for grandpa", columns=columns)).results
        assert [result.error for result in results] == [None, None, None]
        assert [result.version for result in results] == [1, 1, 2]
        assert [result.title for result in results] == ["as served", f"{NAME}_v1", f"{NAME}_v2"]
        assert results[0].items == results[1].items != results[2].items
        assert [searcher.version(column) for column in variants] == [1, 2]
        (wrong,) = searcher.search(SearchRequest(query="phone", columns=(Column(variant="shop_v9"),))).results
        assert "is no variant of" in (wrong.error or "")
    finally:
        searcher.close()
