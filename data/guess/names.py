"""Names that shops give to the columns of the contract, the most telling first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

ITEM_ID = (
    *("itemid", "productid", "sku", "skuid", "articleid", "articlenumber", "artikelnummer", "artikelnr", "artikelid"),
    *("produktid", "produktnummer", "productuid", "productcode", "productnumber", "objectid", "asin", "gtin", "ean"),
    *("upc", "pid", "documentid", "docid", "商品id", "商品编号", "商品编码", "货号", "clickeditem", "clickedproduct"),
    *("id", "item", "product", "article", "artikel", "produkt", "code", "uid", "handle"),
)
TITLE = (
    *("title", "name", "producttitle", "productname", "itemname", "itemtitle", "titel", "bezeichnung", "produktname"),
    *("artikelname", "artikelbezeichnung", "标题", "商品标题", "商品名称", "商品名", "名称", "headline", "displayname"),
)
MORE_TEXT = (
    *("description", "desc", "beschreibung", "kurzbeschreibung", "shortdescription", "bulletpoints", "features"),
    *("attributes", "attribute", "specs", "specifications", "keywords", "tags", "描述", "商品描述", "subtitle"),
)
CATEGORY = (
    *(
        "brand",
        "marke",
        "hersteller",
        "manufacturer",
        "vendor",
        "品牌",
        "category",
        "kategorie",
        "类目",
        "分类",
        "类别",
    ),
    *("department", "abteilung", "producttype", "type", "color", "colour", "farbe", "颜色", "gender", "geschlecht"),
    *("locale", "language", "sprache", "country", "land", "seller", "material", "season", "group", "gruppe"),
)
BRAND = ("brand", "marke", "hersteller", "manufacturer", "vendor", "品牌")
NUMBER = (
    *("price", "preis", "价格", "rating", "bewertung", "stars", "weight", "gewicht", "popularity", "sales", "销量"),
    *("stock", "discount", "rabatt", "reviews", "cost"),
)
QUERY = (
    *("query", "searchquery", "searchterm", "searchphrase", "searchtext", "querytext", "userquery", "suchbegriff"),
    *("suchanfrage", "suchwort", "查询词", "搜索词", "查询", "关键词", "keyword", "keywords", "term", "phrase", "q"),
)
USER_ID = (
    *("userid", "customerid", "clientid", "visitorid", "memberid", "accountid", "kundennummer", "kundenid", "kundennr"),
    *("nutzerid", "用户id", "会员id", "用户", "uid", "user", "customer", "visitor", "kunde", "nutzer", "sessionid"),
)
TIMESTAMP = (
    *("timestamp", "ts", "time", "querytime", "eventtime", "clicktime", "eventtimestamp", "datetime", "createdat"),
    *("zeitstempel", "zeitpunkt", "zeit", "时间戳", "时间", "date", "datum", "日期"),
)
EVENT = (
    *("event", "eventtype", "eventname", "action", "actionname", "interaction", "interactiontype", "activity"),
    *("ereignis", "aktion", "事件", "行为", "behaviortype", "type"),
)
LABEL = ("label", "relevance", "relevanz", "grade", "judgement", "judgment", "gain")

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(name: str) -> list[str]:
    """The words of a column's name in lower case, whether ``item_id``, ``itemId`` or ``Item ID``."""
    return [word.lower() for word in re.split(r"[\W_]+", _CAMEL.sub("_", name)) if word]


def rank(name: str, known: Sequence[str]) -> int | None:
    """Place of a column's name among known ones, whole names before words; None where nothing matches."""
    parts = words(name)
    whole = "".join(parts)
    if whole in known:
        return known.index(whole)
    runs = {"".join(parts[first:last]) for first in range(len(parts)) for last in range(first + 1, len(parts) + 1)}
    inner = [
        place for place, word in enumerate(known) if len(word) > 2 and (word in runs or _ideographs_end(whole, word))
    ]
    return len(known) + inner[0] if inner else None


def by_rank(names: Mapping[str, object], known: Sequence[str]) -> list[str]:
    """The columns that a list of names knows, the most telling first."""
    ranked = [(place, name) for name in names if (place := rank(name, known)) is not None]
    return [name for _, name in sorted(ranked, key=lambda entry: entry[0])]


def _ideographs_end(whole: str, word: str) -> bool:
    """Chinese names have no spaces between their words."""
    return not word.isascii() and whole.endswith(word)
