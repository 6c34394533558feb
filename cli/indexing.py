"""``dpsr export``."""

from __future__ import annotations

import click

from dpsr.cli.options import with_config
from dpsr.config import Config


@click.command()
@with_config
@click.option("--items", metavar="FILE", help="Serve these items (file or glob) instead of the dataset's.")
@click.option("--log", metavar="FILE", help="Remember these clicks (file or glob) instead of the run's own log.")
@click.option(
    "--since", metavar="VERSION", help="Take over the index of a published version (its number, or 'latest')."
)
def export(config: Config, items: str | None, log: str | None, since: str | None) -> None:
    """Publish tokenizer, query tower and item index as the next version of one servable.

    With --items the trained model indexes another catalogue, which may hold items that it has never seen. With --log
    the servable remembers the clicks of another log ([index.memory]): last week's, without training.

    With index.mode = "lexical" the servable finds items by words alone, and no model is needed.

    With --since only new and changed items are embedded, and searched exactly beside the index of that version.

    \b
    Example: dpsr export -c shop.toml --items today.parquet --log week.parquet
             dpsr export -c shop.toml --items today.parquet --since latest
    """
    from dpsr.data.dataset.tables import Dataset

    dataset = Dataset.load(config.dataset_dir)  # a missing dataset is said before TensorFlow is imported
    from dpsr.indexing.lexical.tuned import lexical_text
    from dpsr.indexing.lexical_export import export_lexical
    from dpsr.indexing.manifest import read_manifest, searcher_table
    from dpsr.indexing.publish import export as run
    from dpsr.indexing.text_encoder import text_encoder_line
    from dpsr.model.trained import load_model

    if config.index.mode == "lexical":
        version = export_lexical(config, dataset, items=items, log=log, since=since)
    else:
        version = run(config, dataset, load_model(config, dataset), items=items, log=log, since=since)
    manifest = read_manifest(version)
    click.echo(searcher_table(version))
    if lexical := manifest["searchers"].get("lexical"):
        click.echo(f"words: BM25 with {lexical_text(lexical)}")
    if line := text_encoder_line(manifest):
        click.echo(line)
    click.echo(f"servable: {version}")
