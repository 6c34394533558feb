"""What the page answered is kept: judges write while its process is killed, again and again."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path

from page_process import NO_SERVER, Page, bare_configuration, running_page

from dpsr.data.judgements.store import JudgementStore

JUDGES, ROUNDS, LEAST = 8, 3, 150


class Judge(threading.Thread):
    """Grades items until the page is gone, and remembers what was answered."""

    def __init__(self, page: Page, name: str, number: int, enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self.page, self.judge, self.number, self.enough = page, name, number, enough
        self.answered: dict[tuple[str, str], int] = {}
        self.asked: dict[tuple[str, str], int] = {}

    def run(self) -> None:
        """One request after the other; every third changes an earlier grade."""
        for step in range(100_000):
            place = step if step % 3 else step // 2
            pair, grade = (f"query {place % 7}", f"item {self.number} {place}"), step % 4
            body = {"book": "book", "judge": self.judge, "query": pair[0], "item_id": pair[1], "grade": grade}
            self.asked[pair] = grade
            try:
                reply = self.page.ask("PUT", "/api/judgements", body)
            except (OSError, http.client.HTTPException):
                return
            assert reply.status == 200, reply
            self.answered[pair] = grade
            if len(self.answered) * JUDGES >= LEAST:
                self.enough.set()


def test_no_answered_judgement_is_lost(tmp_path: Path) -> None:
    config = bare_configuration(tmp_path)
    kept: dict[tuple[str, str, str], int] = {}
    for number in range(ROUNDS):
        enough = threading.Event()
        with running_page(config, *NO_SERVER) as page:
            if number == 0:
                page.done("POST", "/api/books", {"name": "book", "queries": []})
            judges = [Judge(page, f"judge {each}", number, enough) for each in range(JUDGES)]
            for judge in judges:
                judge.start()
            assert enough.wait(60)
            page.process.kill()  # SIGKILL, while all of them write
            for judge in judges:
                judge.join(60)
                assert not judge.is_alive()
        unanswered = 0
        for judge in judges:
            kept |= {(judge.judge, *pair): grade for pair, grade in judge.answered.items()}
            unanswered += judge.asked != judge.answered
        assert unanswered, "the process died while nobody wrote: the round tells nothing"
        with running_page(config, *NO_SERVER) as page:
            found = {
                (each["judge"], each["query"], each["item_id"]): each["grade"]
                for each in page.done("GET", "/api/books/book/judgements")["judgements"]
            }
        possible = {(judge.judge, *pair): grade for judge in judges for pair, grade in judge.asked.items()}
        lost = {key: grade for key, grade in kept.items() if found.get(key) not in (grade, possible.get(key, grade))}
        assert not lost
        # What was asked last and never answered may be there or not; it is known now.
        kept = {key: found[key] for key in kept}
    store = JudgementStore(tmp_path / "work" / "judgements.sqlite")
    assert len(store.judgements(book="book")) >= len(kept) >= LEAST * ROUNDS // 2
    store.close()
