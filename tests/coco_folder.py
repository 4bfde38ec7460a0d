"""Write a folder with COCO's and Karpathy's files, of rendered scenes with known masks and captions."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from visionbench.data.shapes import compositions, render

KINDS = ("rgb", "grey", "cmyk", "rotated", "sixteen_bit", "animated")
"""The file formats of the images, in turn."""


def scene(index, size=(64, 64)):
    """Return image [H, W, 3] and masks bool [2, H, W] of a composition. The scene is a square at the top left."""
    side = min(size)
    square, numbers = render(compositions("test")[index], 0, side)
    image, masks = np.full((*size, 3), 50, np.uint8), np.zeros((2, *size), bool)
    image[:side, :side] = square
    masks[:, :side, :side] = [numbers == 1, numbers == 2]
    return image, masks


def captions(index):
    return compositions("test")[index].captions


def file_name(index):
    return f"{index + 1:012d}" + {"sixteen_bit": ".png", "animated": ".gif"}.get(KINDS[index % len(KINDS)], ".jpg")


def write(root, size=(64, 64), images=6):
    """Write `val2017/`, `annotations/{captions,instances}_val2017.json` and `dataset_coco.json`.

    Masks are polygons of many parts, run lengths and compressed run lengths in turn. The first image also has a crowd
    region.
    """
    folder = Path(root) / "val2017"
    for part in (folder, Path(root) / "annotations"):
        part.mkdir(parents=True, exist_ok=True)
    listed, texts, instances, split = [], [], [], []
    for index in range(images):
        image, masks = scene(index, size)
        save(image, KINDS[index % len(KINDS)], folder / file_name(index))
        listed.append({"id": index + 1, "file_name": file_name(index), "height": size[0], "width": size[1]})
        sentences = [
            {"raw": text, "tokens": text.split(), "sentid": len(texts) + n} for n, text in enumerate(captions(index))
        ]
        split.append(
            {
                "filename": file_name(index),
                "filepath": "val2017",
                "cocoid": index + 1,
                "imgid": index,
                "split": "test",
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
        texts += [
            {"id": len(texts) + n, "image_id": index + 1, "caption": text} for n, text in enumerate(captions(index))
        ]
        for mask in masks:
            region = (polygons, run_lengths, compressed)[len(instances) % 3](mask)
            instances.append(instance(len(instances) + 1, index + 1, mask, region, crowd=0))
    everywhere = np.ones(size, bool)
    instances.append(instance(len(instances) + 1, 1, everywhere, run_lengths(everywhere), crowd=1))
    annotations = Path(root) / "annotations"
    dump({"info": {}, "images": listed, "annotations": texts}, annotations / "captions_val2017.json")
    categories = [{"id": 1, "name": "object", "supercategory": "object"}]
    full = {"info": {}, "images": listed, "annotations": instances, "categories": categories}
    dump(full, annotations / "instances_val2017.json")
    dump({"dataset": "coco", "images": split}, Path(root) / "dataset_coco.json")


def dump(value, path):
    path.write_text(json.dumps(value), "utf-8")


def save(pixels, kind, path):
    """Save an image [H, W, 3] in one of the KINDS."""
    image = Image.fromarray(pixels)
    if kind == "sixteen_bit":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "animated":
        image.save(path, save_all=True, append_images=[Image.new("RGB", image.size)])
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # turned clockwise by 90 degrees when shown
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
    """Return a rectangle for each run of pixels in a row: exactly the mask's pixels."""
    rectangles = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.pad(row.astype(np.int8), 1)))
        rectangles += [[x0, y, x1, y, x1, y + 1, x0, y + 1] for x0, x1 in edges.reshape(-1, 2).tolist()]
    return [[float(number) for number in polygon] for polygon in rectangles]


def run_lengths(mask):
    """Return runs down the columns, background first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def compressed(mask):
    from pycocotools.mask import encode

    runs = encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": runs["size"], "counts": runs["counts"].decode()}
