"""The tables of what can be believed of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcsa.tasks.common.held_to_marks import ROWS
from pcsa.tasks.common.read_outs import FLOORS, MEAN_SHAPE, TEMPLATE
from pcsa.tasks.common.tables import markdown_table, number, shown_thresholds
from pcsa.tasks.common.task import Column, Details

_ECE = "expected_calibration_error"
_CONFIDENCES = {
    "mass": "mass within {threshold:g}",
    "peak": "largest probability",
    "entropy": "entropy, negative",
    "expected_error": "expected error, negative",
}


def pck_columns(thresholds: Sequence[float]) -> tuple[Column, ...]:
    """Columns of the PCK at some thresholds, Euclidean and geodesic, in percent."""
    return tuple(
        _pck(title, kind, t) for title, kind in (("PCK", "euclidean"), ("geod.", "geodesic")) for t in thresholds
    )


def _pck(title: str, kind: str, threshold: float) -> Column:
    def value(metrics: Mapping[str, Any]) -> float | None:
        curve = metrics.get("overall", {}).get(kind)
        if curve is None or threshold not in metrics["thresholds"]:
            return None
        return 100 * float(curve["pck"][metrics["thresholds"].index(threshold)])

    return Column(f"{title}@{threshold:g}", value)


def floor_title(name: str, shapes: str = "the") -> str:
    """What tables call a floor; ``shapes`` says how many training shapes there were."""
    if name == TEMPLATE:
        return "template of the training labels (floor)"
    floor, _, how = name.partition(", ")
    title = f"mean of {shapes} training shapes" if floor == MEAN_SHAPE else f"best fitting of {shapes} training shapes"
    return f"{title}{f', {how}' * bool(how)} (floor)"


def belief_details(metrics: Mapping[str, Any]) -> Details:
    """Every read-out of an evaluation of a detector, and what its labels allow; nothing of what an old file lacks."""
    thresholds, belief = metrics.get("thresholds", ()), metrics.get("confidence")
    if belief is None or "read_outs" not in metrics or "labels" not in metrics:
        return Details()
    shown = shown_thresholds(thresholds)
    at = _judged(metrics, shown)

    def curve(values: Sequence[float]) -> dict[str, float | None]:
        return {f"PCK@{thresholds[i]:g}": 100 * values[i] for i in shown}

    rows: dict[str, dict[str, float | None]] = {}
    bounds: dict[str, dict[str, float | None]] = {}
    for name, scores in metrics["read_outs"].items():
        row = curve(scores["euclidean"]["pck"])
        for kind, title in (("surface", "on a point"), ("geodesic", "geodesic")):
            if kind in scores:
                row[f"{title} @{thresholds[at]:g}"] = 100 * scores[kind]["pck"][at]
        row["mean error"] = scores["euclidean"]["mean_error"]
        mass = scores.get("mass", {})
        for key, title in (("mean", "mass"), ("correct", "right"), ("pearson", "r"), (_ECE, "ECE")):
            if key in mass:
                row[title] = mass[key]
        for key, title in (("as_trained", "ECE as trained"), ("cross_fitted", "ECE cross-fitted")):
            if key in mass:
                row[title] = mass[key][_ECE]
        (rows if name not in FLOORS else bounds)[floor_title(name) if name in FLOORS else name] = row
    labels = metrics["labels"]
    for key, title in (("agreement", "left and right labels agree"), ("ceiling", "ceiling of the labels")):
        if labels[key] is not None:
            bounds[title] = curve(labels[key])
    bounds["labels with no other point as near"] = curve(labels["alone"])
    return Details(rows, bounds)


def _judged(metrics: Mapping[str, Any], shown: Sequence[int]) -> int:
    """Place of the threshold by which a keypoint is right, or of another one if it is none of them."""
    thresholds, right = metrics["thresholds"], metrics["confidence"]["threshold"]
    return int(thresholds.index(right)) if right in thresholds else shown[0]


def format_belief(metrics: Mapping[str, Any]) -> str:
    """The tables of what an evaluation of a detector says beside its scores."""
    belief, details = metrics["confidence"], belief_details(metrics)
    named = {**details.rows, **details.bounds}
    # All that is a length, or a share within one; what the masses are worth has a table of its own.
    heads = [h for h in next(iter(named.values())) if h.startswith(("PCK", "on a point", "geodesic", "mean error"))]
    rows = [
        [title, *(number(row.get(h), 4 if h == "mean error" else 1) for h in heads)] for title, row in named.items()
    ]
    lines = [markdown_table(["read-out of the same maps", *heads], rows), ""]
    labels = metrics["labels"]
    if labels["agreement"] is not None:
        lines.append(
            f"ceiling: {labels['num_pairs']} pairs of left and right labels, mirrored, agree within √2 times the "
            "distance: the most that can be right against one annotator if the noises of labels are equal, "
            "independent, and have nothing to do with where the points lie; a detector that sees them may pass it"
        )
    lines += ["", _mass_table(metrics)]
    candidates = []
    for name, row in belief["candidates"].items():
        cells = [number(row["pearson"], 3), number(row["area_under_risk_coverage"], 3)]
        cells += [number(100 * row["risk_coverage"]["risk"][i], 1) for i in (4, 7, 9)]
        cells.append(_between(row, _ECE, 3))
        candidates.append([_CONFIDENCES[name].format(threshold=belief["threshold"]), *cells])
    heads = ["confidence", "r", "AURC", "wrong in the surest 50 %", "80 %", "all", "ECE (95 %)"]
    lines += ["", markdown_table(heads, candidates), ""]
    by = f"fitted on {belief['fitted_on']}" if belief["fitted_on"] else "as trained"
    lines.append(
        f"right: error < {belief['threshold']:g}; temperature of the confidences {belief['temperature']:.3g} ({by})"
    )
    if belief["fitted_on"] is not None and belief["fitted_on"] in (metrics["split"], metrics.get("fold")):
        lines.append("the temperature was fitted on these clouds: ECE is optimistic here")
    if "fitted" in belief:
        fitted = belief["fitted"]
        use = "for the calls that follow" if fitted["stored"] else "not stored"
        lines.append(f"temperature fitted on {fitted['on']}, {use}: {fitted['temperature']:.3g}")
    return "\n".join(lines)


def format_marks(scores: Mapping[str, Any]) -> str:
    """The table of what predicted covariances are worth against marks of several people."""
    heads = ["covariance", "factor", *(f"inside {100 * level:g} %" for level in scores["levels"])]
    heads += ["nats per mark", "gain over the constant"]
    rows = []
    for name, row in scores["rows"].items():
        low, high = row.get("factor", (None, None))
        factor = number(low, 2) if low == high else f"{low:.2f} to {high:.2f}"
        shares = ["–"] * len(scores["levels"])
        if "coverage" in row:
            shares = [
                _between({"share": 100 * share, "share_interval": [100 * end for end in ends]}, "share", 1)
                for share, ends in zip(row["coverage"], row["coverage_interval"], strict=True)
            ]
        gain = "–" if name == "constant" else _between(row, "gain", 2)
        rows.append([ROWS[name], factor, *shares, _between(row, "log_likelihood", 2), gain])
    spread = scores["spread_correlation"]
    fitted = "fitted on other clouds of the same" if "calibrated" in scores["rows"] else "too few to fit a factor on"
    return "\n".join(
        [
            f"people's marks: {scores['num_marks']} of {scores['num_keypoints']} keypoints on {scores['num_shapes']} "
            "clouds; covariance: the spread of map and bases about the read-out; factors and constants: "
            f"{fitted}; in brackets 95 % over shapes",
            "",
            markdown_table(heads, rows),
            "",
            f"r of predicted and human spread over keypoints: {number(spread['pearson'], 2)} (of ranks "
            f"{number(spread['spearman'], 2)}); a mark is {number(scores['mark_distance'], 3)} from the prediction, on "
            "average",
        ]
    )


def _mass_table(metrics: Mapping[str, Any]) -> str:
    """The table of what the probability within the threshold is worth, by read-out and temperature.

    A row for each temperature: before one was fitted, the one in use, and those that were fitted on other clouds.
    """
    belief = metrics["confidence"]
    now = "as trained"
    if belief["fitted_on"] is not None:
        now = f"{belief['temperature']:.3g}, fitted on {belief['fitted_on']}"
    titles = {"as_trained": "as trained", "": now}
    if "fitted" in belief:
        found = belief["fitted"]["cross_fitted"]
        if found:
            titles["cross_fitted"] = f"{min(found):.3g} to {max(found):.3g}, fitted on other clouds of the same"
    rows = []
    for name, scores in metrics["read_outs"].items():
        mass = scores.get("mass", {})
        for key, title in titles.items():
            row = mass.get(key) if key else mass
            if row:
                shares = f"{row['mean']:.2f} / {row['correct']:.2f}"
                rows.append([name, title, shares, _between(row, "pearson", 2), _between(row, _ECE, 3)])
    heads = [f"probability within {belief['threshold']:g} of", "temperature", "mean / right", "r (95 %)", "ECE (95 %)"]
    return markdown_table(heads, rows)


def _between(row: Mapping[str, Any], name: str, digits: int) -> str:
    """A figure and its interval."""
    low, high = row.get(f"{name}_interval", (None, None))
    text = number(row.get(name), digits)
    return text if low is None or high is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
