"""The weights of a CLIP of transformers in the form of open_clip."""

import torch

from visionbench.weights import open_clip

BLOCKS = {name: part for part, name in open_clip.BLOCK.items()}


def open_clip_state(module):
    """The weights of a CLIP of transformers with the names and shapes of open_clip."""
    state, theirs = module.state_dict(), {}
    parameters = {ours: name for name, ours in open_clip.PARAMETERS.items()}
    for name, tensor in state.items():
        layer, _, parameter = name.rpartition(".")
        if name in parameters:
            theirs[parameters[name]] = tensor
        elif layer in open_clip.NORMALIZATIONS.values():
            theirs[f"{next(k for k, v in open_clip.NORMALIZATIONS.items() if v == layer)}.{parameter}"] = tensor
        elif name in open_clip.PROJECTIONS.values():
            theirs[next(k for k, v in open_clip.PROJECTIONS.items() if v == name)] = tensor.T.contiguous()
        elif ".encoder.layers." in name:
            tower, rest = name.split("_model.encoder.layers.")
            number, _, inner = rest.partition(".")
            prefix = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}"
            module_name, _, parameter = inner.rpartition(".")
            if module_name.endswith(("k_proj", "v_proj")):
                continue
            if module_name.endswith("q_proj"):
                parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                theirs[f"{prefix}.attn.in_proj_{parameter}"] = torch.cat(parts)
            else:
                theirs[f"{prefix}.{BLOCKS[module_name]}.{parameter}"] = tensor
        elif name == "logit_scale":
            theirs[name] = tensor
        else:
            raise AssertionError(name)
    return theirs
