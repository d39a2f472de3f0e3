"""Imports are guarded by a check, not by memory."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# convert has no interface of its own: it is the second half of the fetch step.
STAGES = sorted({path.parent.name for path in ROOT.glob("components/*/component.py")} | {"convert"})
# The interfaces, what they ask of a cluster, and the module that starts them in a pod.
WITH_KFP = ("component.py", "step.py", "step_resources.py")
MODULES = sorted(path for path in ROOT.glob("components/**/*.py"))
# What a machine with nothing but kfp lacks: compiling must not need it.
HEAVY = ("tensorflow", "keras", "numpy", "pyarrow", "duckdb", "PIL", "simplejpeg", "starlette", "jinja2", "sklearn")


def imports(path: Path) -> set[str]:
    """Dotted names of everything that the file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def without(*packages: str) -> str:
    return f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"


def test_every_stage_has_an_interface_and_a_mirror_in_tests():
    assert STAGES == ["annotate", "assemble", "convert", "evaluate", "fetch", "query", "serve", "tensorboard", "train"]
    for stage in STAGES:
        assert list((ROOT / "tests" / stage).glob("test_*.py")), f"tests/{stage} has no tests"


def test_stages_do_not_import_each_other():
    for path in MODULES:
        folder = path.relative_to(ROOT / "components").parts[0]
        if path.name == "component.py":  # it may join two
            continue
        others = {f"components.{stage}" for stage in STAGES if stage != folder}
        for name in imports(path):
            assert not any(name == other or name.startswith(other + ".") for other in others), f"{path} imports {name}"


def names_of_artifacts() -> tuple[set[str], list[set[str]]]:
    """File names and prefixes that components/artifacts owns, and the column lists."""
    from components.artifacts import (
        classifier,
        corrections,
        croissant,
        dataset,
        embeddings,
        image_shard,
        index,
        objects,
        predictions,
        records,
        service,
        suggestions,
        uncertainty,
        verdict,
    )

    files = {objects.LABELS, image_shard.LOG_NAME, dataset.FILE_NAME, dataset.EXAMPLES, predictions.TABLE}
    files |= {predictions.REFERENCE, classifier.TFLITE, classifier.KERAS, classifier.CARD, verdict.FILE_NAME}
    files |= {value for name, value in vars(service).items() if name.endswith(("LABEL", "ANNOTATION"))}
    files |= {objects.SLICE_PREFIX, embeddings.FILE_NAME, corrections.FILE_NAME, uncertainty.FILE_NAME}
    files |= {suggestions.PARQUET, suggestions.CSV, suggestions.FAILURES, suggestions.JSON_LD, suggestions.PART}
    files.add(croissant.FILE_NAME)
    columns = [image_shard.LOG_COLUMNS, index.MEASURED.names, records.SCHEMA, objects.SPLITS, corrections.COLUMNS]
    return files, [set(names) for names in columns]


def test_no_stage_spells_what_an_artifact_owns():
    files, columns = names_of_artifacts()
    for path in [path for path in MODULES if path.parent.name != "artifacts"] + sorted(ROOT.glob("cli/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant):
                assert node.value not in files, f"{path}:{node.lineno} spells {node.value!r}: import its name"
            listed = getattr(node, "elts", [])
            spelt = {item.value for item in listed if isinstance(item, ast.Constant)}
            for owned in columns:
                assert not owned <= spelt, f"{path}:{node.lineno} lists the columns of an artifact: import them"


def test_only_interfaces_and_their_resources_import_kfp():
    for path in MODULES:
        kfp = {name for name in imports(path) if name.split(".")[0] == "kfp"}
        assert path.name in WITH_KFP or not kfp, f"{path} imports {kfp}"


def test_component_bodies_are_short():
    for path in ROOT.glob("components/**/component.py"):
        (function,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        lines = function.body[-1].end_lineno - function.body[0].end_lineno
        assert lines <= 16, f"{path}: a body of {lines} lines; the work belongs beside it"


def test_packages_start_empty():
    for path in ROOT.glob("components/**/__init__.py"):
        assert path.read_text() == "", f"{path} is not empty"


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.split("\0")[:-1]
    assert "pipeline.py" in names
    return names


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git tells which files are the project's")
def test_nothing_uses_duckdbs_module_wide_connection():
    """An unfinished result there made tests fail that ran later in the same process."""
    for name in tracked_files():
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "duckdb":
                allowed = node.attr == "connect" or node.attr[0].isupper()
                assert allowed, f"{name}:{node.lineno}: duckdb.{node.attr}; take a connection of duckdb.connect()"


def test_pipeline_compiles_with_nothing_but_kfp(tmp_path):
    target = tmp_path / "pipeline.yaml"
    code = f"from cli.main import main; sys.exit(main(['compile', '--output', {str(target)!r}]))"
    done = python(without(*HEAVY) + code)
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size > 10_000


@pytest.mark.parametrize("stage", STAGES)
def test_implementations_import_without_kfp(stage):
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "components" / stage).rglob("*.py"))
        if path.name not in ("component.py", "__init__.py", "__main__.py")
    ]
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    done = python(without("kfp") + code)
    assert done.returncode == 0, done.stderr
