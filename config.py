"""The configuration of a run: one TOML file, typed and checked before anything starts.

Every section is a frozen pydantic model whose defaults are the paper's (DPSR, SIGIR 2020, section 4.1) where the
paper gives one. ``load_config`` reads a file, applies ``section.key=value`` overrides, and reports every problem at
once, each with the key, what was found and what is allowed.

Example:
    >>> config = load_config("examples/bestbuy_xbox.toml", ["training.epochs=3"])
    >>> config.training.epochs
    3
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from dpsr.errors import DpsrError

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


class ConfigError(DpsrError, ValueError):
    """A configuration that cannot be used; the message names every offending key."""


def _expand_variables(path: str) -> str:
    """Replaces ``${NAME}`` and ``${NAME:-default}`` by environment variables."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise ValueError(
                f"environment variable {match['name']} is not set; set it, or write ${{{match['name']}:-DEFAULT}}"
            )
        return found

    return _VARIABLE.sub(value, path)


PathName = Annotated[str, Field(min_length=1), pydantic.AfterValidator(_expand_variables)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Section):
    """One raw input: a path and its column names.

    The path is a file or a glob of ``.parquet``, ``.csv`` or ``.jsonl`` files, the latter two also ``.gz`` or ``.zst``.

    ``columns`` maps a name of the contract (``item_id``, ``query``, ...) to the column of the file; a name that is not
    mapped is looked up under itself.
    """

    path: PathName
    columns: dict[str, str] = {}


class ItemsConfig(SourceConfig):
    """The catalogue: ``item_id``, the ``text`` columns (tokenized), the ``categorical`` columns (one value each)."""

    text: Annotated[list[str], Field(min_length=1)] = ["title"]
    categorical: list[str] = []
    numeric: list[str] = []
    """Columns of numbers, as prices; each becomes ``numeric_buckets`` buckets with equally many items."""
    numeric_buckets: Annotated[int, Field(ge=2, le=10_000)] = 20


class UsersConfig(SourceConfig):
    """The users: ``user_id`` and the categorical ``profile`` columns."""

    profile: Annotated[list[str], Field(min_length=1)]


class InteractionsConfig(SourceConfig):
    """The log: ``query``, ``item_id`` and, where the file has them, ``user_id``, ``timestamp`` and ``event``."""


class SupervisionConfig(SourceConfig):
    """Labelled pairs: ``query``, ``item_id`` and ``label``, a number."""


class DataConfig(_Section):
    """Raw inputs, and how ``dpsr prepare`` turns them into a dataset directory."""

    items: ItemsConfig
    interactions: InteractionsConfig | None = None
    """Without a log all is learnt from the catalogue: ``training.epochs = 0`` and ``pretraining``."""
    users: UsersConfig | None = None
    supervision: SupervisionConfig | None = None
    valid_share: Share = 0.05
    """Share of the interactions, before the test period by time, that choose the checkpoint."""
    test_share: Share = 0.10
    """Share of the interactions, the latest by time, that are only ever evaluated on."""
    max_rejected_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """The job fails above this share of unusable rows in any one input."""
    min_category_count: Annotated[int, Field(ge=1)] = 1
    """Rarer values of a categorical column share the out-of-vocabulary id."""
    user_id_key_variable: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Environment variable with a secret key: the dataset then has hashed user ids only."""


class TokenizerConfig(_Section):
    """How the vocabulary is made; the outcome is ``tokenizer.model``."""

    max_vocabulary: Annotated[int, Field(ge=1, le=1 << 30)] = 500_000
    """At most so many tokens get an id of their own, the commonest first."""
    max_words: Annotated[int, Field(ge=0)] | None = None
    """At most so many of them are words; without it, ``max_vocabulary`` is the only limit. So with the next two."""
    max_bigrams: Annotated[int, Field(ge=0)] | None = None
    max_trigrams: Annotated[int, Field(ge=0)] | None = None
    min_count: Annotated[int, Field(ge=1)] = 2
    """They are in at least so many texts."""
    oov_buckets: Annotated[int, Field(ge=1, le=1 << 24)] = 10_000
    """Ids that all other tokens share, by their hash."""
    bigrams: bool = True
    trigrams: bool = True


class ModelConfig(_Section):
    """The two towers (paper, section 4.2)."""

    dimension: Annotated[int, Field(ge=2, le=1024)] = 64
    heads: Annotated[int, Field(ge=1, le=16)] = 2
    hidden: list[Annotated[int, Field(ge=1)]] = [128]
    """Widths of the hidden ReLU layers of both towers."""
    residual: bool = False
    """Adds the input of a tower to its output, whose last layer starts at zero: learns from far fewer clicks."""
    shared_tokens: bool = False
    """One token table for both towers instead of one each."""
    head_tables: bool = False
    """Every head has a table of query tokens and layers of its own, and adds what it finds there to what all share."""
    profile: bool = True
    """Use the user profile (DPSR-p) where the dataset has one."""
    history_length: Annotated[int, Field(ge=0, le=1000)] = 0
    """Use the last so many items of a user (DPSR-h); 0 leaves the history out."""
    history_titles: Annotated[int, Field(ge=0, le=1000)] = 0
    """Of the last so many of these items the first words of the title too: items of few clicks tell more by them."""
    history_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Every item of the history weighs this share of the next, later one."""
    attention_temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """beta of the soft dot product (paper, equation 3)."""
    combiner: Literal["sqrtn", "sqrtn_by_kind", "mean", "sum"] = "sqrtn"
    """How a bag of ids becomes one vector: the sum of its rows over the square root of their number, or over it.
    ``sqrtn_by_kind`` does so for words, bigrams and trigrams of a text apart, and adds the three: the many trigrams no
    longer drown the words."""
    initial_scale: Annotated[float, Field(gt=0.0)] = 0.1
    """Standard deviation of freshly initialised embeddings; those of users and histories, a tenth of it."""
    initial_idf: bool = False
    """Freshly initialised embeddings of rare tokens are longer than those of frequent ones."""

    @property
    def reads_tokenizer(self) -> bool:
        """Whether a fresh model has to know the tokenizer."""
        return self.initial_idf or self.combiner == "sqrtn_by_kind"

    @pydantic.model_validator(mode="after")
    def _titles_are_of_the_history(self) -> ModelConfig:
        if self.history_titles > self.history_length:
            raise ValueError(
                f"history_titles = {self.history_titles} is more than history_length = {self.history_length}; "
                "titles are read of items of the history"
            )
        return self


class LossConfig(_Section):
    """What a training step minimises, and over which negatives (paper, sections 4.3 and 4.4)."""

    kind: Literal["hinge", "softmax", "three_part"] = "hinge"
    margin: Annotated[float, Field(gt=0.0, le=2.0)] = 0.1
    """delta of the hinge loss, in cosine."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.07
    """Temperature of the sampled softmax."""
    thresholds: tuple[float, float, float] = (0.9, 0.55, 0.2)
    """Of ``three_part``: the least score of a positive, the most of a hard negative, the most of any other item."""
    mixing_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """alpha: the share of random negatives in a query's negative set."""
    group_size: Annotated[int, Field(ge=2)] = 64
    """b: rows whose positives are each other's batch negatives; the batch size is a multiple of it."""
    popularity_correction: bool = False
    """Softmax only: makes up for batch negatives being popular items, who would else be pushed away too often."""
    mask_clicked: bool = False
    """An item that the query led to anywhere in the training log is no negative of it."""
    head_column: str | None = None
    """Item column that tells the meanings of a query apart, in place of the soft dot product: head i learns from the
    clicks on the query's i-th commonest value, the last head from those on all further ones."""
    hard_negatives: Annotated[int, Field(ge=0, le=100)] = 0
    """Items labelled as wrong for a query, or else skipped most often there, as negatives of that query alone."""

    @pydantic.model_validator(mode="after")
    def _correction_needs_softmax(self) -> LossConfig:
        if self.popularity_correction and self.kind != "softmax":
            raise ValueError(f"popularity_correction is for kind = 'softmax', not for kind = {self.kind!r}")
        if not self.thresholds[0] >= self.thresholds[1] >= self.thresholds[2]:
            raise ValueError(f"thresholds = {self.thresholds} have to fall: positive, hard negative, any other")
        return self


class PretrainingConfig(_Section):
    """What is learnt from the catalogue alone, before and beside the log: random words of an item find the item.

    After Van Gysel et al., Learning Latent Vector Spaces for Product Search (CIKM 2016).
    """

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the catalogue before the first over the log, with other words in each."""
    words: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 5)
    """The fewest and the most words of such a query."""
    text: Annotated[list[str], Field(min_length=1)] | None = None
    """Text columns that the words come from; all of ``data.items.text`` without it."""
    mixed_share: Share = 0.0
    """Share of the examples of every later step that are items with words of their own, so that these stay known."""

    @pydantic.model_validator(mode="after")
    def _words_rise(self) -> PretrainingConfig:
        if self.words[0] > self.words[1]:
            raise ValueError(f"words = {list(self.words)}: the fewest words come first")
        return self


class TrainingConfig(_Section):
    """The optimiser and the schedule."""

    epochs: Annotated[int, Field(ge=0)] = 5
    """Passes over the log; 0 leaves it at the pre-training."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """AdaGrad on the dense layers."""
    table_learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """Sparse AdaGrad on the embedding tables."""
    initial_accumulator: Annotated[float, Field(gt=0.0)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 0
    """Stops after so many epochs without a better ``valid_top1``; 0 never does."""
    token_dropout: Share = 0.0
    """Share of the query tokens that a step leaves out at random: answers to misspelt queries get better."""
    typo_share: Share = 0.0
    """Share of the queries that a step reads with one random letter left out, put in, replaced or swapped."""
    seed: int = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3


# More steps on copies cost accuracy where they are many of an epoch's, fewer cost bytes (docs/cluster.md).
_DENSE_STEPS, _DENSE_EXAMPLES = 16, 4096


class ClusterConfig(_Section):
    """Training on a cluster of workers and parameter servers (docs/cluster.md)."""

    wire: Literal["float32", "bfloat16"] = "float32"
    """Type of embeddings and their gradients on the network; ``bfloat16`` halves the bytes and rounds."""
    dense_sync_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps that a worker takes on its own copies of the dense layers before it sends what changed in them; 1 sends
    the gradients of every step. Without it 16, or fewer that make 4,096 examples."""
    split_above_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    """A table with more bytes is split by rows over parameter servers; a smaller one is whole on one."""
    examples_per_call: Annotated[int, Field(ge=1)] = 8192
    """Examples that a worker is given at once; at most so many are done twice when it dies."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 600.0
    """Time between checkpoints: what is lost when a parameter server or the chief dies."""
    start_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds that a task waits for those that it needs, at the start and after a failure."""
    stall_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds without a step anywhere after which the training counts as failed."""
    max_restarts: Annotated[int, Field(ge=0)] = 20
    """How often the chief goes on from the last checkpoint by itself, after a parameter server has died; and how often
    ``dpsr cluster up`` starts each task again."""


class LabelsConfig(SourceConfig):
    """Judged pairs, a Parquet file: ``query``, ``item_id`` and ``label``, the higher the better."""

    positive_from: float = 1.0
    """Pairs with at least this label are relevant."""
    graded: bool = True
    """nDCG takes a relevant pair's label, a whole number, as its gain; else every relevant pair counts 1."""


class EvaluationConfig(_Section):
    """Which examples are scored, and against how many candidates (paper, section 5.1)."""

    max_examples: Annotated[int, Field(ge=1)] = 10_000
    candidates: Annotated[int, Field(ge=2)] = 1024
    """Top-k is measured among this many items: the clicked one and random others."""
    slice_by: list[str] = []
    """Profile columns of the user, or categorical columns of the clicked item (as a language), to measure apart by."""
    senses: PathName | None = None
    """A Parquet file of what queries may mean: ``query``, and the values of one categorical item column."""
    dssm: bool = False
    """Trains DSSM, with skipped items as negatives, on the same log, and compares with it."""
    labels: LabelsConfig | None = None
    """Judged pairs that are measured too: AUC, and ranked lists with gains."""


class IndexConfig(_Section):
    """The nearest-neighbour index inside the servable."""

    k: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Items returned for a query."""
    exact_below: Annotated[int, Field(ge=0)] = 20_000
    """Catalogues smaller than this are searched exactly."""
    min_recall: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """The index's recall@k against exact search below which nothing is published."""
    keep_versions: Annotated[int, Field(ge=0)] = 5
    """Published versions that stay when a newer one is published, the newest included; 0 keeps all."""
    filter_range: list[str] = []
    """Numeric item columns that a request may restrict to a range; categorical ones can always be filtered by."""
    filter_candidates: Annotated[int, Field(ge=1)] = 20_000
    """Items of each head that a filter looks among: k matching ones are found if there are k among these."""
    precision: Literal["float32", "int8"] = "float32"
    """Of the vectors inside an approximate index; ``int8`` takes a quarter of the memory and rounds the scores."""


class ServingConfig(_Section):
    """Where the server listens, what it serves and what it refuses."""

    host: str = "127.0.0.1"
    port: Port = 8500
    """gRPC port; 0 takes a free one."""
    rest_port: Annotated[int, Field(ge=-1, le=65535)] = 8501
    """Port of the REST interface and of the metrics; 0 takes a free one, -1 turns both off."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the ports, each with models of its own in memory."""
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    """Requests of one process beyond this many at once are refused with RESOURCE_EXHAUSTED."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 4 << 20
    """Larger requests are refused before they are read."""
    max_batch_rows: Annotated[int, Field(ge=1)] = 1024
    """Rows of one request."""
    max_query_bytes: Annotated[int, Field(ge=1)] = 4096
    """Bytes of one text in a request, after decoding."""
    log_requests: Literal["none", "failed", "all"] = "failed"
    """Which requests get a line in the log."""
    reflection: bool = False
    """Lets gRPC clients list the services."""
    tls_certificate: PathName | None = None
    """PEM file; both interfaces are encrypted then."""
    tls_key: PathName | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: PathName | None = None
    """PEM file; only clients with a certificate of this authority are heard then."""
    model_config_file: PathName | None = None
    """A text ``ModelServerConfig`` of TensorFlow Serving: several models, version policies, labels."""
    model_config_poll_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """How often that file is read again; 0 never."""

    @pydantic.model_validator(mode="after")
    def _tls_is_whole(self) -> ServingConfig:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self


class Config(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """The model's name, as clients ask for it."""
    work_dir: PathName
    """Everything that a run writes lands below this directory."""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    training: TrainingConfig = TrainingConfig()
    cluster: ClusterConfig = ClusterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    serving: ServingConfig = ServingConfig()

    @pydantic.model_validator(mode="after")
    def _batch_is_whole_groups(self) -> Config:
        if self.training.batch_size % self.loss.group_size:
            raise ValueError(
                f"training.batch_size = {self.training.batch_size} is not a multiple of "
                f"loss.group_size = {self.loss.group_size}"
            )
        if self.data.valid_share + self.data.test_share >= 1.0:
            raise ValueError("data.valid_share + data.test_share leave nothing to train on; their sum must be below 1")
        return self

    @pydantic.model_validator(mode="after")
    def _heads_have_meanings(self) -> Config:
        column, columns = self.loss.head_column, self.data.items.categorical
        if column is not None and column not in columns:
            raise ValueError(
                f"loss.head_column = {column!r}, but data.items.categorical has {', '.join(columns) or 'nothing'}"
            )
        if self.model.heads == 1 and (column is not None or self.model.head_tables):
            option = "model.head_tables" if column is None else "loss.head_column"
            raise ValueError(f"{option} tells heads apart, and model.heads = 1 leaves only one; set 2 or more")
        return self

    @pydantic.model_validator(mode="after")
    def _something_is_learnt(self) -> Config:
        if not self.training.epochs + self.pretraining.epochs:
            raise ValueError("training.epochs = 0 and pretraining.epochs = 0: one of them has to be above 0")
        if self.training.epochs and self.data.interactions is None:
            raise ValueError(
                f"training.epochs = {self.training.epochs} learns from a log, and data.interactions is missing; name "
                "the log there, or set training.epochs = 0 and pretraining.epochs above 0 to learn from the catalogue"
            )
        unknown = set(self.pretraining.text or ()) - set(self.data.items.text)
        if unknown:
            raise ValueError(
                f"pretraining.text names {', '.join(sorted(unknown))}, but data.items.text has "
                f"{', '.join(self.data.items.text)}"
            )
        if self.mixed_rows >= self.training.batch_size:
            raise ValueError(
                f"pretraining.mixed_share = {self.pretraining.mixed_share:g} leaves no row of a batch of "
                f"{self.training.batch_size} for the log"
            )
        return self

    @property
    def mixed_rows(self) -> int:
        """Examples of a training step that are items with words of their own."""
        return round(self.pretraining.mixed_share * self.training.batch_size)

    @property
    def dense_sync_steps(self) -> int:
        """Steps of a worker of a cluster between two exchanges of the dense layers."""
        of_examples = _DENSE_EXAMPLES // self.training.batch_size
        return self.cluster.dense_sync_steps or max(1, min(_DENSE_STEPS, of_examples))

    @property
    def dataset_dir(self) -> Path:
        """The dataset directory that ``dpsr prepare`` writes."""
        return Path(self.work_dir) / "dataset"

    @property
    def checkpoint_dir(self) -> Path:
        """The checkpoints that ``dpsr train`` writes."""
        return Path(self.work_dir) / "checkpoints"

    @property
    def model_base_path(self) -> Path:
        """The directory of versions that ``dpsr export`` publishes to and ``dpsr serve`` reads."""
        return Path(self.work_dir) / "servables" / self.name


class _ServingOnly(_Section):
    serving: ServingConfig = ServingConfig()


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Reads and checks a configuration file.

    Args:
        path: a TOML file.
        overrides: ``section.key=value`` strings; the value is TOML, or else a bare string.

    Raises:
        ConfigError: the file is missing or is no TOML, or a key is unknown, missing or out of its range.
    """
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, str(path))


def load_serving_config(overrides: Sequence[str] = ()) -> ServingConfig:
    """The ``[serving]`` section of a server that has no configuration file: defaults and overrides.

    Raises:
        ConfigError: as ``load_config``.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    try:
        return _ServingOnly.model_validate(tree).serving
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain("--set", problem) for problem in error.errors())) from None


def parse_config(tree: dict[str, Any], origin: str) -> Config:
    """Checks a configuration that is already a tree of tables; ``origin`` names it in errors.

    Raises:
        ConfigError: as ``load_config``.
    """
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(origin, problem) for problem in error.errors())) from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    tree[parts[-1]] = value


def _explain(origin: str, problem: Any) -> str:
    """One line for one pydantic error: the key, what was found, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_keys_of_section(problem["loc"][:-1]))
        return f"{origin}: unknown key {key} (known here: {known})"
    if problem["type"] == "missing":
        return f"{origin}: key {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{origin}: {message}"
    return f"{origin}: {key} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"


def _keys_of_section(location: Sequence[int | str]) -> list[str]:
    section: Any = Config
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        options = getattr(annotation, "__args__", (annotation,))
        section = next(option for option in options if isinstance(option, type) and issubclass(option, _Section))
    return sorted(section.model_fields)
