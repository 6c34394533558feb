"""``dpsr search`` against a real server: filters, profile, TLS."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dpsr.cli.search import search
from dpsr.cli.tls import TlsFiles
from dpsr.config import Config, ConfigError, ServingConfig
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.servable import dense_servable
from dpsr.serving.errors import ServingError
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.server import ModelServer

from .conftest import K, Shop, make_shop


@pytest.fixture(scope="module")
def priced_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("priced"), categorical=("brand", "price"))


@pytest.fixture(scope="module")
def base_path(priced_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "shop"
    vectors = np.random.default_rng(1).normal(size=(len(priced_shop.dataset.item_ids), 16)).astype(np.float32)
    index = Index.build(vectors, K, queries=vectors[:0])
    dense_servable(priced_shop.model, priced_shop.dataset, index, filter_range=["price"]).save(path / "1")
    return path


@pytest.fixture(scope="module")
def server(base_path: Path, keys: Path) -> Iterator[int]:
    """The port of a server with mutual TLS."""
    options = {"tls_certificate": str(keys / "server.pem"), "tls_key": str(keys / "server.key")}
    config = ServingConfig(port=0, rest_port=-1, tls_client_ca=str(keys / "ca.pem"), **options)
    server = ModelServer([ServedModel("shop", base_path)], config)
    yield server.start()
    server.stop()


def found(config: Config, server: int, keys: Path, *filters: str, profile: tuple[str, ...] = ()) -> list[str]:
    """The ids of the items in the one table."""
    tls = TlsFiles(str(keys / "ca.pem"), str(keys / "client.pem"), str(keys / "client.key"))
    table = search(
        config, ["red shoe"], target=f"localhost:{server}", count=50, filters=filters, profile=profile, tls=tls
    )
    return [line.split()[4] for line in table.splitlines()[3:]]


def test_filters_leave_matching_items_alone(priced_shop: Shop, server: int, keys: Path) -> None:
    config, items = priced_shop.config, priced_shop.dataset.item_table().to_pylist()

    def ids(**limits: tuple[float, float] | str) -> set[str]:
        kept = items
        if "brand" in limits:
            kept = [item for item in kept if item["brand"] == limits["brand"]]
        if "price" in limits:
            least, most = limits["price"]
            kept = [item for item in kept if item["price"] is not None and least <= item["price"] <= most]
        return {item["item_id"] for item in kept}

    assert len(found(config, server, keys)) == K
    price = next(item["price"] for item in items if item["price"] is not None)
    for filters, matching in (
        (["brand=Acme"], ids(brand="Acme")),
        (["price=10..11.5"], ids(price=(10, 11.5))),
        (["price=..3"], ids(price=(-1, 3))),
        (["price=89.."], ids(price=(89, 1000))),
        ([f"price={price}"], ids(price=(price - 1e-6, price + 1e-6))),
        (["brand=零", "price=20..60"], ids(brand="零", price=(20, 60))),
    ):
        for profile in ((), ("home city=大阪",)):
            answer = found(config, server, keys, *filters, profile=profile)
            assert set(answer) <= matching, filters
            assert len(answer) == min(K, len(matching)) > 0, filters


def test_a_filter_that_the_server_does_not_have_is_named(priced_shop: Shop, server: int, keys: Path) -> None:
    for wrong in ("colour=red", "brand", "brand="):
        with pytest.raises(ConfigError, match=rf"--filter {wrong}: .* items are brand, price"):
            found(priced_shop.config, server, keys, wrong)
    with pytest.raises(ConfigError, match=r"--filter price=cheap: price is a number; expected price=FROM\.\.TO"):
        found(priced_shop.config, server, keys, "price=cheap")
    for empty in ("price=20..10", "price=nan", "price=nan..5"):
        with pytest.raises(ConfigError, match=rf"--filter {empty}: expected price=FROM\.\.TO with FROM <= TO"):
            found(priced_shop.config, server, keys, empty)


def test_an_answer_without_items_says_so(priced_shop: Shop, server: int, keys: Path) -> None:
    tls = TlsFiles(str(keys / "ca.pem"), str(keys / "client.pem"), str(keys / "client.key"))
    target, filters = f"localhost:{server}", ["brand=Nobody"]
    answer = search(priced_shop.config, ["red shoe"], target=target, count=5, filters=filters, tls=tls)
    assert answer.splitlines() == ["red shoe", "(no item found)"]


def test_the_server_is_only_reached_with_the_right_files(priced_shop: Shop, server: int, keys: Path) -> None:
    def ask(tls: TlsFiles) -> str:
        return search(priced_shop.config, ["red shoe"], target=f"localhost:{server}", count=3, tls=tls)

    ca, certificate, key = (str(keys / name) for name in ("ca.pem", "client.pem", "client.key"))
    assert len(ask(TlsFiles(ca, certificate, key)).splitlines()) == 3 + 3
    for refused in (TlsFiles(), TlsFiles(ca)):
        with pytest.raises(ServingError, match=f"UNAVAILABLE: localhost:{server}: .*; see whether a server runs there"):
            ask(refused)
    with pytest.raises(ServingError, match=rf"localhost:{server}: the certificate of the server is not accepted \("):
        ask(TlsFiles(certificate, certificate, key))
    for incomplete in (TlsFiles(ca, certificate), TlsFiles(ca, None, key), TlsFiles(None, certificate, key)):
        with pytest.raises(ConfigError, match="--cert and --key go together, and with --ca"):
            ask(incomplete)
    with pytest.raises(ConfigError, match=r"nothing\.pem: No such file"):
        ask(TlsFiles(str(keys / "nothing.pem")))


def test_without_a_server_the_way_to_start_one_is_told(priced_shop: Shop, tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        free = taken.getsockname()[1]
    config = priced_shop.config.model_copy(update={"serving": ServingConfig(host="localhost", port=free)})
    with pytest.raises(ServingError, match=f"UNAVAILABLE: localhost:{free}: .*; `dpsr serve` starts one there"):
        search(config, ["red shoe"], target=None, count=3)


def test_the_command_takes_filters_and_files(priced_shop: Shop, server: int, keys: Path, tmp_path: Path) -> None:
    from dpsr.cli import main

    folder = Path(priced_shop.config.work_dir).parent
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""name = "shop"
work_dir = "{priced_shop.config.work_dir}"
data.items = {{ path = "{folder}/items.parquet", categorical = ["brand", "price"] }}
data.users = {{ path = "{folder}/users.parquet", profile = ["age", "home city"] }}
data.interactions.path = "{folder}/interactions.parquet"
"""
    )
    files = ["--ca", str(keys / "ca.pem"), "--cert", str(keys / "client.pem"), "--key", str(keys / "client.key")]
    command = ["search", "-c", str(file), "red shoe", "--target", f"localhost:{server}", "--filter", "brand=Acme"]
    done = CliRunner().invoke(main, [*command, *files, "-k", "2"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 3 + 2


def test_a_history_of_a_shop_with_numbers_for_ids(tmp_path: Path) -> None:
    shop = make_shop(tmp_path, item_id_type="int64")
    with pytest.raises(ConfigError, match=r"--history abc: item ids of this shop are whole numbers"):
        search(shop.config, ["red shoe"], target=None, count=3, history=["abc"])
