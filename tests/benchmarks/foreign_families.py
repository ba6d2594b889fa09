"""Which families of timm become networks with blocks: one small model of each, adopted, or refused with the reason.

A family is a file of timm with models in it. Models of more than 80 million parameters are cut to two blocks where
timm can. Every model has random weights and is given the smallest images that it
takes of 64 pixels, its own size otherwise; its logits in parts must equal its own to the last bit, or it is refused.
Prints, for each family, the model, the blocks, those of them that are residual (route "branch" is the shortcut
deleted), that concatenate, and that are only passed through; then what differs from foreign_families.json beside this
file (family -> number of blocks, or how the reason begins), and the counts. Target: 60 families. Takes some minutes.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from timing import arguments, conclude, show
from torch import Tensor, nn

TARGET = 60
PIXELS = (64, 128)
TIMM = "1.0.31"  # of which the table is; other versions have other models
EXPECTED = Path(__file__).with_suffix(".json")

# The smallest of each family by parameters among those that a few names promise; a family that is not here is tried by
# the first of its names.
MODELS = """
beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 test_convnext
cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m
deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
mobilenetv2_035 efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m_enc ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224
sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4
lcnetv2_small levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small
test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1
res2next50 resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1
skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit vit_tiny_r_s16_p8_224
test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw xception xception41p
xcit_nano_12_p8_224
""".split()  # noqa: SIM905

# Whose smallest is large: as many blocks of it as show how it is built.
SHORTER = {
    "deepseek_vit_412m": {"depth": 2},
    "gemma4_vit_167m_enc": {"depth": 2},
    "beit_base_patch16_224": {"depth": 2},
    "naflexvit_base_patch16_parfac_gap": {"depth": 2},
    "qwen3_vit_88m": {"depth": 2},
    "samvit_base_patch16_224": {"depth": 2, "global_attn_indexes": (1,)},
}


def models() -> dict[str, str]:
    """Family -> name of its model, for every family of the installed timm."""
    from timm.models import _registry

    families: dict[str, set[str]] = _registry._module_to_models
    chosen = {family: name for family, names in families.items() for name in MODELS if name in names}
    return {family: chosen.get(family, min(names)) for family, names in sorted(families.items())}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """The model with random weights, and two images that it takes."""
    import timm

    torch.manual_seed(0)
    config = timm.get_pretrained_cfg(name)
    own = 224 if config is None else config.input_size[-1]
    fixed = config is not None and config.fixed_input_size
    for pixels in (*PIXELS, own):
        try:
            model = timm.create_model(
                name,
                num_classes=10,
                **({"img_size": pixels} if fixed and pixels != own else {}),
                **SHORTER.get(name, {}),
            )
            images = torch.randn(2, 3, pixels, pixels)
            with torch.no_grad():
                model.eval()(images)
        except Exception:  # whatever timm raises for a size that does not go
            if pixels == own:
                raise
            continue
        break
    return model, images


def row(family: str, name: str) -> dict[str, object]:
    """One line of the table."""
    from modules.foreign.adoption import adopt

    started = time.perf_counter()
    counts: Counter[str] = Counter()
    reason = ""
    try:
        counts = Counter(block.merge for _, block in adopt(*made(name)).named_blocks())
    except Exception as error:  # a family that fails in any way is a line of the table too
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        reason = what.splitlines()[0].partition(" cannot be divided into blocks: ")[2] or what.splitlines()[0]
    return {
        "family": family,
        "model": name,
        "blocks": sum(counts.values()),
        **{merge: counts[merge] for merge in ("add", "concat", "replace")},
        "seconds": f"{time.perf_counter() - started:.1f}",
        "reason": reason,
    }


def moved(rows: Sequence[Mapping[str, object]], expected: Mapping[str, int | str]) -> list[str]:
    """In a line each, the families whose blocks, or the beginning of whose reason, are not the expected ones."""
    found = []
    for each in rows:
        family, now = str(each["family"]), each["blocks"] or str(each["reason"])
        before = expected.get(family, "not in the table")
        if now != before and not (isinstance(now, str) and isinstance(before, str) and now.startswith(before)):
            found.append(f"{family}: {before} -> {now}")
    return found


def main() -> None:
    options = arguments(
        __doc__, families={"nargs": "+", "default": [], "metavar": "NAME", "help": "some instead of all"}
    )
    warnings.filterwarnings("ignore")
    chosen = {family: name for family, name in models().items() if not options.families or family in options.families}
    if options.quick:
        chosen = dict(list(chosen.items())[:2])
    rows = [row(family, name) for family, name in chosen.items()]
    show(rows)
    expected = json.loads(EXPECTED.read_text())
    changes = moved(rows, expected)
    if not options.families and not options.quick:
        changes += [f"{family}: {expected[family]} -> no family of this timm" for family in set(expected) - set(chosen)]
    for change in sorted(changes):
        print(f"moved: {change}")
    adopted = [each for each in rows if each["blocks"]]
    residual = [each for each in adopted if each["add"]]
    conclude(
        f"{len(adopted)} of {len(rows)} families adopted, {len(residual)} with residual blocks, "
        f"{len(changes)} moved; target {TARGET}",
        {str(each["family"]): each for each in rows},
        options,
    )


if __name__ == "__main__":
    main()
