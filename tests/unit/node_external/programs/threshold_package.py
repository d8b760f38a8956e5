"""An application as MONAI packages run: thresholds a series and writes NIfTI by ITK."""

import os
from pathlib import Path

import SimpleITK as sitk

source, target = Path(os.environ["HOLOSCAN_INPUT_PATH"]), Path(os.environ["HOLOSCAN_OUTPUT_PATH"])
reader = sitk.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source)))
image = reader.Execute()
mask = sitk.Cast(image > 600, sitk.sitkUInt8) * 2 + sitk.Cast(sitk.And(image > 250, image <= 600), sitk.sitkUInt8)
(target / "below").mkdir()
sitk.WriteImage(mask, str(target / "below" / "mask.nii.gz"))
