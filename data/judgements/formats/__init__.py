"""Files of judgements as other tools write and read them.

A file has one grade for each pair: of several judges the mean, rounded half up. An import gives its judgements to one
judge; a pair that a file has twice has its last grade. Rows without a query, an item id or a grade from 0 to 3 are left
out and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.formats import qrels, quepid_csv, workbench
from dpsr.data.judgements.formats.rows import judged
from dpsr.data.judgements.records import Judgement

__all__ = ["FORMATS", "Format", "export_judgements", "import_judgements"]

Format = Literal["qrels", "csv", "workbench", "labels"]
FORMATS: tuple[Format, ...] = get_args(Format)
_WRITERS = {"qrels": qrels.write, "csv": quepid_csv.write, "workbench": workbench.write}
_READERS = {"qrels": qrels.read, "csv": quepid_csv.read, "workbench": workbench.read}


def export_judgements(format: Format, judgements: Iterable[Judgement]) -> bytes:
    """Writes judgements as a file.

    Args:
        format: ``qrels`` (TREC), ``csv`` (Quepid), ``workbench`` (OpenSearch Search Relevance Workbench) or ``labels``
            (Parquet for ``evaluation.labels``).
        judgements: of one or several judges.
    """
    if format == "labels":
        from dpsr.data.judgements.formats import labels  # pyarrow, which the others do without

        return labels.write(judgements)
    return _WRITERS[format](judgements)


def import_judgements(format: Format, content: bytes, book: str, judge: str) -> tuple[list[Judgement], list[str]]:
    """Reads judgements of a file; ``JudgementStore.judge_many`` keeps them, all or none.

    Args:
        format: as for ``export_judgements``.
        content: of the file.
        book: which book the judgements are in.
        judge: whose they are.

    Returns:
        The judgements, and line (of JSON the query and the rating, of Parquet the row) and reason of every row that
        was left out.

    Raises:
        JudgementError: the file as a whole is not of the format.
    """
    if format == "labels":
        from dpsr.data.judgements.formats import labels

        return judged(labels.read(content), book, judge)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JudgementError(f"line {line}: the file is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    return judged(_READERS[format](text), book, judge)
