"""Damaged caption files give the right pairs or a named problem, never other pairs or a traceback."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionbench.core import ConfigError
from visionbench.data.captioned_folder import CaptionedFolder

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
    return [(f"p{k // 2}.jpg", text) for k, text in enumerate(texts)]


def write(form, pairs, columns=("image", "caption"), quoting=csv.QUOTE_MINIMAL):
    """Return the content of a clean file."""
    if form == "jsonl":
        rows = [json.dumps({"file_name": name, "caption": text}, ensure_ascii=False) for name, text in pairs]
        return "".join(f"{row}\n" for row in rows)
    if form == "token":
        return "".join(f"{name}#{k}\t{text}\n" for k, (name, text) in enumerate(pairs))
    file = io.StringIO()
    writer = csv.writer(file, delimiter=TABLES[form], lineterminator="\n", quoting=quoting)
    writer.writerow(columns)
    for k, (name, text) in enumerate(pairs):
        row = {"image": name, "caption": text, "number": k}
        writer.writerow([row[column] for column in columns])
    return file.getvalue()


def read(folder, form, data, **options):
    """Return the pairs of examples without a problem, and the problems of the others."""
    name = {"jsonl": "captions.jsonl", "token": "results_20130124.token"}.get(form, "captions.csv")
    for other in folder.iterdir():
        other.unlink()
    (folder / name).write_bytes(data)
    examples = CaptionedFolder(str(folder), **options).examples()
    pairs = [(one.id, text) for one in examples if not one.problems for text in one.captions]
    return sorted(pairs), {one.id: one.problems for one in examples if one.problems}


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
def test_a_table_with_columns_in_any_order_gives_the_written_pairs(folder, form, texts, order):
    pairs = pairs_of(texts)
    assert read(folder, form, write(form, pairs, order).encode()) == (sorted(pairs), {})


@property_test()
@given(form=st.sampled_from(list(TABLES)), texts=texts)
def test_a_table_with_every_cell_in_quotes_gives_the_written_pairs(folder, form, texts):
    pairs = pairs_of(texts)
    assert read(folder, form, write(form, pairs, quoting=csv.QUOTE_ALL).encode()) == (sorted(pairs), {})


@property_test()
@given(
    form=forms,
    texts=texts,
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    after=st.sampled_from(["", "\n", "\n\n \n"]),
    inside=st.sampled_from(["", *LINE_ENDS_ELSEWHERE]),
)
def test_byte_order_marks_line_ends_and_separators_change_no_pair(folder, form, texts, mark, end, after, inside):
    pairs = [(name, f"x{inside}{text}") for name, text in pairs_of(texts)]
    text = (write(form, pairs) + after).replace("\n", end)
    assert read(folder, form, text.encode(mark)) == (sorted(pairs), {})


@property_test(200)
@given(form=forms, texts=texts, index=st.integers(0, 9), data=st.data())
def test_a_damaged_line_gives_the_clean_pairs_or_a_named_problem(folder, form, texts, index, data):
    pairs = pairs_of(texts)
    lines = write(form, pairs).split("\n")[:-1]
    index = 1 + index % (len(lines) - 1)
    line, delimiter = lines[index], TABLES.get(form, "\t")
    kinds = {
        "no delimiter": line.replace(delimiter, " "),
        "another delimiter": line.replace(delimiter, data.draw(st.sampled_from(":~/"))),
        "one more cell in front": f"7{delimiter}{line}",
        "only a name": line.split(delimiter)[0],
        "cut in the name": line[:2],
        "no end of its line": line + (lines[index + 1] if index + 1 < len(lines) else ""),
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
    lines[index] = kinds[kind]
    if kind == "no end of its line":
        del lines[index + 1 : index + 2]
    check_damaged(folder, form, "\n".join(lines).encode(), pairs)


@property_test(150)
@given(form=forms.filter(lambda form: form != "jsonl"), texts=texts, indices=st.sets(st.integers(0, 9), min_size=1))
def test_an_open_quote_hides_no_row(folder, form, texts, indices):
    pairs = pairs_of(texts)
    lines = write(form, pairs).split("\n")[:-1]
    heading = form in TABLES
    damaged = {index % len(pairs) for index in indices}
    for place in damaged:
        name, _, rest = lines[place + heading].partition(TABLES.get(form, "\t"))
        lines[place + heading] = f'{name}{TABLES.get(form, chr(9))}"{rest}'
    with_quote = {(name, '"' + text) for name, text in pairs}
    raw = {
        (name, line.partition(TABLES.get(form, "\t"))[2])
        for (name, _), line in zip(pairs, lines[heading:], strict=True)
    }
    try:
        pairs_read, problems = read(folder, form, "\n".join(lines).encode())
    except ConfigError as error:
        assert ", line " in str(error)
        return
    assert set(pairs_read) <= {*pairs, *with_quote, *raw}
    assert {name for name, _ in pairs} <= {name for name, _ in pairs_read} | set(problems)
    if not problems:
        assert [name for name, _ in pairs_read] == sorted(name for name, _ in pairs)


def check_damaged(folder, form, data, pairs):
    """Check that no image without a problem has a caption of another image."""
    try:
        pairs_read, problems = read(folder, form, data)
    except ConfigError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return
    if problems:
        assert set(pairs_read) <= set(pairs)
        assert all("line " in problem for messages in problems.values() for problem in messages)
    else:
        assert pairs_read == sorted(pairs)
