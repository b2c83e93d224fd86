"""Labelled questions to when an answer is refused: fitted, measured, kept in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import CalibrationInvalid
from server.grounding.abstention import SIGNAL_NAMES, Abstention, Signals

FILE_NAME = "calibration.json"
_FORMAT = "mynah calibration 1"
# With fewer labels of either kind, weights are left as they are and the threshold alone is chosen.
MIN_FOR_WEIGHTS = 60
MIN_LABELS = 8
_NUM_FOLDS = 5
_PART = 2**20


@dataclass(frozen=True, slots=True)
class Labelled:
    """The signals of a question of which it is known whether the documents answer it."""

    signals: Signals
    is_answerable: bool


@dataclass(frozen=True, slots=True)
class Refusals:
    """Shares (0..1) of the questions refused at a threshold: rightly, and falsely."""

    min_evidence: float
    unanswerable: float
    answerable: float


def calibrate(
    examples: Sequence[Labelled], current: Abstention, *, max_false: float
) -> tuple[Abstention, Refusals]:
    """When to refuse: at most `max_false` of the answerable examples, and what that refuses.

    New weights where there are labels enough to learn them, else a new threshold on `current`
    alone. Raises `CalibrationInvalid` where there are too few even for that.
    """
    check_labels(examples, MIN_LABELS)
    num_answerable = sum(example.is_answerable for example in examples)
    if min(num_answerable, len(examples) - num_answerable) >= MIN_FOR_WEIGHTS:
        return fit(examples, max_false=max_false)
    chances = [current.weigh(example.signals) for example in examples]
    refusals = choose_threshold(chances, examples, max_false=max_false)
    return replace(current, min_evidence=refusals.min_evidence), refusals


def fit(
    examples: Sequence[Labelled],
    signals: Sequence[str] = SIGNAL_NAMES,
    *,
    max_false: float,
    groups: Sequence[str] | None = None,
) -> tuple[Abstention, Refusals]:
    """The regression over `signals` of the least loss with a threshold, and what that refuses.

    Logistic regression with an L2 penalty over standardised signals (scikit-learn). Threshold and
    shares are of chances that each example gets from a fit without it, or without its group.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.array([[getattr(e.signals, name) for name in signals] for e in examples])
    labels = np.array([example.is_answerable for example in examples])
    scaler, regression = StandardScaler(), LogisticRegression()
    pipeline = make_pipeline(scaler, regression)
    folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=0)
    chances = cross_val_predict(
        pipeline,
        rows,
        labels,
        groups=groups,
        cv=folds if groups is None else GroupKFold(_NUM_FOLDS),
        method="predict_proba",
    )[:, 1]
    refusals = choose_threshold(chances.tolist(), examples, max_false=max_false)
    pipeline.fit(rows, labels)
    weights = regression.coef_[0] / scaler.scale_
    named = {name: float(weight) for name, weight in zip(signals, weights, strict=True)}
    bias = float(regression.intercept_[0] - weights @ scaler.mean_)
    return Abstention(named, bias, refusals.min_evidence), refusals


def choose_threshold(
    chances: Sequence[float], examples: Sequence[Labelled], *, max_false: float
) -> Refusals:
    """The highest threshold that refuses at most `max_false` of the answerable examples."""
    yes = sorted(c for c, e in zip(chances, examples, strict=True) if e.is_answerable)
    no = [c for c, e in zip(chances, examples, strict=True) if not e.is_answerable]
    floor = yes[min(int(max_false * len(yes)), len(yes) - 1)]
    return Refusals(
        floor,
        sum(chance < floor for chance in no) / len(no),
        sum(chance < floor for chance in yes) / len(yes),
    )


def fingerprint(model: Path) -> str:
    """SHA-256 of a GGUF's size and of its first and last MiB: files of gigabytes are told apart."""
    size = model.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with model.open("rb") as file:
        digest.update(file.read(_PART))
        file.seek(max(0, size - _PART))
        digest.update(file.read(_PART))
    return digest.hexdigest()


def check_labels(examples: Sequence[Labelled], least: int) -> None:
    """Raise `CalibrationInvalid` with fewer than `least` of either kind."""
    num_answerable = sum(example.is_answerable for example in examples)
    num_not = len(examples) - num_answerable
    if min(num_answerable, num_not) < least:
        raise CalibrationInvalid(
            f"there are {num_answerable} answerable and {num_not} unanswerable questions; at least"
            f" {least} of each are needed."
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is kept: for which model it was made, and what it does to the questions it came from."""

    abstention: Abstention
    model_fingerprint: str
    refusals: Refusals
    num_questions: int

    def save(self, data_dir: Path) -> Path:
        """Write it into the data directory, aside and then renamed; return its path."""
        path = data_dir / FILE_NAME
        content = {"format": _FORMAT, **asdict(self)}
        content["abstention"]["weights"] = dict(self.abstention.weights)
        data_dir.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        aside.replace(path)
        return path


def load_calibration(data_dir: Path) -> Calibration | None:
    """The calibration of a data directory, None where there is none.

    Raises `CalibrationInvalid` for a file that is damaged.
    """
    path = data_dir / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CalibrationInvalid(_damaged(path, error)) from None
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return Calibration(
            _read_abstention(content["abstention"]),
            str(content["model_fingerprint"]),
            Refusals(**content["refusals"]),
            int(content["num_questions"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CalibrationInvalid(_damaged(path, error)) from None


def _read_abstention(content: Mapping[str, Any]) -> Abstention:
    weights = {str(name): float(weight) for name, weight in content["weights"].items()}
    if unknown := set(weights) - set(SIGNAL_NAMES):
        raise ValueError(f"no signal is called {sorted(unknown)[0]!r}")
    return Abstention(weights, float(content["bias"]), float(content["min_evidence"]))


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged ({error}); delete it and run `mynah calibrate` again."
