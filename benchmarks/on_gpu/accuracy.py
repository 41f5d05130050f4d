"""The accuracy of the same network by the notebook in float32 and by the package in bfloat16, over several seeds."""

import statistics
from dataclasses import dataclass

from timing.notebook import Notebook

from mriscope.recipe import read_recipe
from mriscope.workflows.train import train
from on_gpu.setting import Setting

SEEDS, EPOCHS = 5, 10


@dataclass(frozen=True)
class AccuracyResult:
    """Accuracy on the published test part in per cent, one of each for each seed, and whether all seeds were run."""

    notebook: list[float]
    ours: list[float]

    def table(self) -> str:
        lines = ["| seed | notebook, float32, % | mriscope, bfloat16, % |", "|---|---|---|"]
        pairs = list(zip(self.notebook, self.ours, strict=True))
        lines += [f"| {seed} | {theirs:.2f} | {ours:.2f} |" for seed, (theirs, ours) in enumerate(pairs)]
        theirs, ours = statistics.fmean(self.notebook), statistics.fmean(self.ours)
        differences = [ours - theirs for theirs, ours in pairs]
        spread = f"sd {statistics.stdev(differences):.2f}" if len(pairs) > 1 else "one seed"
        lines.append(f"| mean | {theirs:.2f} | {ours:.2f} |")
        note = "BaselineCNN, batch 32, AdamW 1e-3, the last epoch's weights. LEAKY, as all figures there."
        return "\n".join([*lines, f"\nDifference {ours - theirs:+.2f} points ({spread} over seeds). {note}"])


def measure_accuracy(setting: Setting) -> AccuracyResult:
    """Train BaselineCNN both ways on the published split for ten epochs, with one seed after another."""
    found = AccuracyResult([], [])
    for seed in range(1 if setting.quick else SEEDS):
        if setting.left() < 0:
            break
        epochs = 1 if setting.quick else EPOCHS
        notebook = Notebook(setting.data, seed, device=setting.device.type)
        for _ in range(epochs):
            for _ in notebook.steps():
                pass
        changes = [f"data={setting.data}", f"seed={seed}", f"training.epochs={epochs}", "training.keep=last"]
        precise = ["training.precision=bfloat16", "split.validation=0.02"]  # as nearly all of the part as the notebook
        recipe = read_recipe("baseline_cnn", [*changes, *precise])
        device = setting.device.type
        run = train(recipe, setting.work / f"accuracy-{seed}", device=device, fresh=True, silent=True, warn=False)
        found.notebook.append(100 * notebook.accuracy())
        found.ours.append(100 * run.metrics().metrics["accuracy"].value)
        print(seed, found.notebook[-1], found.ours[-1], flush=True)
    return found
