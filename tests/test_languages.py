"""Every language beside English says the same: keys, placeholders, code, lists, names of menus, and its own words."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import re
from string import Formatter
from typing import Any

from homeassistant.helpers.translation import async_get_translations
import pytest

from custom_components.grokmon import config_flow
from custom_components.grokmon.const import DOMAIN

from .common import Room

FOLDER = Path(config_flow.__file__).parent / "translations"
LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "en")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
REFERENCE = re.compile(r"(?<!\*)\*([^*\n]+)\*(?!\*)")


@dataclass(frozen=True)
class Rules:
    """What holds for one language only."""

    # A text in English that has one of the first has the second: one word for each thing.
    glossary: Mapping[str, str]
    # Other words for the same things.
    avoided: tuple[str, ...]
    # The polite form of address, and what looks like it.
    polite: str
    not_polite: tuple[str, ...]
    # Words of English that are none of this language.
    english: str
    # Texts that are the same as in English, or differ by where they are.
    same: frozenset[str]
    by_place: frozenset[str]
    quotes: tuple[str, str]


RULES: dict[str, Rules] = {
    "de": Rules(
        glossary={
            r"claim code": r"Abholcode",
            r"access token": r"Zugriffstoken",
            r"audit (trail|log)": r"Audit-Protokoll",
            r"checkpoint": r"Prüfpunkt",
            r"credential": r"Zugangsdaten",
            r"certificates?(?! authority)\b": r"[Zz]ertifikat",
            r"(certificate|its|new) authority": r"Zertifizierungsstelle",
            r"device identifier": r"Geräte-ID",
            r"client identifier": r"Client-ID",
            r"device registry": r"Geräteregister",
            r"(?<!command or )\benrol": r"[Rr]egistrier",
            r"\brotat": r"[Ee]rneuer",
            r"\brevo[ck]": r"[Ss]perr",
            r"\bdisable": r"[Dd]eaktivier",
            r"\bprobe\b(?!/)": r"Broker-Test|Broker testen",
            r"key-encryption key": r"Hauptschlüssel",
            r"interlock": r"[Vv]erriegelung",
            r"\blease": r"Haltezeit",
            r"\boverlap\b": r"Übergangsfrist",
            r"\bbudget": r"Budget",
            r"\brate limit": r"Ratenbegrenzung",
            r"growth stage": r"Wachstumsphase",
            r"light day": r"Lichtphase",
            r"dark period": r"Dunkelphase",
            r"vapour pressure deficit": r"Dampfdruckdefizit",
            r"\bmetric": r"Messgröße",
            r"\breadings\b": r"Messwerte",
            r"\boutputs?\b": r"Ausg[aä]ng",
            r"dynamic security": r"Dynamic[ -]Security",
            r"\bapprov(e|al)": r"[Gg]enehmig",
            r"\bthe AI\b": r"\bKI\b",
            r"security event": r"Sicherheitsereignis",
            r"class of callers|lower classes": r"Auftraggeber",
            r"\bsignature": r"Signatur",
            r"administrator": r"Administrator",
            r"\bbackup": r"Backup",
        },
        avoided=(
            "Anmeldedaten",
            "Zugangstoken",
            "Kennung",
            "Prüfpfad",
            "Kontrollpunkt",
            "Einlösecode",
            "Anspruchscode",
            "rotier",
            "widerruf",
            "Interlock",
            "Aktoren",
            "Lease",
            "Metrik",
            "Bestätigung",
            "Sonde",
            "Thema",
            "Addon",
            "Add-on",
        ),
        polite=r"\b(Sie|Ihr|Ihre|Ihren|Ihrem|Ihrer|Ihres|Ihnen)\b",
        # Several devices, one pump, the AI, a message.
        not_polite=(
            "Sie werden nur jetzt angezeigt",
            "Sie lässt sich später",
            "Sie enden dann",
            "Sie gelten sofort",
            "Sie greifen zuerst",
            "Sie bleibt aus",
            "Ihr Zähler",
        ),
        english=r"\b(the|and|of|is|are|not|with|without|to|from|or|for|by|device|key|user|every)\b",
        same=frozenset(
            {
                "{name}",
                "Broker",
                "CEF",
                "CSV",
                "Code",
                "Detail",
                "Format",
                "HTTP",
                "Information",
                "JSON Lines",
                "Name",
                "OK",
                "Zone",
                "pH",
            }
        ),
        # Water and gas.
        by_place=frozenset({"What switching it on gives."}),
        quotes=("„", "“"),
    )
}


def _leaves(texts: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of every text, and the text."""
    if isinstance(texts, str):
        yield path, texts
        return
    for key, value in texts.items():
        yield from _leaves(value, f"{path}.{key}" if path else key)


def _file(language: str) -> str:
    return (FOLDER / f"{language}.json").read_text(encoding="utf-8")


ENGLISH: dict[str, str] = dict(_leaves(json.loads(_file("en"))))
TEXTS: dict[str, dict[str, str]] = {language: dict(_leaves(json.loads(_file(language)))) for language in LANGUAGES}
every_language = pytest.mark.parametrize("language", LANGUAGES)


def _pairs(language: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, English text and translated text of what both have."""
    for path, text in TEXTS[language].items():
        if path in ENGLISH:
            yield path, ENGLISH[path], text


def _prose(text: str) -> str:
    """Return a text without its code and placeholders."""
    return re.sub(r"\{\w+\}", "", CODE.sub("", text))


def _numbers(text: str) -> Counter[str]:
    """Return the numbers of a text as they are in every language: without marks between thousands."""
    return Counter(re.findall(r"\d+", re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", _prose(text))))


def test_languages_have_rules() -> None:
    """Whoever adds a language says what its words are."""
    assert RULES.keys() == set(LANGUAGES)


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_files_are_formatted(language: str) -> None:
    """A file is formatted so that a change shows as the lines that changed."""
    text = _file(language)
    assert text.rstrip("\n") == json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    if language != "en":
        assert text.endswith("}\n")


@every_language
def test_keys_are_the_same(language: str) -> None:
    """The keys are those of English, in the same order."""
    assert list(TEXTS[language]) == list(ENGLISH)


@every_language
def test_placeholders_are_the_same(language: str) -> None:
    """What is filled in is what English fills in."""
    for path, english, text in _pairs(language):
        names = [{name for _, name, _, _ in Formatter().parse(each) if name is not None} for each in (english, text)]
        assert names[0] == names[1], path


@every_language
def test_code_is_the_same(language: str) -> None:
    """Code is not translated; what is in a line of prose may stand elsewhere in it."""
    for path, english, text in _pairs(language):
        assert sorted(CODE.findall(text)) == sorted(CODE.findall(english)), path


@every_language
def test_structure_is_the_same(language: str) -> None:
    """A text has the paragraphs, lists, bold words and numbers of the English one."""
    for path, english, text in _pairs(language):
        for pattern in (r"\n\n", r"(?m)^- ", r"\*\*", r"https?:"):
            assert len(re.findall(pattern, text)) == len(re.findall(pattern, english)), (path, pattern)
        assert _numbers(text) == _numbers(english), path


@every_language
def test_texts_are_neither_empty_nor_long(language: str) -> None:
    """A text has words, no spaces around them or twice in a row, and fits where the English one fits."""
    for path, english, text in _pairs(language):
        assert text == text.strip() != "", path
        assert "  " not in text, path
        assert len(text) <= 2.2 * len(english) + 40, path


@every_language
def test_ends_are_the_same(language: str) -> None:
    """A sentence ends as a sentence, and a name does not."""
    for path, english, text in _pairs(language):
        assert (text[-1] in ".:!?") == (english[-1] in ".:!?"), path


@every_language
def test_typography(language: str) -> None:
    """Quotes are those of the language and close, and an ellipsis is one character."""
    opening, closing = RULES[language].quotes
    for path, _, text in _pairs(language):
        prose = _prose(text)
        # A hyphen stands alone only where it is listed as a character.
        assert not re.search(r"[\"']|\.\.\.|(?<!,) - |\d ?x ?\d", prose), path
        assert prose.count(opening) == prose.count(closing), path


@every_language
def test_same_text_is_translated_the_same(language: str) -> None:
    """What English says with the same words has the same words, besides what depends on its place."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for _, english, text in _pairs(language):
        # An output is an entity, with a number, and a choice, without.
        found[english.removesuffix("{number}")].add(text.removesuffix("{number}"))
    assert {english for english, texts in found.items() if len(texts) > 1} == RULES[language].by_place


@every_language
def test_nothing_is_left_in_english(language: str) -> None:
    """Only names and words that both languages share are as in English."""
    rules = RULES[language]
    assert {text for _, english, text in _pairs(language) if text == english} == rules.same
    for path, _, text in _pairs(language):
        assert not re.search(rules.english, _prose(text)), path


@every_language
def test_person_is_addressed_as_home_assistant_does(language: str) -> None:
    """The polite form is not used."""
    rules = RULES[language]
    for path, _, text in _pairs(language):
        rest = text
        for phrase in rules.not_polite:
            rest = rest.replace(phrase, "")
        assert not re.search(rules.polite, rest), path
    for phrase in rules.not_polite:
        assert phrase in " ".join(TEXTS[language].values()), phrase


@every_language
def test_one_word_for_each_thing(language: str) -> None:
    """A thing is always called by the same word."""
    rules = RULES[language]
    for pattern, word in rules.glossary.items():
        concerned = [each for each in _pairs(language) if re.search(pattern, _prose(each[1]), re.IGNORECASE)]
        assert concerned, pattern
        assert [path for path, _, text in concerned if not re.search(word, text)] == [], pattern
    for word in rules.avoided:
        assert [path for path, _, text in _pairs(language) if word.lower() in _prose(text).lower()] == [], word


@every_language
def test_texts_name_what_is_on_the_screen(language: str) -> None:
    """Where a text points to another text of ours, in italics, it has the words that are shown there."""
    shown: defaultdict[str, set[str]] = defaultdict(set)
    for _, english, text in _pairs(language):
        shown[english].add(text)
    pointing = [each for each in _pairs(language) if REFERENCE.search(CODE.sub("", each[1]))]
    assert pointing
    for path, english, text in pointing:
        theirs, ours = (REFERENCE.findall(CODE.sub("", each)) for each in (english, text))
        assert len(theirs) == len(ours), path
        for there, here in zip(theirs, ours, strict=True):
            assert here in shown.get(there, {here}), (path, there)


@every_language
async def test_home_assistant_takes_it(room: Room, language: str) -> None:
    """Home Assistant, which drops a text whose placeholders differ, shows every text of the file."""
    categories = {path.partition(".")[0] for path in ENGLISH}
    loaded: dict[str, str] = {}
    for category in categories:
        loaded |= await async_get_translations(room.hass, language, category, [DOMAIN])
    prefix = f"component.{DOMAIN}."
    assert {path.removeprefix(prefix): text for path, text in loaded.items()} == TEXTS[language]
