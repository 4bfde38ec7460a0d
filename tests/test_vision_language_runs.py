"""A vision-language model from the command line: speed, its parts, captions and answers to questions."""

import json

import pytest
import yaml
from command_line import FEW_CALLS_EACH_STAGE, here
from PIL import Image
from tiny_vision_language import save, small

from visionbench.data.shapes import Shapes
from visionbench.records.folder import RunFolder

METRICS = "metrics=[latency,throughput,flops,pipeline,question_answering,captioning,evaluation]"
FEW = [*FEW_CALLS_EACH_STAGE, "measure.pipeline.processes=true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint, the YAML of its model, and images with questions."""
    base = tmp_path_factory.mktemp("vision_language")
    model = small("smolvlm2_256m", new_tokens=3, answer_tokens=3, caption_tokens=3)
    save("smolvlm2_256m", base / "checkpoint")
    values = {
        "name": "tiny_vlm",
        "family": "vision_language",
        "checkpoint": str(base / "checkpoint"),
        "options": model.options,
        "architecture": model.architecture,
        "image_processor": model.image_processor,
    }
    (base / "my_conf" / "model").mkdir(parents=True)
    (base / "my_conf" / "model" / "tiny_vlm.yaml").write_text(yaml.safe_dump(values))
    rows = []
    (base / "vqa").mkdir()
    for example in Shapes(samples=3, cache_dir=str(base / "cache")).examples():
        Image.open(example.image).resize((64, 24 + 20 * len(rows))).save(base / "vqa" / example.image.name)
        rows += [
            {"image": example.image.name, "question": one.text, "answers": one.answers} for one in example.questions
        ]
    (base / "vqa" / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return base


def run(folder, *words):
    """Run the command, and return its result and the folder of its run."""
    done = here(folder, "run", "--config-dir", "my_conf", "model=tiny_vlm", "batch.sizes=[1,2]", *FEW, *words)
    runs = [RunFolder.open(path.parent) for path in sorted((folder / "outputs").rglob("results.jsonl"))]
    return done, runs[-1] if runs else None


def rows(run):
    return {row.case.id: row for row in run.results()}


@pytest.fixture(scope="module")
def measured(folder):
    done, last = run(folder, METRICS, "data.options.samples=6")
    assert done.returncode == 0, done.stderr
    return done, last


def test_each_batch_has_the_times_of_tokens_and_the_flops_of_each_part(measured):
    for size in (1, 2):
        row = rows(measured[1])[f"batch-{size}"]
        values = row.metrics.values
        assert values["throughput_tokens_per_s"] == pytest.approx(3 * values["throughput_images_per_s"])
        for name in ("pipeline_vision_ms", "pipeline_first_token_ms", "pipeline_output_token_ms"):
            assert values[name] > 0
        for part in ("vision", "prefill", "decode"):
            assert values[f"flops_{part}_per_image_gflop"] > 0
        assert int(row.labels["image_tokens"]) < int(row.labels["prompt_tokens"])


def test_the_quality_row_has_answers_and_captions_with_counts(measured):
    row = rows(measured[1])["quality"]
    values = row.metrics.values
    assert values["questions_used_count"] == values["questions_found_count"] == 24
    assert values["question_answering_questions_count"] == 24
    assert 0 <= values["question_answering_vqa_accuracy_fraction"] <= 1
    assert values["captioning_pictures_count"] == 6
    stored = measured[1].predictions()
    assert [len(answers) for answers in stored.columns["answers"]] == [4] * 6
    assert stored.columns["questions"][0][0]["question"].endswith("?")


def test_images_of_one_size_have_no_doubt_about_the_first_batch(measured):
    reasons = {reason.kind for row in rows(measured[1]).values() for reason in row.validity.reasons}
    assert "first_batch_only" not in reasons


def test_the_table_has_the_figures_of_both_tasks(measured):
    assert "VQA acc." in measured[0].stdout
    assert "CIDEr" in measured[0].stdout


def test_quality_is_refused_for_random_weights(folder):
    done, last = run(folder, METRICS, "model.weights=random", "data.options.samples=4")
    assert done.returncode == 0, done.stderr
    assert "quality" not in rows(last)
    assert "random weights" in last.record().plan.refused["question_answering"]
    assert json.loads((last.path / "run.json").read_text())["model"]["tokenizer"] == "stand-in"


def test_questions_of_the_user_are_answered_and_a_bad_row_is_named(folder):
    words = ["data=questions", "data.root=vqa", "metrics=[flops,question_answering]", "data.options.samples=null"]
    done, last = run(folder, *words)
    assert done.returncode == 0, done.stderr
    assert rows(last)["quality"].metrics.values["question_answering_questions_count"] == 12
    assert "first_batch_only" in {reason.kind for reason in rows(last)["batch-1"].validity.reasons}
    assert " to " in rows(last)["batch-1"].labels["prompt_tokens"]
    with (folder / "vqa" / "questions.jsonl").open("a") as file:
        file.write('{"image": "00000.jpg", "question": "Why?"}\n')
    done, _ = run(folder, *words)
    assert done.returncode == 2
    assert "questions.jsonl, line 13: it has no key for the answers" in done.stderr
