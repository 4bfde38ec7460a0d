"""Complete runs of a model at an endpoint: rows, failures, limits, and one table with a model in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import call
from fake_endpoint import answer, error, refusal, serve, streamed

from visionbench.records.folder import RunFolder
from visionbench.results.archive import Run

KEY = "sk-planted-Key-0123456789"
CAPTIONS = ["a red circle", "a blue square", "a green triangle"]
MODEL = """
name: my_endpoint
family: remote
checkpoint: tiny
options:
  max_tokens: 16
  prices: {input_per_million_tokens: 10, output_per_million_tokens: 100, currency: EUR, date: 2026-11-27}
"""
PRICE = (100 * 10 + 5 * 100) / 1e6
"""The cost of an answer of the fake endpoint: 100 input tokens and 5 output tokens."""
SHORT = [
    *("data.options.samples=12", "tracking=none", "report.enabled=false", "measure.warmup.calls=1"),
    *("measure.retries=0", "device.threads=1"),
    *(
        "measure.latency.calls=8",
        "measure.throughput.calls=8",
        "measure.requests.timed_per_slot=1",
        "batch.sizes=[1,2]",
    ),
    "remote.max_wait_seconds=0",
]


def measure(folder: Path, script, *words: str, **environment: str):
    """Run the command against a scripted endpoint; return the process, the runs by model, and the endpoint."""
    (folder / "my_conf" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "my_conf" / "model" / "my_endpoint.yaml").write_text(MODEL)
    with serve(script) as endpoint:
        variables = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY, **environment}
        words = words if any(word.startswith("model=") for word in words) else ("model=my_endpoint", *words)
        done = call(folder, "run", "--config-dir", "my_conf", *SHORT, *words, **variables)
    runs = {}
    for path in sorted((folder / "outputs").rglob("run.json")):
        run = Run.read(RunFolder.open(path.parent))
        runs[run.model] = run
    return done, runs, endpoint


def rows_of(run: Run):
    return {row.case.id: row for row in run.results}


def test_a_run_has_a_row_for_each_number_of_requests_in_flight_and_for_quality(tmp_path):
    done, runs, endpoint = measure(tmp_path, lambda number, body: answer(CAPTIONS[number % 3]))
    assert done.returncode == 0, done.stderr
    run = runs["my_endpoint"]
    rows = rows_of(run)
    assert list(rows) == ["concurrency-1", "concurrency-2", "quality"]
    assert len(endpoint.requests) == (1 + 8) + (2 + 8) + 12
    values = rows["concurrency-2"].metrics.values
    assert (values["latency_calls_count"], values["throughput_calls_count"]) == (8, 8)
    assert (values["endpoint_requests_count"], values["endpoint_failed_fraction"]) == (8, 0)
    assert (values["endpoint_input_tokens_per_image_count"], values["endpoint_output_tokens_per_image_count"]) == (
        100,
        5,
    )
    assert values["cost_per_1000_images"] == pytest.approx(1000 * PRICE)
    assert values["throughput_tokens_per_s"] == pytest.approx(5 * values["throughput_images_per_s"])
    assert values["endpoint_first_token_p50_ms"] is None and "memory_process_peak_mib" not in values
    assert rows["concurrency-2"].labels["requests_in_flight"] == "2"
    assert "network" in rows["concurrency-2"].labels["latency_includes"]
    assert rows["quality"].metrics.values["captioning_pictures_count"] == 12
    assert (run.record.plan.device, run.record.plan.precision) == ("remote", "–")
    assert run.record.device.device_name == f"endpoint {endpoint.url}"
    assert run.record.plan.unsuited["memory"] == "it needs the model in this process, and the model is at an endpoint"
    assert run.record.plan.refused == {}


def test_failures_are_sent_again_counted_and_not_in_the_latency(tmp_path):
    faults = {2: error(429, retry_after="0"), 3: error(500), 5: error(503), 7: refusal()}

    def script(number, body):
        return faults.get(number) or answer(CAPTIONS[number % 3])

    done, runs, _ = measure(tmp_path, script, "batch.sizes=[1]", "metrics=[latency,throughput,endpoint,cost]")
    assert done.returncode == 0, done.stderr
    row = rows_of(runs["my_endpoint"])["concurrency-1"]
    values = row.metrics.values
    assert (values["endpoint_requests_count"], values["endpoint_attempts_count"]) == (8, 11)
    assert (values["endpoint_repeated_rate_limited_count"], values["endpoint_repeated_server_error_count"]) == (1, 2)
    assert (values["endpoint_failed_refused_count"], values["latency_calls_count"]) == (1, 7)
    assert values["endpoint_failed_fraction"] == 1 / 8 and values["endpoint_success_fraction"] == 7 / 8
    assert row.validity.verdict != "valid"
    assert "requests_failed: 1 of 8 requests have no answer: refused 1" in map(str, row.validity.reasons)
    samples = runs["my_endpoint"].folder.samples("concurrency-1")
    kinds = samples.series["attempts/kind_index"]
    answered = samples.series["attempts/duration_s"][kinds == 0]
    assert sorted(samples.series["latency/host_s"]) == sorted(answered)


def test_a_row_with_many_failed_requests_is_invalid(tmp_path):
    def script(number, body):
        return error(400) if 1 <= number <= 6 else answer()

    words = ("batch.sizes=[1]", "metrics=[latency,endpoint]")
    done, runs, endpoint = measure(tmp_path, script, *words)
    row = rows_of(runs["my_endpoint"])["concurrency-1"]
    assert (row.status, row.validity.verdict) == ("ok", "invalid")
    assert row.metrics.values["endpoint_failed_bad_request_count"] == 6
    assert len(endpoint.requests) == 9  # a wrong request is not sent again


def test_a_refused_key_ends_the_run_after_one_request_and_the_sweep_goes_on(tmp_path):
    done, runs, endpoint = measure(
        tmp_path, lambda number, body: error(401, f"bad key {KEY}"), "-m", "model=my_endpoint,blip2_tiny"
    )
    assert len(endpoint.requests) == 1 and done.returncode == 1
    rows = rows_of(runs["my_endpoint"])
    assert rows["concurrency-1"].status == "failed"
    assert rows["concurrency-1"].reason == "auth: status 401: the endpoint does not accept the key"
    assert [rows[name].status for name in ("concurrency-2", "quality")] == ["not_run", "not_run"]
    assert {row.status for row in runs["blip2_tiny"].results} == {"ok"}
    assert KEY not in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr


def test_a_wrong_request_ends_the_run_after_the_warm_up(tmp_path):
    done, runs, endpoint = measure(tmp_path, lambda number, body: error(404, "there is no model 'tiny'"))
    rows = rows_of(runs["my_endpoint"])
    assert len(endpoint.requests) == 1 and done.returncode == 1
    assert "there is no model 'tiny'" in rows["concurrency-1"].reason
    assert rows["quality"].status == "not_run"


def test_a_limit_of_requests_keeps_the_results_so_far(tmp_path):
    done, runs, endpoint = measure(
        tmp_path, lambda number, body: answer(CAPTIONS[number % 3]), "remote.max_requests=14"
    )
    assert len(endpoint.requests) == 14 and done.returncode == 1
    rows = rows_of(runs["my_endpoint"])
    assert rows["concurrency-1"].metrics.values["endpoint_requests_count"] == 8
    cut = rows["concurrency-2"]
    assert cut.metrics.values["endpoint_requests_count"] == 3 and cut.validity.verdict != "valid"
    reason = "requests_not_sent: 5 of 8 requests were not sent: remote.max_requests=14 is reached"
    assert reason in map(str, cut.validity.reasons)
    assert (rows["quality"].status, rows["quality"].reason) == (
        "not_run",
        "not measured: remote.max_requests=14 is reached",
    )


def test_a_limit_of_cost_is_not_passed(tmp_path):
    done, runs, endpoint = measure(tmp_path, lambda number, body: answer(), "remote.max_cost=0.05")
    worst = (4000 * 10 + 16 * 100) / 1e6
    assert len(endpoint.requests) * PRICE <= 0.05 and worst <= 0.05
    assert len(endpoint.requests) == int((0.05 - worst) / PRICE) + 1
    assert done.returncode == 1


def test_streamed_answers_have_the_time_to_the_first_token(tmp_path):
    words = ("remote.stream=true", "batch.sizes=[1]", "metrics=[latency,endpoint]")
    done, runs, _ = measure(tmp_path, lambda number, body: streamed("a ", "red ", "circle"), *words)
    assert done.returncode == 0, done.stderr
    values = rows_of(runs["my_endpoint"])["concurrency-1"].metrics.values
    assert 0 < values["endpoint_first_token_p50_ms"] <= values["latency_max_ms"]
    assert values["endpoint_per_output_token_p50_ms"] >= 0


def test_quality_leaves_failed_requests_out_and_counts_refusals_as_wrong(tmp_path):
    def script(number, body):
        return {1: error(400), 3: refusal()}.get(number) or answer(CAPTIONS[number % 3])

    words = ("metrics=[captioning]", "batch.sizes=[1]")
    done, runs, _ = measure(tmp_path, script, *words)
    assert done.returncode == 0, done.stderr
    row = runs["my_endpoint"].quality
    kinds = {reason.kind for reason in row.validity.reasons}
    assert {"pictures_left_out", "answers_refused", "requests_failed"} <= kinds and row.validity.verdict == "warned"
    assert row.metrics.values["pictures_used_count"] == 11
    captions = list(columns_of(runs["my_endpoint"])["caption"])
    assert len(captions) == 11 and captions.count("") == 1


def columns_of(run: Run):
    """Return the columns of the predictions."""
    predictions = run.folder.predictions()
    assert predictions is not None
    return predictions.columns


def test_classes_named_in_words_are_scored_and_other_answers_are_wrong(tmp_path):
    def script(number, body):
        prompt = body["messages"][0]["content"][1]["text"]
        names = [line.partition(". ")[2] for line in prompt.splitlines()[1:]]
        return answer([names[0], "1", "I cannot tell", names[1].upper()][number % 4])

    words = ("metrics=[classification]", "batch.sizes=[1]", "+model.options.task=classification")
    done, runs, _ = measure(tmp_path, script, *words)
    assert done.returncode == 0, done.stderr
    row, run = runs["my_endpoint"].quality, runs["my_endpoint"]
    assert run.record.plan.task == "image classification"
    values = row.metrics.values
    assert values["classification_no_class_fraction"] == 3 / 12
    assert values["classification_top_5_fraction"] is None
    assert row.metrics.reasons["classification_top_5_fraction"].startswith("the model names one class")
    labels = columns_of(run)["label"]
    samples = run.folder.samples("quality")
    right = (samples.series["classification/true_rank"] == 1).mean()
    assert values["classification_top_1_fraction"] == right and len(labels) == 12
    named = samples.series["classification/no_class_count"] == 0
    counted = (samples.series["classification/true_index"] == samples.series["classification/predicted_index"]) & named
    assert right == counted.mean()


def test_a_sweep_over_precisions_measures_an_endpoint_once_beside_a_model_in_this_process(tmp_path):
    done, runs, endpoint = measure(
        tmp_path,
        lambda number, body: answer(CAPTIONS[number % 3]),
        *("-m", "model=blip2_tiny,my_endpoint", "precision=fp32,bf16", "metrics=[latency,throughput,cost,memory]"),
        *("device.cost_per_hour=3.6", "device.currency=EUR", "report.enabled=true"),
    )
    assert done.returncode == 0, done.stderr
    assert len(endpoint.requests) == (1 + 8) + (2 + 8)
    assert "my_endpoint is at an endpoint and is measured once: 2 runs of the sweep differ only in" in done.stdout
    local = rows_of(runs["blip2_tiny"])["batch-2"].metrics.values
    assert local["cost_per_1000_images"] == pytest.approx(1 / local["throughput_images_per_s"])
    assert "my_endpoint: batch is the number of requests in flight" in done.stdout
    assert "cost of 1,000 images in EUR" in done.stdout
    (page,) = (tmp_path / "outputs").glob("*/report.html")
    text = page.read_text("utf-8")
    assert "my_endpoint" in text and f"endpoint {endpoint.url}" in text


def test_a_continued_sweep_sends_only_the_requests_of_the_cases_without_a_result(tmp_path):
    words = ("metrics=[latency,endpoint]", "batch.sizes=[1,2]")
    with serve(lambda number, body: answer()) as endpoint:
        address = f"remote.base_url={endpoint.url}"
        done, runs, _ = measure(tmp_path, lambda number, body: answer(), *words, address, "remote.max_requests=11")
        assert rows_of(runs["my_endpoint"])["concurrency-2"].status == "not_run"
        before = len(endpoint.requests)
        continued, runs, _ = measure(
            tmp_path, lambda number, body: answer(), *words, address, "resume=latest", "retry=[failed]"
        )
    assert continued.returncode == 0, continued.stderr
    assert (before, len(endpoint.requests) - before) == (11, 2 + 8)
    assert {row.status for row in runs["my_endpoint"].results} == {"ok"}


def test_the_dry_run_shows_the_requests_and_their_highest_cost_and_sends_none(tmp_path):
    done, _, endpoint = measure(tmp_path, lambda number, body: answer(), "--dry-run")
    assert done.returncode == 0 and endpoint.requests == []
    most = 31 * (4000 * 10 + 16 * 100) / 1e6
    assert (
        f"my_endpoint · remote: 31 requests, without those that are sent again; at most {most:,.2f} EUR" in done.stdout
    )


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (
            [],
            {"OPENAI_BASE_URL": ""},
            "remote.base_url has no value, and the environment variable OPENAI_BASE_",
        ),
        (
            ["remote.base_url=https://host.invalid/v1"],
            {"OPENAI_API_KEY": ""},
            "remote.key_env=OPENAI_API_KEY: this env",
        ),
        (
            ["remote.base_url=ftp://host/v1"],
            {},
            "remote.base_url=ftp://host/v1: not an address; write it as https://host",
        ),
        (["remote.key_env=sk-abcdef-ghijkl"], {}, "remote.key_env is not the name of an environment variable"),
        ([], {"OPENAI_API_KEY": "sk-with space 123"}, "has a character that a key cannot have"),
        (["batch=auto", "~batch.sizes"], {}, ""),
        (["model.weights=random"], {}, "model.weights=random: model my_endpoint is at an endpoint"),
        (["model.options.prices=null", "remote.max_cost=1"], {}, "remote.max_cost=1: model my_endpoint has no prices"),
        (
            ["model.options.max_tokens=null", "remote.max_cost=1"],
            {},
            "the length of an answer of model my_endpoint",
        ),
        (
            ["+model.options.image_format=gif"],
            {},
            "model.options.image_format=gif: no such format; there are: jpeg, png",
        ),
        (["+model.options.task=captions"], {}, "model.options.task=captions: no such task; did you mean 'captioning'?"),
        (["model.options.prices.currency=null"], {}, "model.options.prices.currency has no value"),
        (["device.cost_per_hour=1"], {}, "device.cost_per_hour=1: it has no currency"),
        (["data.decoder=pillow_draft"], {}, "data.decoder=pillow_draft: the size to which the endpoint resizes"),
        (["+model.options.extra.model=x"], {}, "model.options.extra.model: visionbench sets this field of a request"),
        (["metrics=[memory,flops]"], {}, "nothing is left to measure"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_a_request(tmp_path, words, environment, message):
    done, runs, endpoint = measure(tmp_path, lambda number, body: answer(), *words, **environment)
    assert (done.returncode, endpoint.requests, runs) == (2, [], {}), done.stdout
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "sk-" not in done.stderr


def test_http_to_another_machine_gives_a_warning(tmp_path):
    done, _, _ = measure(tmp_path, lambda number, body: answer(), "remote.base_url=http://host.invalid/v1", "--dry-run")
    assert (
        "http://host.invalid/v1: images and the key are sent without encryption; use an address with https"
        in done.stdout
    )


def test_the_answers_of_two_runs_are_the_same_and_their_order_is_that_of_the_data(tmp_path):
    def script(number, body):
        image = body["messages"][0]["content"][0]["image_url"]["url"]
        return answer(f"caption {sum(image.encode()) % 997}")

    captions = []
    for sizes in ("[1]", "[4]"):
        folder = tmp_path / sizes
        folder.mkdir()
        _, runs, _ = measure(folder, script, "metrics=[captioning]", f"batch.sizes={sizes}")
        captions.append(list(columns_of(runs["my_endpoint"])["caption"]))
    assert captions[0] == captions[1] and np.unique(captions[0]).size > 6
