"""Caption files beside images: every form that is read, and the errors for other forms."""

import pytest

from visionbench.core import ConfigError
from visionbench.data.captioned_folder import CaptionedFolder
from visionbench.registry import find

TWO = {"a.jpg": ("one", "two, or so"), "b.jpg": ("three",)}
FORMS = {
    "captions.csv": 'image,caption\na.jpg,one\na.jpg,"two, or so"\nb.jpg,three\n',
    "captions.jsonl": '{"image": "a.jpg", "captions": ["one", "two, or so"]}\n\n{"image": "b.jpg", "caption": "three"}',
    "metadata.jsonl": '{"file_name": "a.jpg", "text": ["one", "two, or so"]}\n{"file_name": "b.jpg", "text": "three"}',
    "captions.txt": "a.jpg,one\na.jpg,two, or so\nb.jpg,three\n",
    "results_20130124.token": "a.jpg#0\tone\na.jpg#1\ttwo, or so\nb.jpg#0\tthree\n",
}


@pytest.fixture
def folder(tmp_path):
    """A function that writes a caption file and returns its folder."""

    def write(name, text):
        (tmp_path / name).write_text(text, "utf-8")
        return str(tmp_path)

    return write


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_captions(folder, name):
    data = CaptionedFolder(folder(name, FORMS[name]))
    assert {example.id: example.captions for example in data.examples()} == TWO
    assert not any(example.problems for example in data.examples())
    identity = data.identity()
    assert (identity["captions"], identity["samples"], len(identity["annotations_sha256"])) == (name, "2", 64)


def test_it_is_registered_and_another_file_can_be_chosen(folder):
    assert find("data", "captioned_folder") is CaptionedFolder
    root = folder("flickr30k_test_karpathy.txt", "image,caption\nc.jpg,four\n")
    (one,) = CaptionedFolder(root, captions="flickr30k_test_karpathy.txt").examples()
    assert (one.id, one.captions) == ("c.jpg", ("four",))


def test_an_empty_caption_is_a_problem(folder):
    examples = CaptionedFolder(folder("captions.csv", "image,caption\na.jpg, \nb.jpg,x\n")).examples()
    assert [example.problems for example in examples] == [("an empty caption",), ()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "x,y\n1,2\n"),
        ("captions.csv", ""),
        ("captions.jsonl", "{"),
        ("captions.jsonl", "5"),
        ("captions.jsonl", '{"image": "a.jpg"}'),
        ("results_20130124.token", "a.jpg one"),
    ],
)
def test_another_form_is_an_error_of_one_line(folder, name, text):
    with pytest.raises(ConfigError, match=name) as caught:
        CaptionedFolder(folder(name, text)).examples()
    assert "\n" not in str(caught.value)


def test_the_error_for_a_missing_caption_file_names_the_expected_files(tmp_path):
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*captions\.jsonl"):
        CaptionedFolder(str(tmp_path)).examples()


def captions_of(root, **options):
    """Return the captions of images without problems, and the problems of the others."""
    examples = CaptionedFolder(root, **options).examples()
    return {one.id: one.captions for one in examples if not one.problems}, {
        one.id: one.problems for one in examples if one.problems
    }


@pytest.mark.parametrize(
    "text",
    [
        "image,caption\na.jpg,one\na.jpg,two, or so\nb.jpg,three\n",
        "id,image,caption\n1,a.jpg,one\n2,a.jpg,two, or so\n3,b.jpg,three\n",
        "caption,image\none,a.jpg\ntwo, or so,a.jpg\nthree,b.jpg\n",
        "image;caption\na.jpg;one\na.jpg;two, or so\nb.jpg;three\n;\n\n",
        "sep=;\nimage;caption\na.jpg;one\na.jpg;two, or so\nb.jpg;three\n",
        "image\tcaption\na.jpg\tone\na.jpg\ttwo, or so\nb.jpg\tthree\n",
        "image_name| comment_number| comment\na.jpg| 0| one\na.jpg| 1| two, or so\nb.jpg| 0| three\n",
        "a.jpg#0\tone\na.jpg#1\ttwo, or so\nb.jpg#0\tthree\n",
        '"image","caption"\r\n"a.jpg","one"\r\n"a.jpg","two, or so"\r\n"b.jpg","three"\r\n',
    ],
)
def test_a_tables_delimiter_is_detected_and_commas_remain_in_captions(folder, text):
    assert captions_of(folder("captions.csv", text)) == (TWO, {})


def test_the_identity_names_the_delimiter_and_whether_cells_are_in_quotes(folder):
    form = CaptionedFolder(folder("captions.csv", "image;caption\na.jpg;one\n")).identity()["form"]
    assert form == "a table, delimiter semicolon, no quotes"
    form = CaptionedFolder(folder("captions.csv", 'image,caption\na.jpg,"one"\n')).identity()["form"]
    assert form == "a table, delimiter comma, cells in quotes"


def test_flickr30ks_row_without_its_last_bar_is_a_problem_with_file_and_line(folder):
    text = "image_name| comment_number| comment\na.jpg| 0| one\n2199200615.jpg| 4   A dog runs .\nb.jpg| 0| three\n"
    captions, problems = captions_of(folder("results.csv", text), captions="results.csv")
    assert captions == {"a.jpg": ("one",), "b.jpg": ("three",)}
    assert problems == {"2199200615.jpg": ("results.csv, line 3: 2 cells, but the heading has 3",)}


def test_an_open_quote_is_text_in_a_file_without_quotes_and_a_problem_in_one_with_quotes(folder):
    rows = 'image,caption\na.jpg,"one\nb.jpg,two\nc.jpg,three"\n'
    assert captions_of(folder("captions.csv", rows)) == (
        {"a.jpg": ('"one',), "b.jpg": ("two",), "c.jpg": ('three"',)},
        {},
    )
    captions, problems = captions_of(folder("captions.csv", rows + 'd.jpg,"four, or so"\n'))
    assert captions == {"b.jpg": ("two",), "d.jpg": ("four, or so",)}
    assert problems["a.jpg"][0].startswith("captions.csv, line 2: a quote opens a cell and does not close it")
    assert captions_of(folder("captions.csv", rows), quotes="csv")[1].keys() == {"a.jpg", "c.jpg"}


def test_a_caption_in_quotes_may_span_lines_that_are_not_rows(folder):
    text = 'image,caption\na.jpg,"one\nand, more"\nb.jpg,two\n'
    assert captions_of(folder("captions.csv", text)) == ({"a.jpg": ("one\nand, more",), "b.jpg": ("two",)}, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.jpg", "captions.csv, line 3: 1 cell, but the heading has 2"),
        ("a.jpg;one", "captions.csv, line 3: 1 cell, but the heading has 2"),
        ("a.jpg,", "an empty caption"),
        (
            "a.jpg,one,",
            "captions.csv, line 3: 3 cells, but the heading has 2; put a cell that contains the delimiter in quotes",
        ),
        ("a.jpg,one a.jpg,two", "captions.csv, line 3: two rows in one line; begin a new line for the second"),
    ],
)
def test_a_row_of_another_form_is_a_problem_of_its_image(folder, text, problem):
    captions, problems = captions_of(folder("captions.csv", f"image,caption\nz.jpg,zero\n{text}\n"))
    assert captions == {"z.jpg": ("zero",)}
    assert problems == {"a.jpg": (problem,)}


def test_a_row_with_an_unknown_image_is_named_by_its_line(folder):
    text = "id,caption,file_name\n1,one,a.jpg\n2,cut\n3,three,b.jpg\n"
    captions, problems = captions_of(folder("captions.csv", text))
    assert captions == {"a.jpg": ("one",), "b.jpg": ("three",)}
    assert problems == {"captions.csv, line 3": ("captions.csv, line 3: 2 cells, but the heading has 3",)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,caption,caption\na.jpg,one,two\n", "line 1: the column 'caption' is listed twice; rename one"),
        ("image,caption,text\na.jpg,one,two\n", "caption and text may both be the caption; choose with data.options"),
        ("image,caption\na.jpg,0,one\nb.jpg,1,two\n", "line 2: 3 cells, but the heading has 2"),
        ("image,caption\na.jpg,one,train\nb.jpg,two,test\n", "line 2: 3 cells, but the heading has 2"),
        ("image,caption\na.jpg,o\0ne\n", "line 2: a NUL character"),
        ("image,caption\n\n\n", "it contains no caption"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_with_its_line(folder, text, problem):
    with pytest.raises(ConfigError) as caught:
        CaptionedFolder(folder("captions.csv", text)).examples()
    assert problem in str(caught.value)


def test_a_column_can_be_chosen(folder):
    root = folder("captions.csv", "path,image,caption,title\na.jpg,x,one,red\n")
    captions, _ = captions_of(root, picture_column="path", caption_column="title")
    assert captions == {"a.jpg": ("red",)}


def test_the_error_for_bytes_that_are_not_utf8_suggests_an_encoding(folder, tmp_path):
    root = folder("captions.csv", "")
    (tmp_path / "captions.csv").write_bytes("image,caption\na.jpg,one\nb.jpg,café\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"captions.csv, line 3: not UTF-8 \(byte 0xe9\); it may be .*cp1252"):
        CaptionedFolder(root).examples()
    assert captions_of(root, encoding="cp1252") == ({"a.jpg": ("one",), "b.jpg": ("café",)}, {})
    with pytest.raises(ConfigError, match="encoding=cp0: no such encoding"):
        CaptionedFolder(root, encoding="cp0").examples()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"image": "a.jpg", "caption": 5}', "its caption is the number 5, not a text"),
        ('{"image": "a.jpg", "caption": null}', "its caption is null, not a text"),
        ('{"image": "a.jpg", "caption": ["x", ["y"]]}', "its caption is a list, not a text"),
        ('{"image": {"path": "a.jpg"}, "caption": "x"}', "its image is an object, not the name of an image"),
        ('{"image": "a.jpg", "caption": "x", "caption": "y"}', "not JSON (the key 'caption' is listed twice)"),
        ('{"image": "a.jpg", "caption": NaN}', "not JSON (NaN is not a JSON value)"),
        ('{"image": "a.jpg", "caption": "x', "not JSON ("),
        ('{"image": "a.jpg", "caption": "\\ud800"}', "half of a character"),
        ('{"image": "a.jpg", "file_name": "b.jpg", "caption": "x"}', "file_name and image may both be the image"),
    ],
)
def test_a_line_of_json_of_another_form_is_a_problem_with_its_line(folder, line, problem):
    captions, problems = captions_of(folder("captions.jsonl", f'{{"image": "z.jpg", "caption": "zero"}}\n{line}'))
    assert captions == {"z.jpg": ("zero",)}
    ((message,),) = problems.values()
    assert message.startswith(f"captions.jsonl, line 2: {problem}")


def test_an_image_is_found_by_another_unicode_form_and_with_backslashes(folder, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "cafe\u0301.jpg").touch()
    (tmp_path / "sub" / "b.jpg").touch()
    root = folder("captions.csv", "image,caption\ncaf\u00e9.jpg,one\nsub\\b.jpg,two\n")
    assert [one.image.name for one in CaptionedFolder(root).examples() if one.image.is_file()] == [
        "cafe\u0301.jpg",
        "b.jpg",
    ]


@pytest.mark.parametrize("other", ["./a.jpg", ".\\a.jpg", "images/../a.jpg"])
def test_spellings_of_one_path_are_one_image_with_all_its_captions(folder, tmp_path, other):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"an image")
    (one,) = CaptionedFolder(folder("captions.csv", f"image,caption\na.jpg,one\n{other},two\n")).examples()
    assert (one.id, one.captions, one.problems) == ("a.jpg", ("one", "two"), ())


@pytest.mark.parametrize("text", ["\u200b", "\u00a0\ufeff", "\u2800", "\u3164"])
def test_a_caption_without_a_visible_character_is_empty(folder, text):
    a, _ = CaptionedFolder(folder("captions.csv", f"image,caption\na.jpg,{text}\nb.jpg,a\u200bb\n")).examples()
    assert a.problems == ("an empty caption",)


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "NULL", "N/A"])
def test_a_caption_that_denotes_a_missing_value_is_a_problem(folder, missing):
    a, b = CaptionedFolder(folder("captions.csv", f"image,caption\na.jpg,{missing}\nb.jpg,a nan bread\n")).examples()
    assert a.problems == (f"a caption that is only '{missing}', which denotes a missing value",)
    assert b.problems == ()


@pytest.mark.parametrize("cell", ["\"['one', 'two']\"", '"[""one"", ""it\'s two""]"', '"[\'one\', ""it\'s two""]"'])
def test_a_list_of_captions_in_one_cell_is_a_problem(folder, cell):
    a, b = CaptionedFolder(folder("captions.csv", f"image,caption\na.jpg,{cell}\nb.jpg,[sic] three\n")).examples()
    assert a.problems == ("a caption that is a list of captions in one cell: write each caption in its own row",)
    assert b.problems == ()


def test_a_quote_after_a_backslash_is_a_problem_unless_quotes_are_text(folder):
    root = folder("captions.csv", 'image,caption\na.jpg,"a \\"red\\" ring"\nb.jpg,a star\n')
    a, b = CaptionedFolder(root).examples()
    assert a.problems[0].startswith("captions.csv, line 2: a backslash precedes a quote within quotes")
    assert (b.problems, b.captions) == ((), ("a star",))
    assert CaptionedFolder(root, quotes="text").examples()[0].captions == ('"a \\"red\\" ring"',)


def test_a_folder_with_the_name_of_the_caption_file_is_an_error(tmp_path):
    (tmp_path / "captions.csv").mkdir()
    with pytest.raises(ConfigError, match=r"captions\.csv: cannot be read \(Is a directory\); give a file"):
        CaptionedFolder(str(tmp_path)).examples()
