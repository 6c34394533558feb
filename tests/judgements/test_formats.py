"""Files of judgements: what is written is read again as it was, and what cannot be read is named."""

import io
import json

import ir_measures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.formats import FORMATS, Format, export_judgements, import_judgements
from dpsr.data.judgements.records import Judgement

HOSTILE = [
    "red shoes",
    "<script>alert('1')</script>",
    '=HYPERLINK("http://x")',
    " =1+1",
    "  =1+1",
    "-5",
    "@x",
    "\t=x",
    "747",
    "1",
    "# qid:1: x",
    "100% %20 %",
    "%",
    "nul\0inside",
    "\x1b[31m\x7f\x85\u2028\u2029",
    "\u202eabc\u202c",
    "a,b,c\nd,e,f\ng,h,i",
    'quo"te',
    "line\r\nend\rx\n",
    "  spaces  ",
    "\u00a0\u3000",
    "\ufeffbom",
    "שלום 靴 👟",
    "é" * 10_000,
]


def judgement(query: str, item: str, grade: int | None, judge: str = "ann") -> Judgement:
    return Judgement(book="b", judge=judge, query=query, item_id=item, grade=grade)


def read(format: Format, content: bytes) -> tuple[dict[tuple[str, str], int | None], list[str]]:
    found, rejected = import_judgements(format, content, "b", "ann")
    assert {(each.book, each.judge) for each in found} <= {("b", "ann")}
    return {(each.query, each.item_id): each.grade for each in found}, rejected


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_texts_come_back(format: Format) -> None:
    pairs = {(text, item[:500]): number % 4 for number, text in enumerate(HOSTILE) for item in HOSTILE}
    content = export_judgements(format, [judgement(*pair, grade) for pair, grade in pairs.items()])
    assert read(format, content) == (pairs, [])


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=200, deadline=None)
@given(query=st.text(min_size=1), item=st.text(min_size=1), grade=st.integers(0, 3))
def test_any_text_comes_back(format: Format, query: str, item: str, grade: int) -> None:
    content = export_judgements(format, [judgement(query, item, grade), judgement("other", "1", 2)])
    assert read(format, content) == ({("other", "1"): 2} | {(query, item): grade}, [])


@pytest.mark.parametrize("format", FORMATS)
def test_a_pair_has_the_mean_grade_and_judgements_without_one_have_no_row(format: Format) -> None:
    grades = {"ann": 1, "bob": 2, "carl": None}
    content = export_judgements(format, [judgement("q", "1", grade, judge) for judge, grade in grades.items()])
    assert read(format, content) == ({("q", "1"): 2}, [])
    assert read(format, export_judgements(format, [])) == ({}, [])


def test_qrels_are_those_of_trec_tools() -> None:
    content = export_judgements("qrels", [judgement("red shoes", "item 7", 3), judgement("747", "a", 0)])
    assert content == b"red%20shoes 0 item%207 3\n%3747 0 a 0\n"
    found = list(ir_measures.read_trec_qrels(io.StringIO(content.decode())))
    assert found == [ir_measures.Qrel("red%20shoes", "item%207", 3), ir_measures.Qrel("%3747", "a", 0)]


def test_qrels_with_numbered_topics_take_their_texts_from_comments() -> None:
    content = b"# qid:1: red shoes\r\n#qid:2: mug # 5\n# another comment\n\n1 0 a 3\r\n2\tQ0\tb\t1\n3 0 c 1\n"
    assert read("qrels", content) == (
        {("red shoes", "a"): 3, ("mug # 5", "b"): 1},
        ["line 7: topic '3' has no text; write `# qid:3: its text` above the judgements"],
    )


def test_rows_of_qrels_that_cannot_be_read_are_named() -> None:
    found, rejected = read("qrels", b"q 0 a 3\nq 0 b\nq 0 c 4\nq 0 d -1\nq 0 %FF 1\nq 0 e 2\nq 0 f good\n")
    assert found == {("q", "a"): 3, ("q", "e"): 2}
    assert [reason.partition(":")[0] for reason in rejected] == [f"line {number}" for number in (2, 3, 4, 5, 7)]
    assert "rating '4' is no grade; expected a whole number from 0 to 3" in rejected[1]


def test_csv_is_quepids() -> None:
    content = export_judgements("csv", [judgement("red, shoes", "7", 3), judgement("=1", "8", 0)])
    assert content == b'query,docid,rating\r\n"red, shoes",7,3\r\n =1,8,0\r\n'


def test_csv_is_read_by_the_names_of_its_columns() -> None:
    basic = "\ufeffquery,docid,rating\r\nmug,1,3\r\n".encode()
    detailed = b"Team Name,Case Name,Case ID,Query Text,Doc ID,Doc Position,Rating\nt,c,1,mug,1,2,3.0\n"
    assert read("csv", basic) == read("csv", detailed) == ({("mug", "1"): 3}, [])


def test_rows_of_csv_that_cannot_be_read_are_named() -> None:
    lines = [
        "query,docid,rating",
        "a,1,3",
        "no rating",
        "",
        '"two',
        'lines",2,1',
        "b,,1",
        "c,3,",
        "d,4,1.5",
        'e,"5"x,1',
    ]
    lines += ["f,6,2", ",7,1", 'g,"8,1', "h,9,1"]
    found, rejected = read("csv", "\n".join(lines).encode())
    assert found == {("a", "1"): 3, ("two\nlines", "2"): 1, ("f", "6"): 2}
    assert [reason.partition(":")[0] for reason in rejected] == [
        f"line {number}" for number in (3, 7, 8, 9, 10, 12, 13)
    ]
    assert "not CSV" in rejected[-1]


def test_a_field_that_is_too_long_leaves_the_other_rows() -> None:
    content = f"query,docid,rating\na,{'x' * 200_000},1\nb,2,1\n".encode()
    found, rejected = read("csv", content)
    assert found == {("b", "2"): 1}
    assert rejected[0].startswith("line 2: not CSV: field larger")


def test_the_workbench_takes_the_list_as_it_is() -> None:
    body = json.loads(export_judgements("workbench", [judgement("mug", "1", 3), judgement("mug", "2", 0)]))
    assert body == {
        "name": "b",
        "description": "Judgements exported from dpsr",
        "type": "IMPORT_JUDGMENT",
        "judgmentRatings": [
            {"query": "mug", "ratings": [{"docId": "1", "rating": "3.000"}, {"docId": "2", "rating": "0.000"}]}
        ],
    }


def test_answers_of_the_workbench_are_read() -> None:
    ratings = [{"query": "mug", "ratings": [{"docId": "1", "rating": 3}, {"docId": "2", "rating": "2.0"}]}]
    source = {"_source": {"name": "n", "judgmentRatings": ratings}}
    for body in (ratings, source, source["_source"], {"hits": {"hits": [source]}}):
        assert read("workbench", json.dumps(body).encode()) == ({("mug", "1"): 3, ("mug", "2"): 2}, [])


def test_rows_of_the_workbench_that_cannot_be_read_are_named() -> None:
    entries = [
        {"query": "a", "ratings": [{"docId": "1", "rating": 0.5}, {"docId": "2", "rating": True}, {"docId": "3"}, 7]},
        "text",
        {"query": None, "ratings": [{"docId": "1", "rating": 1}]},
        {"query": "b", "ratings": [{"docId": 5, "rating": 1}, {"docId": "6", "rating": "NaN"}]},
        {"query": "b", "ratings": [{"docId": "7", "rating": 1}]},
        {"query": "\ud800", "ratings": [{"docId": "1", "rating": 1}]},
        {"query": "c" * 10_001, "ratings": [{"docId": "1", "rating": 1}]},
    ]  # fmt: skip
    found, rejected = read("workbench", json.dumps({"judgmentRatings": entries}).encode())
    assert found == {("b", "7"): 1}
    assert [reason.partition(":")[0] for reason in rejected] == [
        "query 1, rating 1", "query 1, rating 2", "query 1, rating 3", "query 1, rating 4", "query 2",
        "query 3, rating 1", "query 4, rating 1", "query 4, rating 2", "query 6, rating 1", "query 7, rating 1",
    ]  # fmt: skip
    assert all(len(reason) < 300 for reason in rejected)


def parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def test_labels_have_the_columns_of_an_evaluation() -> None:
    table = pq.read_table(io.BytesIO(export_judgements("labels", [judgement("mug", "1", 3)])))
    assert table.schema.equals(pa.schema([("query", pa.string()), ("item_id", pa.string()), ("label", pa.float64())]))
    assert table.to_pylist() == [{"query": "mug", "item_id": "1", "label": 3.0}]


def test_labels_of_numbers_are_read_and_rows_without_a_value_are_named() -> None:
    content = parquet(label=[3, None, 1, 7], item_id=[1, 2, 3, 4], query=["a", "b", None, "d"])
    found, rejected = read("labels", content)
    assert found == {("a", "1"): 3}
    assert [reason.partition(":")[0] for reason in rejected] == ["row 2", "row 3", "row 4"]


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("csv", b"", "empty"),
        ("csv", b"query,item\na,1\n", "'docid' is missing"),
        ("csv", b"query,docid,rating\na,\xff,1\n", "line 2: the file is not UTF-8"),
        ("qrels", b"\xff\xfe1 0", "line 1: the file is not UTF-8"),
        ("workbench", b"query,docid", "not JSON"),
        ("workbench", b"[" * 100_000, "not JSON"),
        ("workbench", b'{"query": []}', "no array 'judgmentRatings'"),
        ("labels", b"query,docid", "not Parquet"),
        ("labels", parquet(query=["a"], item_id=["1"]), "'label' occurs 0 times"),
        ("labels", parquet(query=["a"], item_id=["1"], label=["good"]), "column 'label' has type string"),
        ("labels", parquet(query=[b"\xff"], item_id=["1"], label=[1.0]), "column 'query' has type binary"),
    ],
)
def test_a_file_of_another_kind_is_an_error(format: Format, content: bytes, message: str) -> None:
    with pytest.raises(JudgementError, match=message):
        import_judgements(format, content, "b", "ann")
