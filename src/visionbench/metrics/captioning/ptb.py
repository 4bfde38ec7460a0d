"""Split English captions into tokens like Stanford's PTBTokenizer 3.4.1, which COCO's evaluation of captions uses.

The rules were derived by comparison with that tokenizer, and are tested against its recorded output. The longest match
wins, as in a lexer.
"""

from __future__ import annotations

from functools import lru_cache

import regex

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""The tokens that COCO's evaluation removes. Brackets are in lower case there (`-lrb-`), so they are kept."""

_L = r"[[\p{L}\p{M}\u00AD]&&[\u0000-\uFDFF\uFE10-\uFFFF]]"
_LD = r"[[\p{L}\p{M}\u00AD\p{Nd}]&&[\u0000-\uFDFF\uFE10-\uFFFF]]"
_D = r"\p{Nd}"
_APOS = r"(?:['\u2019\u0092]|&apos;)"
_S = r"[ \t\u00A0\u2000-\u200A\u3000]"
_SYMBOLS = (
    r"\u00A1-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u037E\u0387\u0589\u05BE\u05C0\u05C3\u05C6\u05F3-\u0603"
    r"\u0606-\u060C\u0614\u061B\u061E-\u061F\u066A\u066D\u06D4\u0700-\u070D\u07F6-\u07F8\u0964-\u0965\u0E3F\u0E4F\u1FBD"
    r"\u2013-\u2023\u2026\u2030-\u2042\u2044\u2070\u2074-\u207E\u2080-\u208E\u20A0\u20A4\u20AC\u2100-\u2101"
    r"\u2103-\u2106\u2108-\u2109\u2114\u2116-\u2118\u211E-\u2123\u2125\u2127\u2129\u212E\u213A-\u213B\u2140-\u2144"
    r"\u214A-\u214D\u214F\u2153-\u215E\u2190-\u2BFF\u3001-\u3002\u3012\u30FB\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40"
    r"\uFF5B-\uFF65\uFFE0-\uFFE1\uFFE5-\uFFE6"
)
"""The symbols outside ASCII that are tokens. The original removes all others (emoji, corner brackets)."""
_WORD = rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)*"
_NUM = rf"(?:{_D}*(?:[.,:\u00AD\u066B\u066C]{_D}+)+|{_D}+)"

ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co "
    "col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov govs "
    "hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md mich minn mlle mme mo mon mont "
    "mr mrs ms msgr mt natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps "
    "rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue tues univ va vs vt "
    "wed wis wisc wm wyo mfg mtg"
)
CAPITAL_ABBREVIATIONS = "ark az del ill la mass miss ore pa tex wash"
"""Abbreviations if they begin with a capital letter."""
NUMBER_ABBREVIATIONS = "art ca fig figs no nos op pp prop"
"""Abbreviations before a number."""
SENTENCE_STARTS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once "
    "One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
"""Words before which a single letter with a full stop ends a sentence."""
ASSIMILATED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
WRITTEN = {
    "£": "#",
    "€": "$",
    "¢": "cents",
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    **FRACTIONS,
}
QUOTES = frozenset(["'", '"', "''", "&quot;", "&apos;"])
TYPOGRAPHIC = {"`": "`", "‘": "`", "‛": "`", "‹": "`", "’": "'", "›": "'", "“": "``", "«": "``", "”": "''", "»": "''"}
DASHES = frozenset(["–", "—", "―", "--", "---", "----"])


def _any(words: str) -> str:
    """Return a pattern of any of these words, the longest first."""
    return "|".join(sorted(words.split(), key=len, reverse=True))


_STARTS = f"{SENTENCE_STARTS} {SENTENCE_STARTS.upper()}"
_END = rf"(?!{_LD})"
_RULES = [
    regex.compile(f"(?V1){rule}")
    for rule in (
        r'(?P<t>(?i:https?)://[^ \t"<>|()]+[^ \t"<>|.!?(){},\-])',
        r'(?P<t>(?:www\.(?:[^ \t"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^ \t"`\'<>|.!?(){},\-_$/0-9:;=@A-Z\[\\\]^]+\.)+'
        r'(?:com|net|org|edu))(?:/[^ \t"<>|()]+[^ \t"<>|.!?(){},\-])?)',
        r'(?P<t>[a-zA-Z0-9][^ \t"<>|()\u00A0]*@(?:[^ \t"<>|().\u00A0]+\.)*[^ \t"<>|().\u00A0]+)',
        rf"(?P<t>@[A-Za-z_][A-Za-z0-9_]*|#{_L}+)",
        r"(?P<t></?[A-Za-z][^<>]*>|<!--[^<>]*-->)",
        r"(?P<t>&(?:amp|lt|gt|quot|apos|nbsp|#\d+);)",
        rf"(?P<both>(?P<t>(?i:cannot|gonna|gotta|lemme|gimme|wanna|'tis|'twas)){_END})",
        rf"(?P<t>{_WORD})",
        # words before a suffix that is split off
        rf"(?P<t>{_L}{_LD}*?)(?<![nN])(?:[nN]{_APOS}[tT]){_END}",
        rf"(?P<t>[nN]{_APOS}[tT]){_END}",
        rf"(?P<t>{_WORD})(?:{_APOS}(?i:s|m|d|re|ve|ll)){_END}",
        rf"(?P<t>{_APOS}(?i:s|m|d|re|ve|ll)){_END}",
        r"(?P<t>[\u2019\u0092](?i:s|m|d|re|ve|ll|n))",
        # apostrophes that belong to a word
        rf"(?P<t>{_APOS}[nN]{_APOS}|(?:{_APOS}[nN]|(?i:ol){_APOS}|(?i:{_APOS}em|{_APOS}cause|{_APOS}til)){_END})",
        rf"(?P<t>[dDoOlL]{_APOS}{_L}{_LD}*)",
        rf"(?P<t>(?i:y){_APOS})(?:{_L}+)",
        rf"(?P<t>{_L}*[aeiouyAEIOUY]{_APOS}[aeiouA-Z]{_L}*)",
        rf"(?P<t>{_APOS}[2-9]0[sS]){_END}",
        rf"(?P<t>{_APOS}\p{{Nd}}{{2}})(?=[\s.,;!?)]|\Z)",
        # abbreviations
        rf"(?P<t>(?i:{_any(ABBREVIATIONS)})\.)",
        rf"(?P<t>(?:{_any(f'{CAPITAL_ABBREVIATIONS.title()} {CAPITAL_ABBREVIATIONS.upper()}')})\.)",
        rf"(?P<t>(?i:{_any(NUMBER_ABBREVIATIONS)})\.)(?:{_S}*\p{{Nd}})",
        rf"(?P<t>[A-Za-z]\.)(?!{_S}(?:(?:{_any(_STARTS)})(?:{_S}|\Z)|(?:Mr|MR|Ms|MS)\.?(?:{_S}|\Z)))",
        r"(?P<t>[A-Za-z](?:\.[A-Za-z])+\.|(?i:ph\.d\.))",
        rf"(?P<t>{_WORD}\.)(?:[,;:])",
        # numbers
        rf"(?P<t>[-+]?{_NUM})",
        rf"(?P<t>\p{{Nd}}+{_L}{_LD}*)",
        r"(?P<t>(?:\p{Nd}{1,4}[- \u00A0])?\p{Nd}{1,4}/\p{Nd}{1,4})",
        r"(?P<t>\p{Nd}{1,2}[-/]\p{Nd}{1,2}[-/]\p{Nd}{2,4})",
        r"(?P<t>[A-Z]+\$|\$)",
        r"(?P<t>(?:\(\d{2,3}\)[ \u00A0]?|\+{0,2}(?:\d{2,4}[\- \u00A0])?\d{2,4}[\- \u00A0])\d{3,4}[\- \u00A0]?\d{3,5})",
        r"(?P<t>\+{0,2}(?:\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5})",
        # words of several parts
        rf"(?P<t>[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|{_LD}+))+)",
        rf"(?P<t>{_LD}+(?:[-_\u2010\u2011]{_LD}+)+)",
        rf"(?P<t>{_LD}+(?:-{_LD}+)+\.)(?:[,;:])",
        r"(?P<t>[A-Z]+(?:&[A-Z]+)+)",
        r"(?P<t>[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2})",
        r"(?P<t>(?i:c)\+\+|(?i:c)#)",
        # marks
        r"(?P<t>[!?]+)",
        rf"(?P<t>\.{{3,5}}|(?:\.{_S}){{2,4}}\.|…)",
        r"(?P<t>-+|_+|\*+|#+|<<|>>|''|[`\u2018-\u201F\u2039\u203A\u00AB\u00BB]{1,2})",
        r"(?P<t>[<>]?[:;=][\-o*']?(?:[()\\{|\[\]]|[DPdpO@](?![A-Za-z])))",
        r"(?P<t>[\-^x=~<>']_[\-^x=~<>'])",
        rf"(?P<t>[!-~{_SYMBOLS}]|{_D})",
    )
]
"""A token is the group `t`. The text that is matched after the group only makes the match longer."""
_PLAIN = regex.compile(r"[a-z]+(?= |\Z)")
_SPACE = regex.compile(r"\s+")


@lru_cache(maxsize=65536)
def tokens(text: str) -> tuple[str, ...]:
    """Return the tokens of a caption in lower case, without the punctuation that COCO's evaluation removes."""
    split: list[str] = []
    position = 0
    while position < len(text):
        if space := _SPACE.match(text, position):
            position = space.end()
            continue
        if (plain := _PLAIN.match(text, position)) and plain[0] not in ASSIMILATED:
            split.append(plain[0])
            position = plain.end()
            continue
        matches = [match for rule in _RULES if (match := rule.match(text, position))]
        if not matches:  # a character outside the Basic Multilingual Plane, which the original removes too
            position += 1
            continue
        longest = max(matches, key=lambda match: match.end())  # the first of several
        token = longest["t"]
        split += ASSIMILATED[token.lower()] if "both" in longest.groupdict() else _written(token)
        position = max(longest.end("t"), position + 1)
    return tuple(token for token in split if token not in PUNCTUATION)


def _written(token: str) -> tuple[str, ...]:
    """Return a token as the original writes it, or nothing for a token that it removes."""
    if token in QUOTES or token in DASHES or token in ("…", "&nbsp;") or set(token) in ({"."}, {".", " "}):
        return ()
    if token[0] in TYPOGRAPHIC and len(token) <= 2 and not token[1:].isalnum():
        return ("".join(TYPOGRAPHIC.get(mark, mark) for mark in token),)
    if token in WRITTEN:
        return (WRITTEN[token],)
    lower = token.lower()
    straight = regex.sub(r"[\u2019\u0092]|&apos;", "'", lower)
    if straight in ("'s", "'m", "'d", "'re", "'ve", "'ll", "n't"):
        return (straight,)
    return (lower.translate(_BRACKETS).replace(" ", "\u00a0"),)


_BRACKETS = str.maketrans({mark: WRITTEN[mark] for mark in "()"})
