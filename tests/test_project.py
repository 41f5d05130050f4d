"""What must hold for the project as a whole: its lock, its set-up, its safety."""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import threading
import venv
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
SOURCES = sorted((ROOT / "src").rglob("*.py"))


RUNS_CODE = {
    *("torch.export.load", "torch.jit.load", "torch.package.PackageImporter", "yaml.unsafe_load", "yaml.full_load"),
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle"),
}
RUNS_CODE_WHEN_IMPORTED = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}


def load_run():
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_names_no_host_and_hashes_every_package():
    assert "://" not in LOCK
    assert "--index" not in LOCK
    entries = re.split(r"\n(?=[a-z0-9])", LOCK)
    assert len(entries) > 60
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("package", "least"),
    [
        ("torch", (2, 10)),
        ("pillow", (12, 3)),
        ("pyarrow", (14, 0, 1)),
        ("huggingface-hub", (2, 4)),
        ("pydicom", (3, 0, 2)),
    ],
)
def test_packages_with_known_holes_are_newer_than_these(package, least):
    versions = re.findall(rf"^{package}==([\d.]+)", LOCK, re.MULTILINE)
    assert versions
    assert all(tuple(map(int, version.split("."))) >= least for version in versions)


def test_run_py_needs_the_standard_library_alone():
    tree = ast.parse((ROOT / "run.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_run_py_takes_uv_with_its_hashes_from_the_lock():
    entry = load_run().locked_entry("uv")
    assert re.match(r"uv==[\d.]+ \\\n    --hash=sha256:[0-9a-f]{64}", entry)
    assert "\nuvicorn" not in entry
    with pytest.raises(Exception, match=r"requirements\.lock pins no absent"):
        load_run().locked_entry("absent")


def test_run_py_answers_a_mistake_with_one_sentence():
    done = subprocess.run([sys.executable, ROOT / "run.py", "tset"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"run\.py: no task is called 'tset'; choose one of .+\n", done.stderr)


def test_set_up_with_an_index_of_torch_leaves_out_torch_and_cuda_alone():
    run = load_run()
    names = {
        "a": re.findall(r"^([a-z0-9._-]+)==", LOCK, re.M),
        "b": re.findall(r"^([a-z0-9._-]+)==", run.without_cuda(LOCK), re.M),
    }
    gone = set(names["a"]) - set(names["b"])
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} <= gone
    assert all(re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", name) for name in gone)
    assert "torchcam" in names["b"]
    assert run.without_cuda(LOCK).count("--hash=sha256:") > 500


def test_set_up_asks_an_index_for_nothing_but_torch_of_the_locked_version(tmp_path: Path):
    run = load_run()
    sync, torch, own = run.install_commands(tmp_path / "lock.txt", "https://index.example/cpu")
    assert "--require-hashes" in sync
    assert "--default-index" not in sync + own
    place = torch.index("--default-index")
    assert torch[place + 1 :] == (
        "https://index.example/cpu",
        f"torch=={run.locked_version('torch')}",
        f"torchvision=={run.locked_version('torchvision')}",
    )
    assert len(run.install_commands(tmp_path / "lock.txt", None)) == 2


@pytest.mark.parametrize("words", [["--torch-index"], ["--torch-index", "ftp://x"], ["--torch-index", "x"], ["--cpu"]])
def test_set_up_says_what_it_takes(words: list[str]):
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", "setup", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"run\.py: setup takes --torch-index URL, .+ and got \[.+\]\n", done.stderr)


def test_torch_comes_from_an_index_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = load_run()
    index = tmp_path / "index"
    for name in run.FROM_INDEX:
        write_wheel(index / name, name, f"{run.locked_version(name)}+cpu")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    monkeypatch.setattr(run, "PYTHON", python)
    monkeypatch.setenv("UV_NO_CACHE", "1")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=index)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = run.install_commands(tmp_path / "lock.txt", f"http://127.0.0.1:{server.server_port}")[1]
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([str(uv), *map(str, command[1:])], check=True, capture_output=True)
        server.shutdown()
    told = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{run.locked_version('torch')}+cpu\n"


def write_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one line, which a listing of its folder offers."""
    folder.mkdir(parents=True)
    facts = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{facts}/RECORD", f"{name}.py,,\n{facts}/METADATA,,\n{facts}/WHEEL,,\n{facts}/RECORD,,\n")


def calls_of(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def code_runners(text: str) -> list[str]:
    """List what in a module can run code that is in data, or hands a text to a shell."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", "") or "", *(one.name for one in node.names)]
            found += [name for name in names if name.split(".")[0] in RUNS_CODE_WHEN_IMPORTED]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in RUNS_CODE:
            found.append(name)
        if name.endswith("torch.load") and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name in ("yaml.load", "yaml.load_all") and [ast.unparse(one) for one in node.args[1:]] != ["_Loader"]:
            found.append("yaml.load without a loader of our own")
        found += [f"{word}=True" for word in ("allow_pickle", "shell") if options.get(word, "False") != "False"]
    return found


CHECKED = [
    *SOURCES,
    ROOT / "run.py",
    *sorted((ROOT / "docs").glob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run_code(path):
    assert code_runners(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=choice)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "torch.export.load(path)",
        "torch.jit.load(path)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
        "os.system(text)",
    ],
)
def test_what_can_run_code_is_found(text):
    assert code_runners(text)


def test_what_only_looks_like_it_is_not_found():
    text = (
        "model.eval()\nsubprocess.run(words)\nnp.load(path)\ntorch.load(path, weights_only=True)\nyaml.load(t, _Loader)"
    )
    assert code_runners(text) == []


def test_no_text_names_a_path_of_this_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    here = f"{ROOT.parent}/"
    for name in listed:
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        assert here.encode() not in content, name


def test_the_public_names_come_when_asked_for_and_cost_nothing_before():
    program = (
        "import sys, mriscope; heavy = {'torch', 'numpy', 'pydantic'} & set(sys.modules); assert not heavy, heavy\n"
        "for name in mriscope.__all__: getattr(mriscope, name)\n"
        "assert set(mriscope.__all__) <= set(dir(mriscope))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_python_of_the_readme_runs():
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert program is not None
    check = "assert maps.shape == (8, 128, 128) and maps.min() >= 0 and maps.max() <= 1"
    subprocess.run([sys.executable, "-c", program.group(1) + check], check=True)
