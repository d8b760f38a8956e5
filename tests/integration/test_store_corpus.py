"""The site's reports: de-identified at ingest, found by likeness, forgotten by number."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from node.archive import report_corpus
from node.archive.engine import Store
from node.archive.tables import corpus_reports

pytest_plugins = ["tests.store_fixtures"]

REPORTS = (
    ("en", "Patient: Suzuki Hanako, MRN 7654321, born 1948-05-03. Small pleural effusion on the left. Dr. Smith"),
    ("en", "No pneumothorax. Heart of normal size."),
    ("ja", "鈴木花子様（昭和23年5月3日生、ID 7654321）。左胸水を少量認める。2026年1月5日 読影医：佐藤太郎"),
    ("ja", "気胸を認めない。心拡大なし。"),
)


@pytest.fixture
def filled(store: Store) -> Store:
    with store.write() as connection:
        for language, text in REPORTS:
            assert report_corpus.add(connection, 1.0, text, language=language)
            assert not report_corpus.add(connection, 2.0, text, language=language)
    return store


def test_nothing_identifying_is_kept(filled: Store) -> None:
    with filled.read() as connection:
        kept = " ".join(connection.execute(select(corpus_reports.c.text)).scalars())
    for secret in ("Suzuki", "Hanako", "7654321", "1948", "Smith", "鈴木", "花子", "昭和23", "2026", "佐藤"):
        assert secret not in kept
    for word in ("pleural effusion on the left", "左胸水を少量認める"):
        assert word in kept


def test_the_most_alike_comes_first(filled: Store) -> None:
    with filled.read() as connection:
        assert report_corpus.count(connection) == len(REPORTS)
        english = report_corpus.similar(connection, "effusion on the left?", language="en", count=5)
        japanese = report_corpus.similar(connection, "左に胸水はありますか", language="ja", count=1)
        assert "effusion" in english[0].text
        assert 0 < english[0].score <= 1
        assert "胸水" in japanese[0].text
        assert report_corpus.similar(connection, "zzz", language="en", count=5) == []
    with filled.write() as connection:
        assert report_corpus.remove(connection, english[0].number)
        assert not report_corpus.remove(connection, english[0].number)
