"""Files of captions with something wrong give the right pairs or a named fault; never other pairs or a traceback."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionbench.data.captioned_folder import CaptionedFolder
from visionbench.registry import ConfigError

WORDS = [
    "a",
    "ring",
    "star",
    "red",
    '12"',
    '"stop"',
    "one, two",
    "semi;colon",
    "a|bar",
    "café",
    "狗",
    "don’t",
    "$3",
    "!",
]
captions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
TABLES = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
FORMS = [*TABLES, "jsonl", "token"]
LINE_ENDS_ELSEWHERE = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def pairs_of(texts):
    return [(f"p{at // 2}.jpg", text) for at, text in enumerate(texts)]


def written(form, pairs, columns=("image", "caption"), quoting=csv.QUOTE_MINIMAL):
    """The clean file."""
    if form == "jsonl":
        rows = [json.dumps({"file_name": name, "caption": text}, ensure_ascii=False) for name, text in pairs]
        return "".join(f"{row}\n" for row in rows)
    if form == "token":
        return "".join(f"{name}#{at}\t{text}\n" for at, (name, text) in enumerate(pairs))
    file = io.StringIO()
    writer = csv.writer(file, delimiter=TABLES[form], lineterminator="\n", quoting=quoting)
    writer.writerow(columns)
    for at, (name, text) in enumerate(pairs):
        row = {"image": name, "caption": text, "number": at}
        writer.writerow([row[column] for column in columns])
    return file.getvalue()


def read(folder, form, data, **options):
    """Pairs without those of examples that have a fault, and the faults."""
    name = {"jsonl": "captions.jsonl", "token": "results_20130124.token"}.get(form, "captions.csv")
    for other in folder.iterdir():
        other.unlink()
    (folder / name).write_bytes(data)
    examples = CaptionedFolder(str(folder), **options).examples()
    sound = [(one.id, text) for one in examples if not one.faults for text in one.captions]
    return sorted(sound), {one.id: one.faults for one in examples if one.faults}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("captions")


def property_test(examples=60):
    checks = settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    return lambda test: checks(test)


texts = st.lists(captions, min_size=4, max_size=10)
forms = st.sampled_from(FORMS)


@property_test()
@given(form=st.sampled_from(list(TABLES)), texts=texts, order=st.permutations(["image", "number", "caption"]))
def test_a_table_with_its_columns_in_any_order_is_read_as_it_was_written(folder, form, texts, order):
    pairs = pairs_of(texts)
    assert read(folder, form, written(form, pairs, order).encode()) == (sorted(pairs), {})


@property_test()
@given(form=st.sampled_from(list(TABLES)), texts=texts)
def test_a_table_with_every_cell_in_quotes_is_read_as_it_was_written(folder, form, texts):
    pairs = pairs_of(texts)
    assert read(folder, form, written(form, pairs, quoting=csv.QUOTE_ALL).encode()) == (sorted(pairs), {})


@property_test()
@given(
    form=forms,
    texts=texts,
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    after=st.sampled_from(["", "\n", "\n\n \n"]),
    inside=st.sampled_from(["", *LINE_ENDS_ELSEWHERE]),
)
def test_byte_order_marks_line_ends_and_odd_spaces_change_no_pair(folder, form, texts, mark, end, after, inside):
    pairs = [(name, f"x{inside}{text}") for name, text in pairs_of(texts)]
    text = (written(form, pairs) + after).replace("\n", end)
    assert read(folder, form, text.encode(mark)) == (sorted(pairs), {})


@property_test(200)
@given(form=forms, texts=texts, at=st.integers(0, 9), data=st.data())
def test_a_damaged_line_gives_the_clean_pairs_or_a_named_fault(folder, form, texts, at, data):
    pairs = pairs_of(texts)
    lines = written(form, pairs).split("\n")[:-1]
    at = 1 + at % (len(lines) - 1)
    line, delimiter = lines[at], TABLES.get(form, "\t")
    kinds = {
        "no delimiter": line.replace(delimiter, " "),
        "another delimiter": line.replace(delimiter, data.draw(st.sampled_from(":~/"))),
        "one more cell in front": f"7{delimiter}{line}",
        "only a name": line.split(delimiter)[0],
        "cut in the name": line[:2],
        "no end of its line": line + (lines[at + 1] if at + 1 < len(lines) else ""),
        "NUL": line[:3] + "\0" + line[3:],
    }
    if form == "jsonl":
        kinds |= {
            "no delimiter": line.replace(":", " ", 1),
            "another delimiter": line.replace('", "', '"; "', 1),
            "one more cell in front": f"[{line}]",
            "only a name": json.dumps({"file_name": "p0.jpg"}),
            "a bracket lost": line[:-1],
            "twice": line.replace("{", '{"caption": "other", ', 1),
            "a number": json.dumps({"file_name": "p0.jpg", "caption": 5}),
            "null": json.dumps({"file_name": "p0.jpg", "caption": None}),
            "NaN": '{"file_name": "p0.jpg", "caption": NaN}',
            "a list of lists": json.dumps({"file_name": "p0.jpg", "caption": [["x"]]}),
            "half of a character": '{"file_name": "p0.jpg", "caption": "\\ud800"}',
        }
    kind = data.draw(st.sampled_from(sorted(kinds)))
    lines[at] = kinds[kind]
    if kind == "no end of its line":
        del lines[at + 1 : at + 2]
    check_damaged(folder, form, "\n".join(lines).encode(), pairs)


@property_test(150)
@given(form=forms.filter(lambda form: form != "jsonl"), texts=texts, at=st.sets(st.integers(0, 9), min_size=1))
def test_quotes_that_never_close_swallow_no_row(folder, form, texts, at):
    pairs = pairs_of(texts)
    lines = written(form, pairs).split("\n")[:-1]
    heading = form in TABLES
    broken = {place % len(pairs) for place in at}
    for place in broken:
        name, _, rest = lines[place + heading].partition(TABLES.get(form, "\t"))
        lines[place + heading] = f'{name}{TABLES.get(form, chr(9))}"{rest}'
    with_quote = {(name, '"' + text) for name, text in pairs}
    raw = {
        (name, line.partition(TABLES.get(form, "\t"))[2])
        for (name, _), line in zip(pairs, lines[heading:], strict=True)
    }
    try:
        found, faults = read(folder, form, "\n".join(lines).encode())
    except ConfigError as error:
        assert ", line " in str(error)
        return
    assert set(found) <= {*pairs, *with_quote, *raw}
    assert {name for name, _ in pairs} <= {name for name, _ in found} | set(faults)
    if not faults:
        assert [name for name, _ in found] == sorted(name for name, _ in pairs)


def check_damaged(folder, form, data, pairs):
    """No picture without a fault may have a caption that is not its own."""
    try:
        found, faults = read(folder, form, data)
    except ConfigError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return
    if faults:
        assert set(found) <= set(pairs)
        assert all("line " in why for whys in faults.values() for why in whys)
    else:
        assert found == sorted(pairs)
