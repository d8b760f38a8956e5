"""Frequent family names, to recognise a name where nothing else says that it is one. Plain lists, no personal data."""

_KANJI = """
佐藤 鈴木 高橋 田中 伊藤 渡辺 渡邊 渡邉 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 清水
山崎 阿部 池田 橋本 山下 石川 中島 前田 藤田 後藤 小川 岡田 村上 長谷川 近藤 石井 斉藤 斎藤 齋藤 齊藤
坂本 遠藤 藤井 青木 福田 三浦 西村 藤原 太田 松田 原田 岡本 中野 中川 小野 田村 竹内 金子 和田 中山
石田 上田 森田 柴田 酒井 工藤 横山 宮崎 宮本 内田 高木 安藤 谷口 大野 丸山 今井 高田 藤本 武田 村田
上野 杉山 増田 平野 菅原 久保 千葉 松井 岩崎 桜井 野口 松尾 野村 木下 菊地 菊池 佐野 大西 杉本 新井
浜田 濱田 市川 古川 水野 小松 島田 小島 山内 本田 服部 東田 大塚 川口 平田 川崎 飯田 吉川 久保田 中田
八木 西田 岩田 荒木 大橋 樋口 秋山 土屋 関口 川村 大島 永井 松岡 田口 山中 森本 吉村 五十嵐 岡崎 本間
片山 望月 黒田 内藤
"""
_ROMAJI = """
sato satou suzuki takahashi tanaka ito itou watanabe yamamoto nakamura kobayashi kato katou yoshida
yamada sasaki yamaguchi matsumoto inoue kimura shimizu hayashi saito saitou yamazaki abe mori ikeda
hashimoto yamashita ishikawa nakajima maeda fujita goto gotou ogawa okada murakami hasegawa kondo
ishii sakamoto endo aoki fukuda miura nishimura fujiwara ota matsuda harada okamoto nakano nakagawa
ono tamura takeuchi kaneko wada nakayama ishida ueda morita
"""
_LATIN = """
smith johnson williams jones garcia miller davis rodriguez martinez hernandez gonzalez wilson
anderson thomas taylor jackson martin perez thompson harris sanchez clark ramirez lewis robinson
allen wright nguyen torres flores adams nelson baker campbell mitchell roberts carter gomez phillips
evans turner diaz parker edwards collins reyes stewart morris morales murphy rogers gutierrez ortiz
morgan cooper peterson bailey kelly howard kim cox richardson watson chavez bennett mendoza ruiz
hughes alvarez castillo sanders patel myers mueller schmidt schneider fischer weber meyer wagner
becker schulz hoffmann doe chen wang zhang liu singh kumar ivanov rossi ferrari dubois bernard
moreau park choi tran
"""

KANJI = frozenset(_KANJI.split())
ROMAJI = frozenset(_ROMAJI.split())
LATIN = frozenset(_LATIN.split())
