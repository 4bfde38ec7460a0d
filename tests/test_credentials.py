"""Credentials in a configuration: typed ones are refused, and messages do not contain them."""

import pytest

from visionbench import credentials
from visionbench.core import ConfigError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("tracking.uri", f"http://me:{SECRET}@host", "an address with a user's name or password"),
        ("tracking.uri", f"https://{SECRET}@host/path", "an address with a user's name or password"),
        ("tracking.uri", f"http://me:{SECRET}@more@host", "an address with a user's name or password"),
        ("tracking.uri", f"http://me:{SECRET}/more@host", "an address with a user's name or password"),
        ("tracking.uri", f"postgresql+psycopg://me:{SECRET}@host/db", "an address with a user's name or password"),
        ("tracking.uri", f"http://me:{SECRET}@${{oc.env:HOST}}", "an address with a user's name or password"),
        ("tracking.uri", f"http://host/?access_token={SECRET}", "an address with a credential"),
        ("tracking.uri", f"http://host/a?x=1&X-Amz-Signature={SECRET}", "an address with a credential"),
        ("data.options.token", SECRET, "a credential"),
        ("+data.options.api_key", SECRET, "a credential"),
        ("hydra.job.env_set.HF_TOKEN", SECRET, "a credential"),
        ("hydra.job.env_set.MLFLOW_TRACKING_PASSWORD", SECRET, "a credential"),
        ("model.checkpoint", "hf_" + 30 * "x", "an access token"),
        ("data.root", "see ghp_" + 36 * "x", "an access token"),
    ],
)
def test_a_typed_credential_is_refused_and_the_message_does_not_contain_it(key, value, reason):
    with pytest.raises(ConfigError) as caught:
        credentials.refuse({"section": [value]} if key == "model.checkpoint" else value, key)
    assert f"{reason} would be saved with the results; " in str(caught.value)
    assert "oc.env" in str(caught.value)
    assert SECRET not in str(caught.value) and "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking.uri", "${oc.env:MLFLOW_TRACKING_URI}"),
        ("tracking.uri", "http://me:${oc.env:PASSWORD}@host"),
        ("tracking.uri", "http://host/?token=${oc.env:TOKEN}"),
        ("tracking.uri", "http://127.0.0.1:5000"),
        ("tracking.uri", "sqlite:////data/me:you@lab/mlflow.db"),
        ("tracking.uri", "databricks://profile"),
        ("data.options.token", "${oc.env:HF_TOKEN}"),
        ("model.options.text_tokens", 77),
        ("model.options.prompt", "a photo of a token"),
        ("model.checkpoint", "openai/clip-vit-base-patch32"),
        ("data.root", "/data/me@lab"),
        ("model.architecture.bos_token", "<s>"),
        ("model.revision", "c237dc49a33fc61debc9276459120b7eac67e7ef"),
    ],
)
def test_a_reference_and_a_value_without_credential_are_accepted(key, value):
    credentials.refuse(value, key)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{SECRET}@host: refused", "http://host: refused"),
        (f"http://me:{SECRET}@{SECRET}@host/x", "http://host/x"),
        (f"http://me:{SECRET}/{SECRET}@host/x", "http://host/x"),
        (f"at 'postgresql://{SECRET}@host/db'", "at 'postgresql://host/db'"),
        (f"me:{SECRET}@host: not an address", "host: not an address"),
        (f"http://host/?token={SECRET}&x=1", "http://host/?token=…&x=1"),
        ("sqlite:////data/me:you@lab/mlflow.db", "sqlite:////data/me:you@lab/mlflow.db"),
        ("sqlite:///me:you@lab.db", "sqlite:///me:you@lab.db"),
        ("model.checkpoint=hf_" + 30 * "x", "model.checkpoint=…"),
        ("data/a@b: no such folder", "data/a@b: no such folder"),
        ("the file a:b cannot be read", "the file a:b cannot be read"),
    ],
)
def test_a_message_shows_an_address_without_its_credentials(text, shown):
    assert credentials.public(text) == shown
