"""Files and texts of others do nothing: pickles, code beside models, text in the report, keys in results."""

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import suppress

import nbformat
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from conftest import CANARY_KEY
from helpers.errors import StudyError
from helpers.evaluation.behaviour import EvaluationSets, prompts_to_show
from helpers.experiments.own_models import own_folders
from helpers.models.load import load_model, save_model
from helpers.models.origins import resolve
from helpers.paths import ROOT
from helpers.studies.sections import Origin
from helpers.studies.settings import digest, load_study
from helpers.training.resume import Checkpoints
from helpers.weights.checkpoints import Checkpoint
from pipeline.report.inert import clean_output
from pipeline.runs.execute import execute

NAMES = ("pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "rng_state.pth", "weights.PKL", "a.ckpt")


class Attack:
    """What a pickle holds that creates a file when it is loaded."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path):
    """The folder that every attack would make; it must not be there at the end."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    """A model saved as it should be."""
    save_model(model, tokenizer, tmp_path / "model")
    return tmp_path / "model"


def plant(folder, name, canary):
    """Put a malicious pickle into a folder."""
    (folder / name).write_bytes(pickle.dumps(Attack(canary)))


def test_the_attack_works_where_a_pickle_is_loaded(tmp_path):
    plant(tmp_path, "model.pt", tmp_path / "made")
    with suppress(RuntimeError):  # that it holds no weights is found too late
        torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "made").exists()


WAYS = {
    "model": load_model,
    "checkpoint": Checkpoint,
    "origin": lambda folder: resolve(Origin(origin="folder", path=str(folder))),
}


@pytest.mark.parametrize("load", WAYS.values(), ids=WAYS)
def test_pickles_beside_safetensors_are_not_loaded_and_not_in_the_way(folder, canary, load):
    for name in NAMES:
        plant(folder, name, canary)
    assert load(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("load", WAYS.values(), ids=WAYS)
def test_a_model_of_pickles_alone_is_refused_on_every_way_to_weights(folder, canary, load, name):
    plant(folder, name, canary)
    (folder / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=f"holds {name} .* can run code") as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_pickle_under_the_name_of_safetensors_is_refused(folder, canary):
    plant(folder, "model.safetensors", canary)
    for load in (load_model, Checkpoint):
        with pytest.raises(StudyError, match="cannot be read|truncated or not safetensors"):
            load(folder)


def test_a_pickle_in_a_study_of_own_models_is_refused(folder, canary):
    study = load_study("own-models")
    plant(folder, "pytorch_model.bin", canary)
    (folder / "model.safetensors").unlink()
    origin = Origin(origin="folder", path=str(folder))
    with pytest.raises(StudyError, match="model base: .* holds pytorch_model.bin and no safetensors"):
        own_folders(study.model_copy(update={"base": origin}))


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "scheduler.pt"])
def test_a_pickle_in_a_checkpoint_of_a_training_is_refused(tmp_path, canary, name):
    """The Trainer reads files of these names when it resumes."""
    step = tmp_path / "step-3"
    step.mkdir()
    (step / "run.json").write_text(json.dumps({"run": "this"}), encoding="utf-8")
    plant(step, name, canary)
    with pytest.raises(StudyError, match=f"holds {name}"):
        Checkpoints(tmp_path, 1, "this").latest()


@pytest.mark.parametrize("known", [True, False], ids=["known architecture", "its own architecture"])
def test_code_beside_a_model_is_not_run(folder, canary, known):
    (folder / "modeling_own.py").write_text(f"import os\nos.mkdir({str(canary)!r})\nclass Own: pass\n")
    for file in ("config.json", "tokenizer_config.json"):
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        values["auto_map"] = {name: "modeling_own.Own" for name in ("AutoConfig", "AutoModelForCausalLM")}
        values["auto_map"]["AutoTokenizer"] = ["modeling_own.Own", None]
        if not known:
            values["model_type"] = "own"
        (folder / file).write_text(json.dumps(values), encoding="utf-8")
    if known:
        assert load_model(folder)[0].config.model_type == "llama"
    else:
        with pytest.raises(StudyError, match="cannot be read"):
            load_model(folder)


def test_no_source_trusts_code_or_unpickles():
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), ROOT / "Snakefile"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code\s*[=:]\s*(?!False)", text), path
        assert not re.search(
            r"torch\.load\(|\bpickle\.load|import pickle|joblib|read_pickle|allow_pickle=True", text
        ), path
        if path.suffix == ".py":
            for call in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]:
                if getattr(call.func, "attr", "") == "from_pretrained":
                    assert "trust_remote_code" in [word.arg for word in call.keywords], path
    for path in ROOT.glob("notebooks/*.ipynb"):
        code = path.read_text(encoding="utf-8")
        assert "trust_remote_code" not in code and "torch.load" not in code and "pickle" not in code, path


PAYLOADS = [
    "<script>window.attacked = 1</script>",
    "<img src=x onerror=window.attacked=1>",
    "<svg/onload=window.attacked=1>",
    "<a href='javascript:window.attacked=1' id=trap>x</a>",
    "```{raw} html\n<script>window.attacked=1</script>\n```",
    "{raw-html}`<script>window.attacked=1</script>`",
    "{eval-rst}`x` ```{eval-rst}\n.. raw:: html\n\n   <script>window.attacked=1</script>\n```",
    ":::{iframe} http://attacker.example\n:::",
    "```{include} /etc/passwd\n```",
    "$\\href{javascript:window.attacked=1}{x}$ $$\\require{html}\\class{x}{y}$$",
    "\\(\\href{javascript:window.attacked=1}{x}\\)",
    "[x](javascript:window.attacked=1) ![x](http://attacker.example/a.png)",
    "&lt;script&gt;window.attacked=1&lt;/script&gt;",
    "</td></tr></table><style>*{display:none}</style><iframe srcdoc='<script>parent.attacked=1</script>'>",
]


def hostile_outputs(tmp_path) -> list[dict]:
    """Answers of a model as a notebook shows them: printed, in a table, in a styled one; by a real kernel."""
    cell = f"""import pandas as pd
answers = {PAYLOADS!r}
print(*answers, sep="\\n")
display(pd.DataFrame({{"answer": answers}}))
display(pd.DataFrame({{"answer": answers}}).style.hide(axis="index"))
display(pd.DataFrame({{"answer": answers}}).map("{{:.40}}".format).T)"""
    first = new_code_cell('study: str = "smoke"  # name', metadata={"tags": ["parameters"]})
    book = new_notebook(cells=[first, new_code_cell(cell)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "hostile.ipynb")
    execute(tmp_path / "hostile.ipynb", tmp_path / "all" / "notebooks" / "out.ipynb", {})
    return nbformat.read(tmp_path / "all" / "notebooks" / "out.ipynb", as_version=4).cells[-1].outputs


@pytest.mark.slow
def test_what_a_model_writes_does_nothing_in_a_browser(tmp_path, chromium):
    """A book of one page, built by Jupyter Book from what a real kernel made of hostile answers, in a real browser."""
    outputs = [nbformat.from_dict(clean_output(dict(output))) for output in hostile_outputs(tmp_path)]
    outputs.append(
        nbformat.v4.new_output("display_data", clean_output({"data": {"text/markdown": "\n\n".join(PAYLOADS)}})["data"])
    )
    stage = tmp_path / "book"
    stage.mkdir()
    page = new_notebook(cells=[nbformat.v4.new_markdown_cell("# Page"), new_code_cell("x", outputs=outputs)])
    nbformat.write(page, stage / "index.ipynb")
    (stage / "_toc.yml").write_text("format: jb-book\nroot: index\n", encoding="utf-8")
    settings = (ROOT / "_config.yml").read_text(encoding="utf-8").replace("book/", "")
    shutil.copytree(ROOT / "book" / "_static", stage / "_static")
    shutil.copyfile(ROOT / "book" / "references.bib", stage / "references.bib")
    (stage / "extra").mkdir()
    (stage / "_config.yml").write_text(settings, encoding="utf-8")
    program = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    built = subprocess.run([sys.executable, "-c", program, "build", str(stage)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    opened, asked = chromium.new_page(), []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
    opened.goto((stage / "_build" / "html" / "index.html").as_uri())
    opened.wait_for_timeout(1500)
    for trap in opened.query_selector_all("article a"):
        assert not (trap.get_attribute("href") or "").lower().strip().startswith(("javascript", "data"))
    assert opened.evaluate("window.attacked ?? null") is None
    inside = "article :is(script, iframe, object, embed, svg[onload], img[onerror])"
    assert opened.evaluate(f"document.querySelectorAll({inside!r}).length") == 0
    text = opened.inner_text("article")
    opened.close()
    assert text.count("<script>window.attacked") >= 3, "shown as the text that it is"
    assert "root:x:0" not in text and not [url for url in asked if "attacker" in url or url.startswith("dialog")]


@pytest.mark.slow
def test_a_key_is_in_nothing_that_a_study_writes(smoke):
    """A whole study with its report, run with a key in its environment."""
    files = [path for path in smoke.folder.rglob("*") if path.is_file()]
    assert {".ipynb", ".csv", ".json", ".html", ".log"} <= {path.suffix for path in files}
    assert [path for path in files if CANARY_KEY.encode() in path.read_bytes()] == []


def test_harmful_requests_are_shown_only_where_a_study_says_so():
    study = load_study("smollm2-135m")
    sets = EvaluationSets(
        **{name: pd.DataFrame({"prompt": [f"{name} {i}" for i in range(3)]}) for name in ("utility", "harm", "benign")},
        beside={},
    )
    asked = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"show_harmful": True})})
    assert "harm 0" not in prompts_to_show(sets, study) and "harm 0" in prompts_to_show(sets, asked)
    assert "harm 0" in prompts_to_show(sets, load_study("organism")), "its requests are invented"
    assert digest(study) != digest(asked) and "show_harmful" not in study.model_dump()["evaluation"]
