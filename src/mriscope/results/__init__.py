"""Typed results: what the commands write as JSON and read again, checked field by field.

Every file begins with `schema_version`; a file without one was written before versions were counted and has the form of
version 1. A number that does not exist is nan in Python and null in JSON, and the change between the two is made here
alone. Nothing that is not finite leaves as JSON.
"""

from mriscope.results.explanations import (
    Agreement,
    Cohort,
    CohortGroup,
    ExplainComparison,
    MethodResult,
    Randomisation,
    Recommendation,
)
from mriscope.results.inference import CrossvalComparison, DeclaredTest, PermutationResult, PermutedMetric
from mriscope.results.records import (
    Count,
    Estimate,
    Number,
    Record,
    ResultFile,
    RunsEstimate,
    Seconds,
    Share,
    describe_problems,
)
from mriscope.results.runs import (
    IMPORTED,
    Calibration,
    ClassMetrics,
    Consistency,
    DataSummary,
    Environment,
    ImportedMetrics,
    ImportedWeights,
    Interval,
    Metrics,
    ParameterCount,
    Parts,
    Pooling,
    Scores,
    SplitRecord,
    TrainingSummary,
)
from mriscope.results.studies import Comparison, CrossValidation, FoldResult, PairedTest, Standing

__all__ = [
    "IMPORTED",
    "Agreement",
    "Calibration",
    "ClassMetrics",
    "Cohort",
    "CohortGroup",
    "Comparison",
    "Consistency",
    "Count",
    "CrossValidation",
    "CrossvalComparison",
    "DataSummary",
    "DeclaredTest",
    "Environment",
    "Estimate",
    "ExplainComparison",
    "FoldResult",
    "ImportedMetrics",
    "ImportedWeights",
    "Interval",
    "MethodResult",
    "Metrics",
    "Number",
    "PairedTest",
    "ParameterCount",
    "Parts",
    "PermutationResult",
    "PermutedMetric",
    "Pooling",
    "Randomisation",
    "Recommendation",
    "Record",
    "ResultFile",
    "RunsEstimate",
    "Scores",
    "Seconds",
    "Share",
    "SplitRecord",
    "Standing",
    "TrainingSummary",
    "describe_problems",
]
