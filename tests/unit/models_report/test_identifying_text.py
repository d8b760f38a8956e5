"""What looks as if it named somebody is found in reports of others and in text of models; ordinary findings are left alone."""

from __future__ import annotations

import pytest

from models.folding import plain
from models.identifying_text import identifiers, without_identifiers
from node.archive.report_corpus import deidentified

NAMED = {
    "Compared with CT of March 2021.": "March 2021",
    "Compared with Nov. 2020.": "2020",
    "Compared with 2021/03.": "2021/03",
    "Compared with 5/3.": "5/3",
    "Compared with the CT of 11/20.": "11/20",
    "Operated in 2019.": "2019",
    "She was born 1950.": "1950",
    "Discussed with Dr. van der Berg.": "Berg",
    "Reported by Kowalczyk.": "Kowalczyk",
    "Signed: M. Müller": "Müller",
    "O'Brien noted an effusion.": "O'Brien",
    "Sent from St. Luke's Hospital.": "Luke",
    "Seen at University of Leeds.": "Leeds",
    "Ward 7B, bed 12.": "7B",
    "前回(5/3)と比較。": "5/3",
    "我妻花子の胸部写真。": "花子",
    "御子柴健太郎の胸部写真。": "太郎",
    "やまだ たろう 胸部写真。": "たろう",
    "担当：勅使河原": "勅使河原",
    "佐々木が確認。": "佐々木",
    "聖路加国際病院で撮影。": "聖路加",
    "東京都港区在住。": "港区",
    "503号室。": "503",
    "김철수 chest.": "김철수",
    "Иванов chest.": "Иванов",
}
ORDINARY = (
    "Grade 2/4 stenosis, 1/3 of the hemisphere, C5/6 disc.",
    "MRC 3/5 power. L4/5 protrusion.",
    "Total volume of 2000 mL, b value of 2000 s/mm2, TR 2000 ms.",
    "A 12 mm lesion on 2/3 slices. McBurney region tender.",
    "Hepatitis C. There is hepatic steatosis. Signed by the algorithm.",
    "因子、分子、粒子、様子、電子、遺伝子を認める。",
    "大学病院での精査を勧める。他の病院の画像。",
    "右中大脳動脈領域に急性期梗塞を認める。前回と比較して著変なし。",
    "第1/2腰椎。三次元再構成。",
)


@pytest.mark.parametrize(("text", "secret"), NAMED.items())
def test_what_names_somebody_is_taken_out(text: str, secret: str) -> None:
    assert secret not in (deidentified(text) or "")
    assert secret not in without_identifiers(plain(text), "")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_findings_name_nobody(text: str) -> None:
    said = plain(text)
    assert [said[each.start : each.end] for each in identifiers(said)] == []
