"""Compare methods of explanation on one run: read it, score them, recommend one, write what was found."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from mriscope.data.batches import scaled
from mriscope.data.phantom import phantom_masks
from mriscope.data.slices import SliceSet
from mriscope.environment import describe_environment
from mriscope.explain.metrics.cohort_report import CAPTION, COHORT, describe_cohort
from mriscope.explain.metrics.comparison import (
    BASELINES,
    Case,
    cheap_methods,
    describe_truth,
    randomisation_rule,
    rank_agreement,
    score_baselines,
    score_methods,
    summarize_scores,
)
from mriscope.explain.metrics.recommendation import RULE, MethodScores, recommend
from mriscope.explain.metrics.region_shares import find_slice_regions, tabulate_regions
from mriscope.explain.scores import predicted_classes
from mriscope.files import write_bytes, write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.progress import saying
from mriscope.reports.explanation_comparison import comparison_csv, comparison_page
from mriscope.reports.page import Picture, label_source
from mriscope.reports.regions import regions_csv
from mriscope.results import Cohort, ExplainComparison, Recommendation, RegionTable
from mriscope.run_directory import PREDICTIONS, RunDirectory, open_run
from mriscope.workflows.explain import check_methods, describe_protocol, open_network, sample_test_slices

FILES = ("explain_compare.csv", "explain_compare.html", "explain_compare.json")
REGIONS_CSV = "explain_compare_regions.csv"


def compare_methods(
    folder: str | Path,
    out: str | Path,
    methods: Sequence[str] | None = None,
    *,
    count: int = 64,
    seed: int = 0,
    source: str | None = None,
    layer: str | None = None,
    device: str = "auto",
) -> ExplainComparison:
    """Compare methods on slices of a run's test part; writes explain_compare.csv, .html and .json, and cohort.png.

    Where the maps lie by region of the brain is also in explain_compare_regions.csv.

    The predicted class is explained, and a method recommended by mriscope.explain.metrics.recommendation.RULE. Mean
    maps are shown of the recommended method, else of Grad-CAM, else of the first one compared; where no group of slices
    has two subjects, there is no picture of them.

    Args:
        folder: the run.
        out: folder for the files.
        methods: names among METHODS; None those that cost few passes.
        count: how many slices, as evenly over the classes as the test part allows.
        seed: of their choice, of random maps and of resampling.
        source: where the run's data is now, if it was moved.
        layer: dotted name; None takes the last convolution.
        device: auto, cpu or cuda.

    Returns:
        the content of explain_compare.json.

    Raises:
        MriscopeError: no finished run of a network, no data, or an unknown method or layer.
        WriteError: a file cannot be written, or one of its name is there that mriscope did not write.
    """
    earlier = written_with("explain_compare.json", ExplainComparison.read, (*FILES, COHORT))
    output = OutputFolder(Path(out), "explain-compare", earlier)
    output.check((*FILES, REGIONS_CSV, COHORT))
    directory, names = open_run(folder), check_methods(methods or cheap_methods())
    model, class_names = open_network(directory, device)
    sampled = sample_test_slices(directory, source, count, seed)
    slices = _with_subjects(sampled, directory)
    images = scaled(torch.from_numpy(np.array(slices.images)), directory.recipe.input.scale)
    images = images.to(next(model.parameters()).device)
    with torch.no_grad():
        classes = torch.cat([predicted_classes(model(part)) for part in images.split(64)])
    masks = phantom_masks(sampled, source or directory.environment.source or "unknown")
    truth = None if masks is None else torch.from_numpy(masks).to(images.device)
    units = slices.subjects if slices.knows_subjects else np.arange(len(slices))
    case = Case(model, images, slices.images, classes, units, layer, truth, seed)
    scores: list[MethodScores] = []
    with saying("measuring methods of explanation") as progress:
        for one in chain(score_methods(case, names), score_baselines(case)):
            scores.append(one)
            progress(len(scores), len(names) + len(BASELINES))
    method, sentence = recommend(scores, units, seed)
    recommendation = Recommendation(method=method, sentence=sentence, rule=RULE)
    cohort, picture = describe_cohort(
        scores,
        method,
        slices,
        classes.cpu().numpy(),
        class_names,
        seed=seed,
        heading=f"{directory.recipe.model}, {describe_protocol(directory)}",
    )
    regions = tabulate_regions(
        {one.name: one.maps.cpu().numpy() for one in scores},
        {one.name: one.title for one in scores},
        find_slice_regions(slices.images, slices.subjects),
        slices.subjects,
    )
    result = _result(directory, case, slices, scores, recommendation, cohort, regions)
    shown = None if picture is None else Picture("Mean maps", CAPTION, picture)
    files = (*FILES, REGIONS_CSV) if picture is None else (*FILES, REGIONS_CSV, COHORT)
    page = comparison_page(f"Explanations of {result.model} compared", result, shown)
    with output.writing(files) as place:
        write_text(place / "explain_compare.csv", comparison_csv(result))
        write_text(place / REGIONS_CSV, regions_csv(regions))
        write_text(place / "explain_compare.html", page)
        result.write(place / "explain_compare.json")
        if picture is not None:
            write_bytes(place / COHORT, picture)
    return result


def _with_subjects(slices: SliceSet, directory: RunDirectory) -> SliceSet:
    """Return the slices with the subjects of the run's predictions, which a manifest may have named."""
    if not (directory.path / PREDICTIONS).is_file():
        return slices
    kept = directory.predictions()
    subject_of = dict(zip(kept.paths.tolist(), kept.subject_names.tolist(), strict=True))
    if not all(path in subject_of for path in slices.paths.tolist()):
        return slices
    return slices.with_subjects(np.array([subject_of[path] for path in slices.paths.tolist()]), slices.positions)


def _result(
    directory: RunDirectory,
    case: Case,
    slices: SliceSet,
    scores: Sequence[MethodScores],
    recommendation: Recommendation,
    cohort: Cohort,
    regions: RegionTable,
) -> ExplainComparison:
    n_units, by_subject = len(np.unique(case.units)), slices.knows_subjects
    of = "" if directory.imported else " of the test part"
    origin = f"{directory.recipe.model}, {describe_protocol(directory)}"
    machine = describe_environment(str(case.images.device))
    return ExplainComparison(
        run=str(directory.path),
        model=directory.recipe.model,
        protocol=directory.protocol,
        leaky=directory.leaky,
        evaluated=f"{origin}: {len(slices)} slices{of}, classes in turn.",
        n_slices=len(slices),
        n_subjects=n_units if by_subject else None,
        unit="subject" if by_subject else "slice",
        unit_note=f"Intervals are 95 % and resample the {n_units} subjects."
        if by_subject
        else "Subjects are unknown, so intervals resample slices and are too narrow where slices of one brain agree.",
        recommendation=recommendation,
        randomisation_rule=randomisation_rule(len(slices)),
        truth=describe_truth(case),
        methods=summarize_scores(scores, case, recommendation.method),
        agreement=rank_agreement(scores),
        regions=regions,
        made={
            "Run": directory.name,
            "Data": label_source(directory.environment.source),
            "Layer": case.layer
            or "found automatically: the last convolution, or in a transformer the norm before the last attention",
            "Seed": case.seed,
            "Machine": f"{machine.processor}, {machine.device}",
            "mriscope": f"{machine.mriscope}, commit {machine.commit or 'unknown'}",
        },
        cohort=cohort,
    )
