"""A folder shaped as COCO's and Karpathy's files are, of rendered scenes whose masks and captions are known."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from visionbench.data.shapes import compositions, render

KINDS = ("rgb", "grey", "cmyk", "rotated", "sixteen_bit", "animated")
"""How the pictures are kept on disk, in turn."""


def scene(at, size=(64, 64)):
    """Picture [H, W, 3] and masks bool [2, H, W] of a composition; a scene is square, at the top left."""
    side = min(size)
    square, numbers = render(compositions("test")[at], 0, side)
    picture, masks = np.full((*size, 3), 50, np.uint8), np.zeros((2, *size), bool)
    picture[:side, :side] = square
    masks[:, :side, :side] = [numbers == 1, numbers == 2]
    return picture, masks


def captions(at):
    return compositions("test")[at].captions


def file_name(at):
    return f"{at + 1:012d}" + {"sixteen_bit": ".png", "animated": ".gif"}.get(KINDS[at % len(KINDS)], ".jpg")


def write(root, size=(64, 64), pictures=6):
    """`val2017/`, `annotations/{captions,instances}_val2017.json` and `dataset_coco.json`.

    Masks are polygons of many parts, run lengths and compressed run lengths in turn. The first picture has a crowd
    region besides.
    """
    folder = Path(root) / "val2017"
    for part in (folder, Path(root) / "annotations"):
        part.mkdir(parents=True, exist_ok=True)
    images, said, instances, split = [], [], [], []
    for at in range(pictures):
        picture, masks = scene(at, size)
        save(picture, KINDS[at % len(KINDS)], folder / file_name(at))
        images.append({"id": at + 1, "file_name": file_name(at), "height": size[0], "width": size[1]})
        sentences = [
            {"raw": text, "tokens": text.split(), "sentid": len(said) + n} for n, text in enumerate(captions(at))
        ]
        split.append(
            {
                "filename": file_name(at),
                "filepath": "val2017",
                "cocoid": at + 1,
                "imgid": at,
                "split": "test",
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
        said += [{"id": len(said) + n, "image_id": at + 1, "caption": text} for n, text in enumerate(captions(at))]
        for mask in masks:
            region = (polygons, run_lengths, compressed)[len(instances) % 3](mask)
            instances.append(instance(len(instances) + 1, at + 1, mask, region, crowd=0))
    everywhere = np.ones(size, bool)
    instances.append(instance(len(instances) + 1, 1, everywhere, run_lengths(everywhere), crowd=1))
    annotations = Path(root) / "annotations"
    dump({"info": {}, "images": images, "annotations": said}, annotations / "captions_val2017.json")
    categories = [{"id": 1, "name": "thing", "supercategory": "thing"}]
    whole = {"info": {}, "images": images, "annotations": instances, "categories": categories}
    dump(whole, annotations / "instances_val2017.json")
    dump({"dataset": "coco", "images": split}, Path(root) / "dataset_coco.json")


def dump(value, path):
    path.write_text(json.dumps(value), "utf-8")


def save(picture, kind, path):
    """A picture [H, W, 3], kept in one of the KINDS."""
    image = Image.fromarray(picture)
    if kind == "sixteen_bit":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "animated":
        image.save(path, save_all=True, append_images=[Image.new("RGB", image.size)])
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned clockwise by a quarter
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, subsampling=0, exif=exif)
    else:
        image.convert({"rgb": "RGB", "grey": "L", "cmyk": "CMYK"}[kind]).save(path, quality=95)


def instance(id, image_id, mask, region, crowd):
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
    return {
        "id": id,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": region,
        "iscrowd": crowd,
        "bbox": box,
        "area": int(mask.sum()),
    }


def polygons(mask):
    """A rectangle for each run of pixels in a row: exactly the mask's pixels."""
    found = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.pad(row.astype(np.int8), 1)))
        found += [[x0, y, x1, y, x1, y + 1, x0, y + 1] for x0, x1 in edges.reshape(-1, 2).tolist()]
    return [[float(number) for number in polygon] for polygon in found]


def run_lengths(mask):
    """Runs down the columns, background first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def compressed(mask):
    from pycocotools.mask import encode

    found = encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}
