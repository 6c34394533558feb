"""What a dataset directory holds: the record layout, the columns and the sizes of their tables.

Nothing here needs TensorFlow, so that every tool can read a dataset's description.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsr.errors import DpsrError

if TYPE_CHECKING:
    from dpsr.tokenizer_cc.subwords import SubwordTokenizer

INTERACTION = np.dtype([("query", "<i4"), ("user", "<i4"), ("item", "<i4"), ("event", "<i4"), ("history_end", "<i4")])
"""One interaction: rows of the three tables, the event, and how much of the user's history it may see."""

LABEL = np.dtype([("query", "<i4"), ("item", "<i4"), ("label", "<f4")])
"""One labelled pair of human supervision."""

AGE = np.dtype("<u2")
"""Of a record, in steps of the dataset."""

CLICK, PURCHASE, SKIP = 1, 2, 3
EVENTS = {"click": CLICK, "purchase": PURCHASE, "skip": SKIP}
SPLITS = ("train", "valid", "test")

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.model"
SUBWORDS_FILE = "subwords.model"
ITEMS_FILE = "items/items.arrow"
SKIPS_FILE = "supervision/skips.bin"
LABELS_FILE = "supervision/labels.npy"


def split_file(split: str) -> str:
    """The records of a split, relative to the dataset directory."""
    return f"interactions/{split}/part-00000.bin"


def ages_file(split: str) -> str:
    """The ages of a split's records, relative to the dataset directory; no file where the log has no times."""
    return f"interactions/{split}/ages.bin"


class DatasetError(DpsrError, ValueError):
    """Raw inputs or a dataset directory that cannot be used; the message says where, what and what to do."""


@dataclass(frozen=True)
class SubwordsSchema:
    """The subword vocabulary of a dataset: its size, and the ids of the special tokens by their role."""

    num_ids: int
    fingerprint: str
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def of(cls, tokenizer: SubwordTokenizer) -> SubwordsSchema:
        """Describes the vocabulary of a tokenizer."""
        return cls(
            num_ids=tokenizer.num_ids,
            fingerprint=tokenizer.fingerprint,
            pad=tokenizer.pad_id,
            unk=tokenizer.unk_id,
            cls=tokenizer.cls_id,
            sep=tokenizer.sep_id,
            mask=tokenizer.mask_id,
        )


@dataclass(frozen=True)
class Schema:
    """The columns of a dataset and the number of rows that each embedding table needs."""

    text: tuple[str, ...]
    categorical: dict[str, int]
    """Item column -> rows of its embedding table: 0 missing, 1..n the vocabulary, n + 1 out of vocabulary."""
    profile: dict[str, int]
    """User column -> rows of its embedding table, as for ``categorical``."""
    num_items: int
    num_users: int
    num_queries: int
    token_rows: int
    """``Tokenizer.num_ids``: padding, vocabulary and out-of-vocabulary buckets."""
    item_id_type: str
    """``string`` or ``int64``."""
    tokenizer_fingerprint: str
    numeric: tuple[str, ...] = ()
    """The columns of ``categorical`` whose ids are buckets of numbers."""
    subwords: SubwordsSchema | None = None
    """Of ``subwords.model``; None where the dataset has no subwords."""

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON object; without ``subwords`` where the dataset has none."""
        tree = asdict(self) | {"text": list(self.text), "numeric": list(self.numeric)}
        if self.subwords is None:
            del tree["subwords"]
        return tree

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Schema:
        """The schema of ``to_json``'s object.

        Raises:
            DatasetError: a field is missing or unknown.
        """
        try:
            found = tree | {"text": tuple(tree["text"]), "numeric": tuple(tree.get("numeric", ()))}
            if tree.get("subwords") is not None:
                found["subwords"] = SubwordsSchema(**tree["subwords"])
            return cls(**found)
        except (KeyError, TypeError) as error:
            raise DatasetError(f"not a schema of format {FORMAT_VERSION}: {error}; run `dpsr prepare` again") from None
