"""The configuration: defaults, overrides, and an error that names key, value and range for everything wrong."""

from pathlib import Path

import pytest

from dpsr.config import Config, ConfigError, FleetConfig, load_config, load_fleet_config

MINIMAL = """
name = "shop"
work_dir = "runs/shop"
[data.items]
path = "items.parquet"
[data.interactions]
path = "log.parquet"
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(MINIMAL)
    return path


def test_defaults_are_the_papers(config_file: Path) -> None:
    config = load_config(config_file)
    assert (config.model.dimension, config.model.heads) == (64, 2)
    assert (config.loss.kind, config.loss.margin, config.loss.group_size) == ("hinge", 0.1, 64)
    assert config.training.learning_rate == 0.01
    assert 0.5 <= config.loss.mixing_ratio <= 0.75


def test_without_a_log_the_catalogue_is_what_is_learnt_from(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(MINIMAL.partition("[data.interactions]")[0])
    with pytest.raises(ConfigError, match=r"training\.epochs = 5 learns from a log, and data\.interactions is missing"):
        load_config(path, ["pretraining.epochs=2"])
    assert load_config(path, ["pretraining.epochs=2", "training.epochs=0"]).data.interactions is None


def test_overrides_are_toml_values_or_bare_strings(config_file: Path) -> None:
    config = load_config(
        config_file,
        ["training.epochs=7", "loss.kind=softmax", "model.hidden=[8, 4]", "work_dir=elsewhere", "model.residual=true"],
    )
    assert config.training.epochs == 7
    assert config.loss.kind == "softmax"
    assert config.model.hidden == [8, 4]
    assert config.model.residual is True
    assert config.model_base_path == Path("elsewhere/servables/shop")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key training.epoch (known here: accumulate"),
        ("modle.heads=2", "unknown key modle (known here: cluster"),
        ("training.epochs=-1", "training.epochs = -1: input should be greater than or equal to 0"),
        (
            "training.epochs=0",
            "the epochs of mlm, interaction, pretraining, training and distillation are 0: one of them has to be above",
        ),
        ("mlm.epochs=1", "mlm.epochs = 1 trains a transformer, and model.text_encoder = 'bag'; set"),
        ("training.accumulate=8", "accumulate: not read by optimizer = 'adagrad'; set optimizer = 'adamw', 'lamb' or"),
        ("interaction.mask_share=1", "interaction.mask_share = 1: input should be less than 1"),
        ("pretraining.words=[4, 2]", "words = [4, 2]: the fewest words come first"),
        ("pretraining.text=['name']", "pretraining.text names name, but data.items.text has title"),
        ("pretraining.mixed_share=0.999", "leaves no row of a batch of"),
        ("loss.kind=triplet", "loss.kind = 'triplet': input should be 'hinge', 'softmax' or 'three_part'"),
        ("index.mode=words", "index.mode = 'words': input should be 'dense', 'lexical' or 'hybrid'"),
        ("index.lexical.popularity=-1", "index.lexical.popularity = -1: input should be greater than or equal to 0"),
        ("loss.mixing_ratio=1.5", "loss.mixing_ratio = 1.5: input should be less than or equal to 1"),
        ("training.epochs=many", "training.epochs = 'many': input should be a valid integer"),
        ("training.batch_size=65", "training.batch_size = 65 is not a multiple of loss.group_size = 64"),
        ("model.history_titles=3", "history_titles = 3 is more than history_length = 0"),
        ("data.test_share=0.96", "leave nothing to train on"),
        ("loss.head_column=department", "loss.head_column = 'department', but data.items.categorical has nothing"),
        ("data.users.path=u.parquet", "key data.users.profile is missing"),
        (
            "data.items.titel=x",
            "unknown key data.items.titel (known here: categorical, columns, numeric, numeric_buckets, path, text)",
        ),
        ("data.items.path=${DPSR_NOT_SET_ANYWHERE}/x", "environment variable DPSR_NOT_SET_ANYWHERE is not set"),
        ("name=a/b", "name = 'a/b': string should match pattern"),
        ("training.epochs", "--set training.epochs: expected section.key=value"),
        ("name.first=x", "--set name.first=x: name is a value, not a section"),
    ],
)
def test_bad_values_are_named(config_file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_file, [override])
    assert message in str(error.value)


@pytest.mark.parametrize("option", ["loss.head_column=brand", "model.head_tables=true"])
def test_options_that_distinguish_heads_need_two(config_file: Path, option: str) -> None:
    overrides = ["data.items.categorical=['brand']", option]
    assert load_config(config_file, [*overrides, "model.heads=2"]).model.heads == 2
    with pytest.raises(ConfigError, match=r"model\.heads = 1 is a single one; set 2 or more"):
        load_config(config_file, [*overrides, "model.heads=1"])


@pytest.mark.parametrize(("batch_size", "steps"), [(64, 16), (256, 16), (512, 8), (8192, 1)])
def test_dense_layers_are_exchanged_after_16_steps_or_4096_examples(
    config_file: Path, batch_size: int, steps: int
) -> None:
    assert load_config(config_file).cluster.dense_sync_steps_at(batch_size) == steps
    assert load_config(config_file, ["cluster.dense_sync_steps=5"]).cluster.dense_sync_steps_at(batch_size) == 5


def test_every_problem_is_reported_at_once(config_file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_file, ["training.epochs=-1", "model.heads=0", "foo=1"])
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("cluster.dense_every=8", "cluster.dense_every is now called cluster.dense_sync_steps; rename the key"),
        (
            "index.filter_candidates=8",
            "index.filter_candidates is no longer a key; leave it out: a filter finds k items whenever k match",
        ),
        ("evaluation.dssm=true", 'evaluation.dssm is no longer a key; list "dssm" in evaluation.baselines instead'),
    ],
)
def test_a_key_of_an_earlier_release_is_an_error_that_names_its_successor(
    config_file: Path, override: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_file, [override])
    assert str(error.value).endswith(remedy)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml: no such configuration file"):
        load_config(tmp_path / "no.toml")
    (tmp_path / "broken.toml").write_text("name = \n")
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        load_config(tmp_path / "broken.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(ConfigError, match="key name is missing"):
        load_config(tmp_path / "empty.toml")


def test_a_byte_order_mark_is_not_part_of_the_first_key(config_file: Path) -> None:
    without = load_config(config_file)
    config_file.write_bytes(b"\xef\xbb\xbf" + config_file.read_bytes())
    assert load_config(config_file) == without


def test_environment_variables_in_paths(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    override = ["data.items.path=${DPSR_TEST_ROOT:-fallback}/items.parquet"]
    monkeypatch.delenv("DPSR_TEST_ROOT", raising=False)
    assert load_config(config_file, override).data.items.path == "fallback/items.parquet"
    monkeypatch.setenv("DPSR_TEST_ROOT", "/somewhere")
    assert load_config(config_file, override).data.items.path == "/somewhere/items.parquet"


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "examples").glob("*.toml")), ids=lambda p: p.name
)
def test_examples_are_valid(path: Path) -> None:
    if path.name == "fleet.toml":
        assert isinstance(load_fleet_config(path), FleetConfig)
    else:
        assert isinstance(load_config(path), Config)
