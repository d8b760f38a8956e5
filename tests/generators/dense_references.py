"""Reference arrays of nnU-Net v2 and MONAI, for the tests of :mod:`models.dense`, and the key layouts of their networks.

``python tests/generators/dense_references.py OUT.npz KEYS_FOLDER`` in an environment that has nnunetv2, acvl_utils,
batchgenerators, dynamic-network-architectures and monai.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import SegResNet
from monai.transforms import NormalizeIntensity, Spacing
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    CTNormalization,
    RescaleTo01Normalization,
    ZScoreNormalization,
)
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
from torch import nn

SPACINGS = {
    "isotropic": ((1.0, 0.8, 0.9), (1.5, 1.5, 1.5)),
    "thick": ((5.0, 0.8, 0.8), (2.5, 1.0, 1.0)),
    "to_thick": ((1.0, 1.0, 1.0), (4.0, 1.2, 0.9)),
}
"""From, to (mm); the second and third have an axis that is resampled apart."""
LENGTHS = ((20, 16), (41, 16), (64, 24), (16, 16), (100, 48))
CT = {"mean": 40.0, "std": 120.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0}


def image() -> np.ndarray:
    """Smooth structures, noise, and a border of zeros; (14, 20, 17)."""
    rng = np.random.default_rng(3)
    z, y, x = np.indices((14, 20, 17))
    made = (np.sin(z / 3) + np.cos(y / 4) + np.sin(x / 2.5)) * 200 + rng.normal(0, 20, z.shape) + 300
    made[:2] = made[:, :, -3:] = 0
    return made.astype(np.float32)


def uneven(window: torch.Tensor) -> torch.Tensor:
    """A "network" whose answer depends on the place in the window, so that blending shows."""
    ramps = [
        torch.linspace(-1, 1, n).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(window.shape[2:])
    ]
    return torch.cat([window * (1 + ramps[0] + ramps[2]), window.square() * ramps[1]], 1)


def references() -> dict[str, np.ndarray]:
    """By name."""
    source = image()
    made: dict[str, np.ndarray] = {"image": source}
    for name, (old, new) in SPACINGS.items():
        shape = compute_new_shape(source.shape, old, new)
        made[f"shape {name}"] = np.array(shape)
        for order in (3, 1):
            made[f"resampled {name} {order}"] = resample_data_or_seg_to_shape(
                source[None], shape, old, new, is_seg=False, order=order, order_z=0, force_separate_z=None
            )[0]
        seen = MetaTensor(torch.tensor(source)[None], affine=torch.diag(torch.tensor([*old, 1.0])))
        spaced = Spacing(pixdim=new, mode="bilinear")(seen)
        made[f"spaced {name}"] = spaced[0].numpy()
        made[f"spaced back {name}"] = Spacing(pixdim=old, mode="bilinear")(spaced)[0].numpy()
    mask = np.where(source != 0, 0, -1)
    made["zscore"] = ZScoreNormalization(False, {}).run(source.copy(), mask)
    made["zscore_mask"] = ZScoreNormalization(True, {}).run(source.copy(), mask)
    made["zscore_nonzero"] = NormalizeIntensity(nonzero=True, channel_wise=True)(torch.tensor(source)[None])[0].numpy()
    made["clip_standardise"] = CTNormalization(False, CT).run(source.copy() - 600, mask)
    made["own_range"] = RescaleTo01Normalization(False, {}).run(source.copy(), mask)
    for length, window in LENGTHS:
        made[f"nnunet starts {length} {window}"] = np.array(
            compute_steps_for_sliding_window((length,), (window,), 0.5)[0]
        )
        found = [part[0].start for part in dense_patch_slices((length,), (window,), (window // 2,), return_slice=True)]
        made[f"monai starts {length} {window}"] = np.array(found)
    made["nnunet weights"] = compute_gaussian((8, 12, 10), dtype=torch.float32, device=torch.device("cpu")).numpy()
    made["monai weights"] = compute_importance_map((8, 12, 10), mode="gaussian", sigma_scale=0.125).numpy()
    for mode in ("gaussian", "constant"):
        slid = sliding_window_inference(
            torch.from_numpy(source)[None, None], (8, 24, 10), 1, uneven, overlap=0.5, mode=mode
        )
        made[f"monai slid {mode}"] = slid[0].numpy()
    return made


def layouts() -> dict[str, tuple[str, nn.Module]]:
    """Source and network at the released size, by the name of its keys file."""
    common = {
        "conv_op": nn.Conv3d,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "conv_bias": True,
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 5],
    }
    features = [32, 64, 128, 256, 320, 320]
    source = "MIC-DKFZ/dynamic-network-architectures@85b1aaae8c88:dynamic_network_architectures/architectures/unet.py"
    plain = PlainConvUNet(
        1, 6, features, n_conv_per_stage=[2] * 6, n_conv_per_stage_decoder=[2] * 5, num_classes=25, **common
    )
    residual = ResidualEncoderUNet(
        1,
        6,
        features,
        n_blocks_per_stage=[1, 3, 4, 6, 6, 6],
        n_conv_per_stage_decoder=[1] * 5,
        num_classes=25,
        **common,
    )
    brats = SegResNet(init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2, blocks_down=(1, 2, 2, 4))
    return {
        "nnunet": (source, plain),
        "nnunet-resenc": (source, residual),
        "brats-segresnet": ("Project-MONAI/MONAI@1.6.1:monai/networks/nets/segresnet.py", brats),
    }


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **references())
    for name, (source, network) in layouts().items():
        keys = {key: list(value.shape) for key, value in network.state_dict().items()}
        text = json.dumps({"source": source, "keys": keys}, indent=0) + "\n"
        Path(sys.argv[2], f"{name}.json").write_text(text, encoding="utf-8")
