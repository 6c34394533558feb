"""The command line: help without TensorFlow, exit codes, and errors that say what to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.tokenizer_cc import VocabularyBuilder
from dpsr.tokenizer_cc.subwords import train_subwords

COMMANDS = sorted(main.commands)


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and everything printed by one call of the command."""
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(
        f'name = "shop"\nwork_dir = "{tmp_path}/work"\n'
        f'[data.items]\npath = "{tmp_path}/items.csv"\n[data.interactions]\npath = "{tmp_path}/log.csv"\n'
    )
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    code, output = run(command, "--help")
    assert code == 0
    assert re.search(rf"Examples?: dpsr {command}\b", output)


def test_help_of_the_real_process_needs_no_tensorflow() -> None:
    code = "import sys; from dpsr.cli import main; main(['--help'], standalone_mode=False)"
    code += "; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "Missing option '-c'"),
        (["prepare", "-c", "nowhere.toml"], "nowhere.toml: no such configuration file"),
        (["prepare", "-c", "CONFIG", "--append", "--runner", "spark"], "--append goes with --runner local"),
        (["prepare", "-c", "CONFIG", "--spark-master", "local"], "--spark-master goes with --runner spark"),
        (["train", "-c", "CONFIG", "--set", "training.epoch=1"], "unknown key training.epoch"),
        (["evaluate", "-c", "CONFIG", "--split", "train"], "'train' is not one of 'valid', 'test'"),
        (["compare", "-c", "CONFIG"], "Missing option '--models'"),
        (["prapare"], "No such command 'prapare'"),
    ],
)
def test_wrong_usage_exits_with_2(config_file: Path, arguments: list[str], message: str) -> None:
    code, output = run(*[str(config_file) if argument == "CONFIG" else argument for argument in arguments])
    assert code == 2
    assert message in output


@pytest.mark.parametrize(
    "command",
    [["train"], ["evaluate"], ["compare", "--models", "all"], ["export"], ["search", "xbox"], ["explain", "xbox"]],
)
def test_a_missing_dataset_exits_with_1_and_says_what_to_run(config_file: Path, command: list[str]) -> None:
    code, output = run(command[0], "-c", str(config_file), *command[1:])
    assert code == 1
    assert str(config_file.parent / "work") in output
    assert "dpsr prepare" in output


def test_explain_shows_tokens_and_subwords(config_file: Path) -> None:
    folder = config_file.parent / "work" / "dataset"
    folder.mkdir(parents=True)
    texts = ["steel sink", "stainless steel hammer"]
    builder = VocabularyBuilder(max_vocabulary=50, min_count=1, oov_buckets=5, bigrams=True, trigrams=False)
    builder.add(texts)
    builder.build().save(folder / "tokenizer.model")
    code, output = run("explain", "-c", str(config_file), "steel zinks")
    assert code == 0
    assert "subword" not in output
    subwords = train_subwords(texts, kind="wordpiece", vocabulary=64, lowercase=True)
    subwords.save(folder / "subwords.model")
    code, output = run("explain", "-c", str(config_file), "steel zinks")
    assert code == 0
    words, pieces = output.split("\n\n")
    assert re.search(r"^steel +word +1 +2$", words, re.MULTILINE)
    shown = re.findall(r"^(\S+) +(\d+)$", pieces, re.MULTILINE)
    assert shown == [(token.text, str(token.id)) for token in subwords.tokens("steel zinks")]


def test_demo_keeps_a_directory_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not delete")
    code, output = run("demo", "--work-dir", str(tmp_path))
    assert code == 1
    assert "not written by `dpsr demo`" in output
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"
