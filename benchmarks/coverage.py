"""How often confidence intervals hold: coverage and width, simulated from real per-image scores.

A population is the scores of one thing on many real images, taken as all images there are; samples of n are
drawn from it with replacement, and each method's 95 % interval is held against the population's mean. The
images are those of ISIC 2017 that are not among the 305 test images of ISIC 2016 (the test split chooses
nothing): those that the shipped student was trained on, and those that it never saw.

    python benchmarks/coverage.py --data FOLDER [--scores scores.npz] [--samples 2000] \
        [--full benchmarks/coverage.md] [--docs docs/concepts/numbers.md]

FOLDER holds images/, masks/ and manifest.csv (image_id, isic2016_split). The scores are computed once and
kept in --scores. A few minutes on one core. --full gets every method, --docs what the product has and had.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from dermdistill import imaging
from dermdistill.core.files import read_csv, write_text
from dermdistill.inference.predictor import Predictor
from dermdistill.metrics.boundary import outline_scores
from dermdistill.metrics.intervals import UNSEEN, Values, mean_limits
from dermdistill.metrics.overlap import Counts, count, scores

SIZES = (20, 40, 100, 305)
RESAMPLES = 2000
TAIL = 0.025
MARKS = ("<!-- measured by benchmarks/coverage.py -->", "<!-- end of coverage -->")
SLOW = 500
"""Samples for the betting intervals, which are walked image by image."""

Limits = tuple[Values, Values]
"""Lower and upper ends, [samples] each."""


@dataclass(frozen=True)
class Population:
    """All the values that there are, and the scale they live on."""

    name: str
    values: Values
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """Samples [samples, n] with what several methods share."""

    x: Values
    bounds: tuple[float, float]

    @functools.cached_property
    def mean(self) -> Values:
        """Of each sample."""
        return self.x.mean(axis=1)

    @functools.cached_property
    def around(self) -> Values:
        """The values less their sample's mean."""
        return self.x - self.mean[:, None]

    @functools.cached_property
    def error(self) -> Values:
        """Standard error of each mean."""
        return self.x.std(axis=1, ddof=1) / np.sqrt(self.x.shape[1])

    @functools.cached_property
    def skewness(self) -> Values:
        """Of each sample; 0 where nothing varies."""
        return (self.around**3).mean(axis=1) / np.maximum(self.x.std(axis=1), 1e-15) ** 3

    @functools.cached_property
    def resampled(self) -> tuple[Values, Values]:
        """Means and standard errors of bootstrap samples, [samples, RESAMPLES] each, around 0.

        All samples share one plan of resampling, so that each is one product of matrices.
        """
        n = self.x.shape[1]
        plan = np.random.default_rng(7).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
        means = self.around @ plan.T
        variances = (self.around**2) @ plan.T - means**2
        return means, np.sqrt(np.maximum(variances, 0) / (n - 1))


def percentile(s: Sample) -> Limits:
    """Percentile bootstrap."""
    low, high = np.quantile(s.resampled[0], [TAIL, 1 - TAIL], axis=1)
    return s.mean + low, s.mean + high


def bca(s: Sample) -> Limits:
    """Bias-corrected, accelerated bootstrap (Efron 1987): what the product had until now."""
    means = s.resampled[0]
    below = (means < 0).mean(axis=1) + 0.5 * (means == 0).mean(axis=1)
    bias = stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    acceleration = s.skewness / (6 * np.sqrt(s.x.shape[1]))
    order = np.sort(means, axis=1)
    ends = []
    for z in stats.norm.ppf([TAIL, 1 - TAIL]):
        p = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        place = np.clip(np.round(p * (RESAMPLES - 1)).astype(int), 0, RESAMPLES - 1)
        ends.append(s.mean + order[np.arange(len(order)), place])
    return ends[0], ends[1]


def _studentised(s: Sample) -> Values:
    means, errors = s.resampled
    return np.divide(means, errors, out=np.zeros_like(means), where=errors > 0)


def studentised(s: Sample) -> Limits:
    """Studentised bootstrap, equal tails."""
    low, high = np.quantile(_studentised(s), [TAIL, 1 - TAIL], axis=1)
    return s.mean - high * s.error, s.mean - low * s.error


def studentised_symmetric(s: Sample) -> Limits:
    """Studentised bootstrap, symmetric around the mean."""
    half = np.quantile(np.abs(_studentised(s)), 1 - 2 * TAIL, axis=1) * s.error
    return s.mean - half, s.mean + half


def student_t(s: Sample) -> Limits:
    """Student's t: `dermdistill.metrics.intervals.difference_interval` for many samples."""
    half = float(stats.t.ppf(1 - TAIL, s.x.shape[1] - 1)) * s.error
    return s.mean - half, s.mean + half


def johnson_t(s: Sample) -> Limits:
    """t with Johnson's correction for skewness (1978)."""
    n = s.x.shape[1]
    t = float(stats.t.ppf(1 - TAIL, n - 1))
    shift = s.skewness * s.error * (1 + 2 * t**2) / (6 * np.sqrt(n))
    return s.mean + shift - t * s.error, s.mean + shift + t * s.error


def hall_t(s: Sample) -> Limits:
    """t with Hall's cubic transformation (1992)."""
    root = np.sqrt(s.x.shape[1])
    t = float(stats.t.ppf(1 - TAIL, s.x.shape[1] - 1))
    skew = np.where(np.abs(s.skewness) < 1e-6, 1e-6, s.skewness)

    def back(value: float) -> Values:
        return 3 * root / skew * (np.cbrt(1 + skew / root * (value - skew / (6 * root))) - 1)

    return s.mean - back(t) * s.error, s.mean - back(-t) * s.error


def empirical_bernstein(s: Sample) -> Limits:
    """Maurer & Pontil (2009): guaranteed for every population within the bounds."""
    n, width = s.x.shape[1], s.bounds[1] - s.bounds[0]
    log = np.log(4 / (2 * TAIL))
    variance = s.x.var(axis=1, ddof=1) / width**2
    half = width * (np.sqrt(2 * variance * log / n) + 7 * log / (3 * (n - 1)))
    return s.mean - half, s.mean + half


def hedged_capital(s: Sample) -> Limits:
    """Betting, hedged capital (Waudby-Smith & Ramdas 2023, theorem 3), stopped where it was at its best."""
    return _betting(s, orders=1, anytime=True)


def betting_e_value(s: Sample) -> Limits:
    """The same bets' e-value at the end, averaged over ten orders of the images."""
    return _betting(s, orders=10, anytime=False)


def _betting(s: Sample, *, orders: int, anytime: bool) -> Limits:
    start, end = s.bounds
    samples, n = s.x.shape
    grid = (np.arange(400) + 0.5) / 400
    rng = np.random.default_rng(3)
    evidence = np.zeros((samples, len(grid)))
    for _ in range(orders):
        x = rng.permuted((s.x - start) / (end - start), axis=1)
        log_up, log_down = np.zeros((2, samples, len(grid)))
        best = np.full((samples, len(grid)), -np.inf)
        total, squares = np.full(samples, 0.5), np.full(samples, 0.25)
        for t in range(n):
            bet = np.sqrt(2 * np.log(1 / TAIL) / (n * squares / (t + 1)))[:, None]
            apart = x[:, t, None] - grid
            log_up += np.log1p(np.minimum(bet, 0.5 / grid) * apart)
            log_down += np.log1p(-np.minimum(bet, 0.5 / (1 - grid)) * apart)
            total += x[:, t]
            squares += (x[:, t] - total / (t + 2)) ** 2
            if anytime:
                best = np.maximum(best, np.maximum(log_up, log_down))
        if anytime:
            evidence += np.exp(np.minimum(best, 50)) / 2
        else:
            evidence += (np.exp(np.minimum(log_up, 50)) + np.exp(np.minimum(log_down, 50))) / 2
    kept = evidence / orders < 1 / (2 * TAIL)
    low = np.where(kept.any(axis=1), grid[kept.argmax(axis=1)], s.mean)
    high = np.where(kept.any(axis=1), grid[len(grid) - 1 - kept[:, ::-1].argmax(axis=1)], s.mean)
    return start + (end - start) * low, start + (end - start) * high


def unseen_image(weight: float) -> Callable[[Sample], Limits]:
    """Bayesian bootstrap with so much of one unseen image at the bound: `mean_interval` for many samples."""
    return lambda s: mean_limits(s.x, bounds=s.bounds, unseen=weight)


METHODS: dict[str, Callable[[Sample], Limits]] = {
    "BCa bootstrap (until now)": bca,
    "percentile bootstrap": percentile,
    "studentised bootstrap": studentised,
    "studentised, symmetric": studentised_symmetric,
    "Student's t": student_t,
    "t, Johnson": johnson_t,
    "t, Hall": hall_t,
    "empirical Bernstein": empirical_bernstein,
    "betting, hedged capital": hedged_capital,
    "betting, e-value": betting_e_value,
    "Bayesian bootstrap, 0.25 unseen": unseen_image(0.25),
    f"Bayesian bootstrap, {UNSEEN} unseen": unseen_image(UNSEEN),
    "Bayesian bootstrap, 0.5 unseen": unseen_image(0.5),
    "Bayesian bootstrap, 1 unseen": unseen_image(1.0),
}


def measure(population: Population, samples: int, seed: int = 0) -> Iterator[tuple[str, int, float, float]]:
    """Yield (method, n, share of samples whose interval holds the mean, mean width)."""
    truth, rng = float(population.values.mean()), np.random.default_rng(seed)
    start, end = population.bounds
    for n in SIZES:
        drawn = population.values[rng.integers(0, len(population.values), (samples, n))]
        for name, method in METHODS.items():
            x = drawn[:SLOW] if name.startswith("betting") else drawn
            held, widths = [], []
            for part in np.array_split(x, max(1, len(x) // 1000)):
                low, high = method(Sample(part, population.bounds))
                low, high = np.maximum(low, start), np.minimum(high, end)
                held.append((low <= truth + 1e-12) & (truth - 1e-12 <= high))
                widths.append(high - low)
            yield name, n, float(np.concatenate(held).mean()), float(np.concatenate(widths).mean())


def score(folder: Path) -> dict[str, NDArray]:
    """Score the shipped student, its mean over mirror images, and it on pictures of 64 pixels."""
    rows = [row for row in read_csv(folder / "manifest.csv") if row["isic2016_split"] != "test"]
    paths = [folder / "images" / f"{row['image_id']}.jpg" for row in rows]
    masks = [imaging.read_mask(folder / "masks" / f"{row['image_id']}.png")[0] for row in rows]
    plain = Predictor(threads=1)
    networks = {
        "plain": plain.predict_many(paths, 16),
        "mirrored": Predictor(threads=1, tta=True).predict_many(paths, 16),
        "coarse": plain.predict_many((_coarse(path) for path in paths), 16),
    }
    found: dict[str, NDArray] = {"seen": np.array([row["isic2016_split"] == "train" for row in rows])}
    for name, predictions in networks.items():
        counts, hd95 = [], []
        for true_mask, (_, prediction) in zip(masks, predictions, strict=True):
            counts.append(count(prediction.mask, true_mask))
            hd95.append(outline_scores(prediction.mask, true_mask)[1])
        each = scores(Counts(*np.array(counts).T))
        found |= {f"{name} {key}": each[key] for key in ("dice", "threshold_jaccard")}
        found[f"{name} hd95"] = np.array(hd95)
    return found


def _coarse(path: Path) -> NDArray[np.uint8]:
    picture = Image.open(path).convert("RGB")
    small = picture.resize((64, 64), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))


def populations(found: dict[str, NDArray]) -> tuple[list[Population], list[Population]]:
    """Scores by themselves, and paired differences."""
    new, unit, both = ~found["seen"], (0.0, 1.0), (-1.0, 1.0)
    alone = [
        Population("Dice, images never seen", found["plain dice"][new], unit),
        Population("Dice, images of the training", found["plain dice"][~new], unit),
        Population("threshold Jaccard, never seen", found["plain threshold_jaccard"][new], unit),
        Population("HD95 (% of the diagonal), never seen", found["plain hd95"][new], (0.0, 100.0)),
    ]
    paired = []
    for name, key, title, bounds in (
        ("mirrored", "dice", "mirror images against none, Dice", both),
        ("coarse", "dice", "pictures of 64 pixels against all, Dice", both),
        ("coarse", "hd95", "pictures of 64 pixels against all, HD95", (-100.0, 100.0)),
        ("mirrored", "threshold_jaccard", "mirror images against none, threshold Jaccard", both),
    ):
        difference = found[f"{name} {key}"] - found[f"plain {key}"]
        paired.append(Population(title, difference[new], bounds))
    return alone, paired


Measured = dict[str, list[tuple[float, float]]]
"""(coverage, half the mean width in points) at each of SIZES, by method."""


def simulate(population: Population, samples: int) -> Measured:
    """Every method on one population."""
    unit = 1 if population.bounds[1] > 1 else 100
    found: Measured = {}
    for name, _, held, width in measure(population, samples):
        found.setdefault(name, []).append((100 * held, unit * width / 2))
    return found


def full_table(population: Population, measured: Measured) -> str:
    """One Markdown table: coverage in percent, and half the mean width."""
    values = (1 if population.bounds[1] > 1 else 100) * population.values
    head = (
        f"**{population.name}** ({len(values):,} images, mean {values.mean():.2f}, standard deviation "
        f"{values.std():.2f}, skewness {stats.skew(values):.1f})\n\n| method | "
    )
    head += " | ".join(f"n {n}" for n in SIZES) + " |\n|---|" + "---|" * len(SIZES)
    rows = [
        f"| {name} | " + " | ".join(f"{held:.1f} (± {half:.2f})" for held, half in row) + " |"
        for name, row in measured.items()
    ]
    return "\n".join([head, *rows, ""])


def short_table(measured: dict[str, Measured], old: str, new: str) -> str:
    """One Markdown table: what the product had, and what it has, on every population."""
    head = "| population | interval | " + " | ".join(f"n {n}" for n in SIZES) + " |\n|---|---|"
    rows = []
    for title, methods in measured.items():
        for name, what in ((new, "now"), (old, "BCa")):
            cells = " | ".join(f"{held:.1f} % (± {half:.2f})" for held, half in methods[name])
            rows.append(f"| {title if name == new else ''} | {what} | {cells} |")
    return "\n".join([head + "---|" * len(SIZES), *rows, ""])


def main() -> None:
    """Score where needed, simulate, print, and put the tables into the documentation where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with images/, masks/ and manifest.csv")
    parser.add_argument("--scores", type=Path, default=Path("coverage-scores.npz"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--full", type=Path, help="Markdown file for the tables of all methods")
    parser.add_argument("--docs", type=Path, help="page to put the short tables into")
    arguments = parser.parse_args()
    if not arguments.scores.is_file():
        np.savez_compressed(arguments.scores, **score(arguments.data))
    alone, paired = populations(dict(np.load(arguments.scores)))
    told = (
        f"Share of {arguments.samples:,} simulated samples whose 95 % interval holds the mean of all, and in "
        "brackets half its mean width in points (HD95: percent of the diagonal)."
    )
    full, short = [told.replace("simulated samples", f"simulated samples ({SLOW} for betting)")], [told]
    for title, these, new in (
        ("Means", alone, f"Bayesian bootstrap, {UNSEEN} unseen"),
        ("Paired differences", paired, "Student's t"),
    ):
        measured = {}
        full.append(f"## {title}\n")
        for population in these:
            measured[population.name] = simulate(population, arguments.samples)
            full.append(full_table(population, measured[population.name]))
        short.append(f"**{title}**\n\n{short_table(measured, 'BCa bootstrap (until now)', new)}")
    print("\n\n".join(full))
    if arguments.full:
        write_text(arguments.full, "# Coverage of confidence intervals\n\n" + "\n".join(full))
    if arguments.docs:
        page = arguments.docs.read_text(encoding="utf-8")
        before, rest = page.split(MARKS[0])
        text = "\n\n".join(short)
        write_text(arguments.docs, f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
