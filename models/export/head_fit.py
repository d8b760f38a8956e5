"""Logistic regression on embeddings, and what it is worth on patients it has not seen. Needs scikit-learn (extra ``train``)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import TooFewImages

FOLDS = 5
HELD_BACK = 0.3
"""Share of the patients that are never trained on."""
RESAMPLES = 1000
STRENGTHS = tuple(float(each) for each in np.logspace(-4, 2, 7))
"""Inverse strengths of the L2 penalty tried."""
_LEAST = 3
"""Patients with and without a finding, in either part, below which nothing can be said."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted linear head, in terms of the raw embedding.

    Attributes
    ----------
    weights : numpy.ndarray
        (width,).
    operating_point : float
        Probability with the best sum of sensitivity and specificity, cross-validated on the training part.
    log : dict
        JSON-serialisable: counts, penalties tried, and figures on the patients held back.
    """

    weights: npt.NDArray[np.float64]
    bias: float
    operating_point: float
    log: dict[str, Any]


def split(patients: npt.NDArray[np.str_], seed: int) -> npt.NDArray[np.bool_]:
    """Which images are held back: all of a patient's, or none."""
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(len(names))
    held = names[drawn[: max(1, round(HELD_BACK * len(names)))]]
    return np.isin(patients, held)


def fit(vectors: Vectors, truth: npt.NDArray[np.int64], patients: npt.NDArray[np.str_], name: str, seed: int) -> Head:
    """Fit one finding.

    Parameters
    ----------
    vectors : numpy.ndarray
        (images, width).
    truth : numpy.ndarray
        0 or 1; −1 where nobody knows, which are left out.
    patients : numpy.ndarray
        Whose image each is.

    Raises
    ------
    TooFewImages
        Too few patients with or without the finding.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = truth >= 0
    vectors, truth, patients = vectors[known].astype(np.float64), truth[known], patients[known]
    held = split(patients, seed)
    _require_enough(truth, patients, held, name)
    x, y, groups = vectors[~held], truth[~held], patients[~held]
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))))
    losses, guesses = {}, {}
    for strength in STRENGTHS:
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: the loss on held-out folds says what it was worth
            guesses[strength] = cross_val_predict(regression, x, y, groups=groups, cv=folds, method="predict_proba")[
                :, 1
            ]
        losses[strength] = _log_loss(y, guesses[strength])
    best = min(losses, key=lambda each: (losses[each], each))
    scaler, regression = StandardScaler().fit(x), LogisticRegression(C=best, max_iter=2000)
    regression.fit(scaler.transform(x), y)
    weights = regression.coef_[0] / scaler.scale_
    bias = float(regression.intercept_[0] - weights @ scaler.mean_)
    point = float(np.clip(_best_point(y, guesses[best]), 0.01, 0.99))
    likely = 1 / (1 + np.exp(-(vectors[held] @ weights + bias)))
    log = {
        "trained_on": _counts(y, groups),
        "penalty": {"chosen": best, "cross_validated_log_loss": {f"{c:g}": round(v, 4) for c, v in losses.items()}},
        "operating_point": round(point, 4),
        "held_back": {
            **_counts(truth[held], patients[held]),
            **figures(truth[held], likely, patients[held], point, seed),
        },
    }
    return Head(weights, bias, point, log)


def figures(
    truth: npt.NDArray[np.int64],
    likely: npt.NDArray[np.float64],
    patients: npt.NDArray[np.str_],
    point: float,
    seed: int,
) -> dict[str, Any]:
    """Area under the ROC curve with a 95 % interval (patients resampled), calibration, and sensitivity at the point."""
    rng, names = np.random.default_rng(seed), np.unique(patients)
    rows = {name: np.flatnonzero(patients == name) for name in names}
    areas = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        if 0 < truth[chosen].sum() < len(chosen):
            areas.append(area_under_roc(truth[chosen], likely[chosen]))
    low, high = np.percentile(areas, [2.5, 97.5])
    slope, intercept = _calibration(truth, likely)
    return {
        "auc": round(area_under_roc(truth, likely), 4),
        "auc_95": [round(float(low), 4), round(float(high), 4)],
        "brier": round(float(np.mean((likely - truth) ** 2)), 4),
        "calibration_slope": round(slope, 3),
        "calibration_intercept": round(intercept, 3),
        "sensitivity": round(float((likely[truth == 1] >= point).mean()), 4),
        "specificity": round(float((likely[truth == 0] < point).mean()), 4),
    }


def area_under_roc(truth: npt.NDArray[np.int64], score: npt.NDArray[np.float64]) -> float:
    """Chance that one with the finding scores higher than one without; ties count half."""
    yes, no = score[truth == 1], score[truth == 0]
    return float(((yes[:, None] > no).sum() + 0.5 * (yes[:, None] == no).sum()) / (len(yes) * len(no)))


def _calibration(truth: npt.NDArray[np.int64], likely: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of the truth on the logit; 1 and 0 where it is calibrated."""
    from sklearn.linear_model import LogisticRegression

    clipped = np.clip(likely, 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped))[:, None]
    found = LogisticRegression(C=1e3, max_iter=1000).fit(logit, truth)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def _require_enough(
    truth: npt.NDArray[np.int64], patients: npt.NDArray[np.str_], held: npt.NDArray[np.bool_], name: str
) -> None:
    for part, words in ((~held, "to train on"), (held, "to hold back")):
        for value in (1, 0):
            count = len(np.unique(patients[part & (truth == value)]))
            if count < _LEAST:
                kind = "with" if value else "without"
                raise TooFewImages(f"{name}: {count} patients {kind} it {words}; at least {_LEAST} are needed")


def _counts(truth: npt.NDArray[np.int64], patients: npt.NDArray[np.str_]) -> dict[str, int]:
    return {"images": len(truth), "patients": len(np.unique(patients)), "with_finding": int((truth == 1).sum())}


def _log_loss(truth: npt.NDArray[np.int64], likely: npt.NDArray[np.float64]) -> float:
    clipped = np.clip(likely, 1e-9, 1 - 1e-9)
    return float(-np.mean(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)))


def _best_point(truth: npt.NDArray[np.int64], likely: npt.NDArray[np.float64]) -> float:
    """Midway between the two scores where sensitivity and specificity are best together."""
    scores = np.unique(likely)
    points = (scores[1:] + scores[:-1]) / 2 if len(scores) > 1 else scores
    gains = [(likely[truth == 1] >= p).mean() + (likely[truth == 0] < p).mean() for p in points]
    return float(points[int(np.argmax(gains))])
