"""The API does what its own description says, for requests that fit it and for those that do not."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import serving

import mriscope
from mriscope.reports.model_page import EXAMPLES, page_part
from mriscope.serving.app import TAKEN

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pytest's own deprecated parts
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

COUNT = 20  # of each operation and mode; benchmarks/serving.py sends more
OPERATIONS = [
    *(("GET", path) for path in ("/api/v1/model", "/metrics", "/healthz", "/readyz")),
    *(("POST", path) for path in ("/api/v1/predict", "/api/v1/explain")),
]


MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXAMPLE_FILES = [page_part(f"examples/{name}") for name in EXAMPLES]
FILES = st.sampled_from(EXAMPLE_FILES) | st.sampled_from(EXAMPLE_FILES) | st.binary()
for kind in TAKEN:  # a description cannot say what an image is, so that two of three files are real ones
    schemathesis.openapi.media_type(kind, FILES)


@pytest.fixture(scope="module")
def schema(tiny_run):
    with serving(tiny_run, mriscope.load_model(tiny_run.path, "cpu"), max_upload=2**16) as (client, _):
        yield schemathesis.openapi.from_url(f"{client.url}openapi.json")


def test_every_operation_is_described(schema):
    described = [result.ok() for result in schema.get_all_operations()]
    assert {(one.method.upper(), one.path) for one in described} == set(OPERATIONS)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_keeps_to_its_description(schema, method, path, mode):
    if mode is GenerationMode.NEGATIVE and method == "GET":
        pytest.skip("it takes nothing that could be wrong")
    statuses = check_operation(schema, method, path, mode, COUNT)
    # A wrong value may be right again once a form turns it to text; schemathesis knows that, and checks the rest.
    assert 200 in statuses if mode is GenerationMode.POSITIVE else statuses - {200}


def check_operation(schema, method: str, path: str, mode: GenerationMode, count: int) -> set[int]:
    """Send so many requests, each checked against the description; return the statuses they got."""
    beside = negative_data_rejection if mode is GenerationMode.POSITIVE else positive_data_acceptance
    statuses: set[int] = set()

    @settings(max_examples=count, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(case=schema[path][method].as_strategy(generation_mode=mode), files=st.lists(FILES, min_size=1, max_size=3))
    def check(case, files):
        if mode is GenerationMode.POSITIVE and path.endswith("predict"):
            case.body = {"file": files}  # lists of files do not heed the kinds above
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance, beside])
        statuses.add(response.status_code)

    check()
    return statuses
