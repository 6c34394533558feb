"""The store: nothing answered is lost, nothing is half kept, every text comes back as it was given."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpsr.data.judgements.errors import ExistingRecordError, MissingRecordError, StoreError
from dpsr.data.judgements.records import BadCase, Book, BookQuery, Column, Judgement, Snapshot
from dpsr.data.judgements.store import JudgementStore

HOSTILE = [
    "<script>alert(1)</script>",
    "'; DROP TABLE books; --",
    "nul\0inside",
    "control \x01\x1b[31m\x7f\x85",
    "bidi \u202eabc\u202c \u2067x\u2069",
    "line\nend\r\nand\ttab",
    "  spaces around  ",
    "",
    "\ufeffbom",
    "שלום 靴 👟",
    "x" * 10_000,
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JudgementStore]:
    opened = JudgementStore(tmp_path / "kept" / "judgements.sqlite")
    opened.add_book(Book(name="b", queries=(BookQuery(query="red shoes"), BookQuery(query="mug", weight=3.0))))
    yield opened
    opened.close()


def judgement(
    item: str, grade: int | None = 2, *, judge: str = "ann", query: str = "red shoes", book: str = "b"
) -> Judgement:
    return Judgement(book=book, judge=judge, query=query, item_id=item, grade=grade)


# ----------------------------------------------------------------------------------------- what is kept


def test_a_book_comes_back_with_how_far_judges_came(store: JudgementStore) -> None:
    assert store.book("b").created_at > 1e9
    store.judge_many([judgement("1"), judgement("2"), judgement("1", judge="bob"), judgement("1", query="new")])
    assert store.book("b").queries == (
        BookQuery(query="red shoes", judged={"ann": 2, "bob": 1}),
        BookQuery(query="mug", weight=3.0),
        BookQuery(query="new", judged={"ann": 1}),
    )
    store.add_book(Book(name="a"))
    assert [book.name for book in store.books()] == ["a", "b"]
    assert store.books()[1] == store.book("b")


def test_a_name_stands_for_one_book(store: JudgementStore) -> None:
    with pytest.raises(ExistingRecordError, match="'b' exists"):
        store.add_book(Book(name="b", queries=(BookQuery(query="other"),)))
    assert [query.query for query in store.book("b").queries] == ["red shoes", "mug"]


def test_a_removed_book_takes_its_judgements_and_no_others(store: JudgementStore) -> None:
    store.add_book(Book(name="other"))
    store.judge_many([judgement("1"), judgement("1", book="other")])
    store.remove_book("b")
    assert [each.book for each in store.judgements()] == ["other"]
    store.add_book(Book(name="b"))
    assert store.judgements(book="b") == []


def test_a_later_judgement_replaces_and_none_takes_away(store: JudgementStore) -> None:
    first = store.judge(judgement("1", 1).model_copy(update={"comment": "so so", "judged_at": 5.0}))
    assert first.judged_at > 1e9, "the time is the store's"
    assert store.judgements() == [first]
    second = store.judge(judgement("1", 3))
    assert store.judgements() == [second]
    store.judge(judgement("1", 0, judge="bob"))
    store.judge(judgement("1", None))
    assert [each.judge for each in store.judgements()] == ["bob"]
    store.judge(judgement("never judged", None, query="new"))
    assert [query.query for query in store.book("b").queries] == ["red shoes", "mug"]


def test_judgements_are_found_by_book_judge_and_query(store: JudgementStore) -> None:
    store.add_book(Book(name="other"))
    pairs = [("b", "ann", "mug"), ("b", "ann", "red shoes"), ("b", "bob", "mug"), ("other", "ann", "mug")]
    store.judge_many([judgement("1", book=book, judge=judge, query=query) for book, judge, query in pairs])

    def found(**given: str) -> set[tuple[str, str, str]]:
        return {(each.book, each.judge, each.query) for each in store.judgements(**given)}

    assert found() == set(pairs)
    assert found(book="b") == set(pairs[:3])
    assert found(judge="ann") == {pairs[0], pairs[1], pairs[3]}
    assert found(query="mug", book="b") == {pairs[0], pairs[2]}
    assert found(query="mug", book="b", judge="bob") == {pairs[2]}
    assert found(query="none") == set()


def test_a_grade_is_the_judges_own_or_else_the_mean_rounded_half_up(store: JudgementStore) -> None:
    grades = {"1": (0, 1), "2": (1, 3), "3": (0, 0), "4": (2, 3)}
    for item, (ann, bob) in grades.items():
        store.judge_many([judgement(item, ann), judgement(item, bob, judge="bob")])
    expected = {"1": 1, "2": 2, "3": 0, "4": 3}
    assert store.grades() == {("red shoes", item): grade for item, grade in expected.items()}
    assert store.grades(judge="ann") == {("red shoes", item): ann for item, (ann, _) in grades.items()}
    assert store.grades(judge="carl") == store.grades(query="red shoes") == store.grades(book="b") == store.grades()
    assert store.grades(query="mug") == {}


def test_a_judge_counts_once_in_several_books(store: JudgementStore) -> None:
    store.add_book(Book(name="other"))
    store.judge(judgement("1", 0))
    store.judge(judgement("1", 1, judge="bob"))
    store.judge(judgement("1", 3, book="other"))
    assert store.grades() == {("red shoes", "1"): 2}
    assert store.grades(judge="ann") == {("red shoes", "1"): 3}
    assert store.grades(book="b") == {("red shoes", "1"): 1}


def test_a_bad_case_stays_after_it_is_withdrawn(store: JudgementStore) -> None:
    case = BadCase(
        id=0, query="red\0shoes", kind="wrong item", item_id="9", note="it's \u202ea mug", judge="ann",
        column=Column(model="m", lexical_weight=0.25), version=7, rank=3, withdrawn=True, reported_at=1.0,
    )  # fmt: skip
    first, second = store.report(case), store.report(case)
    assert (first.id, second.id, first.withdrawn) == (1, 2, False)
    assert first.reported_at > 1e9
    assert first.model_copy(update={"id": 0, "withdrawn": True, "reported_at": 1.0}) == case
    assert store.bad_cases() == [first, second]
    gone = store.withdraw(1)
    assert gone == first.model_copy(update={"withdrawn": True})
    assert store.bad_cases() == [second]
    assert store.bad_cases(withdrawn=True) == [gone, second]


def test_a_snapshot_comes_back_with_its_lists(store: JudgementStore) -> None:
    columns = (Column(), Column(kind="baseline", baseline="bm25"))
    snapshot = Snapshot(
        id=0, name="s", book="b", taken_at=0.0, columns=columns, versions=(3, None), settings={"k": "v"}
    )
    lists = {text: [[("1", 0.5), ("\0", -1e-30)], []] for text in HOSTILE}
    kept = store.add_snapshot(snapshot, lists)
    assert store.snapshots() == [kept]
    assert kept.model_copy(update={"id": 0, "taken_at": 0.0}) == snapshot
    assert kept.taken_at > 1e9
    assert store.snapshot_lists(kept.id) == lists
    assert list(store.snapshot_lists(kept.id)) == HOSTILE
    store.remove_snapshot(kept.id)
    assert store.snapshots() == []
    assert store.add_snapshot(snapshot, {}).id > kept.id, "a number is never used twice"


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.book("none"),
        lambda store: store.remove_book("none"),
        lambda store: store.judge(judgement("1", book="none")),
        lambda store: store.judgements(book="none"),
        lambda store: store.grades(book="none"),
        lambda store: store.withdraw(7),
        lambda store: store.snapshot_lists(7),
        lambda store: store.remove_snapshot(7),
    ],
)
def test_what_is_not_kept_is_named(store: JudgementStore, call: Callable[[JudgementStore], object]) -> None:
    with pytest.raises(MissingRecordError, match=r"'none'|id 7"):
        call(store)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_come_back(store: JudgementStore, text: str) -> None:
    kept = store.judge(Judgement(book="b", judge=text[:200] or "j", query=text, item_id=text, grade=1, comment=text))
    assert store.judgements(query=text) == [kept]
    assert store.grades(query=text) == {(text, text): 1}
    assert text in [query.query for query in store.book("b").queries]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_any_text_comes_back(store: JudgementStore, text: str) -> None:
    kept = store.judge(Judgement(book="b", judge="j", query=text, item_id=text, grade=1, comment=text))
    assert kept in store.judgements(query=text)


def test_an_item_id_of_a_megabyte_comes_back(store: JudgementStore) -> None:
    kept = store.judge(judgement("é" * (1 << 19)))
    assert store.judgements() == [kept]


# ----------------------------------------------------------------------------------------- all or nothing, and for good


def test_many_judgements_are_kept_together_or_not_at_all(store: JudgementStore) -> None:
    with pytest.raises(MissingRecordError):
        store.judge_many([judgement("1"), judgement("2", book="none")])

    def broken() -> Iterator[Judgement]:
        yield judgement("1")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.judge_many(broken())
    assert store.judgements() == []
    store.judge(judgement("3"))
    assert [each.item_id for each in store.judgements()] == ["3"]


def test_another_opening_finds_everything(tmp_path: Path, store: JudgementStore) -> None:
    store.judge(judgement("1"))
    with sqlite3.connect(tmp_path / "kept" / "judgements.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = JudgementStore(tmp_path / "kept" / "judgements.sqlite")
    assert again.judgements() == store.judgements()
    assert again.books() == store.books()
    again.close()
    with pytest.raises(StoreError, match="is closed"):
        again.books()


def test_every_commit_waits_for_the_disk(store: JudgementStore) -> None:
    with store._database.writing() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_threads_judge_at_once(store: JudgementStore) -> None:
    def judge(name: str) -> None:
        for number in range(25):
            store.judge(judgement(str(number), number % 4, judge=name))
            assert len(store.judgements(judge=name)) == number + 1

    threads = [threading.Thread(target=judge, args=(f"judge {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.judgements()) == 8 * 25
    assert store.book("b").queries[0].judged == {f"judge {number}": 25 for number in range(8)}


WRITER = """
import sys
from dpsr.data.judgements.records import Book, Judgement
from dpsr.data.judgements.store import JudgementError, JudgementStore
path, judge, count = sys.argv[1:]
store = JudgementStore(path)
try:
    store.add_book(Book(name="b"))
except JudgementError:
    pass
for number in range(int(count)):
    store.judge(Judgement(book="b", judge=judge, query="q", item_id=str(number), grade=number % 4))
    print(number, flush=True)
"""


def test_processes_open_a_new_file_and_judge_at_once(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, f"judge {number}", "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    outcomes = [(*writer.communicate(), writer.returncode) for writer in writers]
    assert [outcome[1:] for outcome in outcomes] == [("", 0)] * 4
    store = JudgementStore(path)
    assert len(store.judgements()) == 4 * 20
    store.close()


def test_a_killed_process_loses_no_answered_judgement(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    for round_ in range(2):
        names = [f"judge {round_}.{number}" for number in range(2)]
        writers = [
            subprocess.Popen([*command, name, "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for name in names
        ]
        answered = []
        for writer in writers:
            assert writer.stdout is not None
            answered.append([writer.stdout.readline() for _ in range(20)])
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        store = JudgementStore(path)
        for name, writer, lines in zip(names, writers, answered, strict=True):
            rest, _ = writer.communicate()
            told = {line.strip() for line in [*lines, *rest.splitlines(keepends=True)] if line.endswith("\n")}
            assert len(told) >= 20
            assert told <= {each.item_id for each in store.judgements(judge=name)}
        store.close()


# ----------------------------------------------------------------------------------------- files that cannot be used


def test_a_file_of_another_release_is_refused(tmp_path: Path, store: JudgementStore) -> None:
    path = tmp_path / "kept" / "judgements.sqlite"
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="format 99, but this release reads 1"):
        JudgementStore(path)


def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        JudgementStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"query,docid,rating\n" * 100, os.urandom(4096)], ids=["text", "noise"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "judgements.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="no SQLite database"):
        JudgementStore(path)
    assert path.read_bytes() == content


def test_a_damaged_file_is_told(tmp_path: Path, store: JudgementStore) -> None:
    path = tmp_path / "kept" / "judgements.sqlite"
    store.judge_many([judgement(str(number)) for number in range(2000)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    again = JudgementStore(path)
    with pytest.raises(StoreError, match="damaged"):
        again.judgements()
    again.close()


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    path.touch()
    store = JudgementStore(path)
    assert store.books() == []
    store.close()


@pytest.mark.parametrize("name", ["file/judgements.sqlite", "folder"])
def test_a_path_that_cannot_be_a_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=str(tmp_path)):
        JudgementStore(tmp_path / name)


OPENER = """
import sys
from dpsr.data.judgements.records import Book
from dpsr.data.judgements.store import JudgementError, JudgementStore
try:
    JudgementStore(sys.argv[1]).add_book(Book(name="b"))
except JudgementError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_without_write_permission_is_told(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    if exists:
        JudgementStore(folder / "judgements.sqlite").close()
    folder.chmod(0o555)
    # Permissions hold for root too, once it lacks the capability to pass over them.
    limited = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*limited, sys.executable, "-c", OPENER, str(folder / "judgements.sqlite")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert outcome.returncode == 1, outcome.stderr
    assert str(folder / "judgements.sqlite") in outcome.stderr
    assert "write permission" in outcome.stderr


def judge_until_it_fails(store: JudgementStore, answered: list[str]) -> None:
    for number in range(10_000):
        item = f"{number}" + "x" * 2000
        store.judge(judgement(item))
        answered.append(item)


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], check=False, stderr=subprocess.DEVNULL
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    try:
        store = JudgementStore(disk / "judgements.sqlite")
        store.add_book(Book(name="b"))
        (disk / "ballast").write_bytes(bytes(100_000))
        answered: list[str] = []
        with pytest.raises(StoreError, match="the disk is full"):
            judge_until_it_fails(store, answered)
        assert {each.item_id for each in store.judgements()} == set(answered) != set(), "reading goes on"
        (disk / "ballast").unlink()
        store.judge(judgement("after"))
        assert len(store.judgements()) == len(answered) + 1, "writing goes on once there is space"
        store.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
