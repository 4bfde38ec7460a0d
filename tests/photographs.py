"""Real photographs that installed packages carry: scikit-learn's two, and one of matplotlib."""

from importlib.resources import files
from pathlib import Path

CHINA, FLOWER = (Path(str(files("sklearn.datasets.images").joinpath(name))) for name in ("china.jpg", "flower.jpg"))
PORTRAIT = Path(str(files("matplotlib").joinpath("mpl-data", "sample_data", "grace_hopper.jpg")))
ALL = (CHINA, FLOWER, PORTRAIT)
CAPTIONS = {
    CHINA: ["a temple with a curved roof", "a Chinese palace below a blue sky"],
    FLOWER: ["a yellow and red flower", "a flower with many petals"],
    PORTRAIT: ["a woman in uniform", "a portrait with a flag"],
}
LABELS = {CHINA: "temple", FLOWER: "flower", PORTRAIT: "portrait"}
