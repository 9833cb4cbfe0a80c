"""Bad input: whatever a study, the ledger, a parameter or a command line holds, the answer is one sentence."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import yaml

from helpers.errors import SettingsError, StudyError
from helpers.paths import CLAIMS, NOTEBOOKS, ROOT, STUDIES
from helpers.studies.ledger import Ledger, read_ledger
from helpers.studies.settings import OwnModels, Study, parse_seeds, read_study
from pipeline.card.record import open_card
from pipeline.runs import execute
from pipeline.runs.notebook import begin
from pipeline.runs.stages import STAGES
from schema_cases import applied, cases

FILES = {
    **{
        STUDIES / f"{name}.yml": Study for name in ("organism", "planted", "conditions", "smollm2-135m", "llama-3.2-1b")
    },
    STUDIES / "own-models.yml": OwnModels,
    CLAIMS: Ledger,
}
VALUES = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Plain(DUMPER):
    """Writes every value where it is, without anchors."""

    def ignore_aliases(self, data):
        """Never refer back."""
        return True


def generated() -> dict[Path, list]:
    """The cases of every file; those that an earlier file has too are left out."""
    seen, found = set(), {}
    for path, model in FILES.items():
        every = {(model, c.path, repr(c.value)): c for c in cases(model.model_json_schema(), VALUES[path])}
        found[path] = [case for key, case in every.items() if key not in seen]
        seen |= set(every)
    return found


CASES = generated()
KEYS = {(path, case.path) for path in CASES for case in CASES[path]}


def sentence_of(call, *arguments, **named) -> str:
    """The one sentence that a call answers with."""
    with pytest.raises(StudyError) as error:
        call(*arguments, **named)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.isprintable() and len(sentence) < 1500, sentence
    return sentence


def test_there_are_cases_of_every_key():
    for path, model in FILES.items():
        if path.stem in ("organism", "own-models", "claims"):
            assert {case.path[0] for case in CASES[path]} >= set(model.model_fields)
    assert sum(map(len, CASES.values())) >= 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bad_value_of_every_eighth_key_is_one_sentence_that_names_it(tmp_path, path):
    """Of every file, with all kinds of bad values; the soak has every key."""
    for _, key in sorted((place for place in KEYS if place[0] == path), key=str)[::8]:
        check_key(tmp_path, path, key)


@pytest.mark.soak
@pytest.mark.parametrize(("path", "key"), sorted(KEYS, key=str), ids=lambda v: getattr(v, "stem", None) or str(v))
def test_every_bad_value_of_a_key_is_one_sentence_that_names_it(tmp_path, path, key):
    check_key(tmp_path, path, key)


def check_key(folder: Path, path: Path, key: tuple) -> None:
    """Every bad value of a key, each in a file of its own, is one sentence that names the file and the key."""
    file = folder / path.name
    for case in [case for case in CASES[path] if case.path == key]:
        file.write_text(yaml.dump(applied(case, VALUES[path]), Dumper=Plain), encoding="utf-8")
        sentence = sentence_of(read_ledger if path == CLAIMS else read_study, file)
        assert sentence.startswith(path.name) and case.key in sentence, (case.name, sentence)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", "anchors and aliases"),
        ("seeds: [0]\nseeds: [1]\n", "'seeds' is there twice in line 2"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("seeds: [010]\n", "'010' is no decimal number in line 1"),
        ("seeds: [1:30]\n", "'1:30' is no decimal number"),
        ("seeds: [" + "9" * 5000 + "]\n", "is no value that can be read"),
        ("a: 2026-02-31\n", "'2026-02-31' is no value"),
        ("a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("a: " + "x" * 300_000, "longer than 200000 bytes"),
        ("? [a]\n: b\n", "unhashable"),
        ("---\na: 1\n---\nb: 2\n", "but found another document"),
    ],
)
def test_what_yaml_would_misread_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "organism.yml"
    file.write_text(text, encoding="utf-8")
    assert words in sentence_of(read_study, file)


def test_a_file_that_is_not_utf8_or_is_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "organism.yml").write_bytes(b"name: \xff\xfe")
    assert "not UTF-8" in sentence_of(read_study, tmp_path / "organism.yml")
    (tmp_path / "smoke.yml").mkdir()
    assert "cannot be read" in sentence_of(read_study, tmp_path / "smoke.yml")


def test_a_rate_in_powers_of_ten_is_a_number(tmp_path):
    text = (STUDIES / "organism.yml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["training"]["useful"]["learning_rate"] = "RATE"
    file = tmp_path / "organism.yml"
    file.write_text(yaml.safe_dump(values).replace("RATE", "1e-4"), encoding="utf-8")
    assert read_study(file).training.useful.learning_rate == 1e-4


WRONG = {  # of each parameter that a notebook may have
    "study": [
        "",
        "nosuch",
        "../organism",
        "organism.yml",
        "organism\n",
        "a\x00b",
        "x" * 5000,
        "ß",
        1,
        None,
        True,
        ["a"],
    ],
    "seed": ["0", -1, 1.0, 2**31, 10**5000, True, None, [], {}, float("nan"), float("inf"), "²", "x" * 5000],
    "eta": ["0.5", 0, 1, -0.5, 1.5, 10**400, float("nan"), float("inf"), True, None, [0.5]],
    "objective": ["", "Useful", "base", "use\nful", "x" * 5000, 1, None, True, ["useful"], "\u202euseful"],
    "seeds": ["a", "-1", "0,0", "0.5", "9" * 5000, "٣", "0;1", "nan", [-1], [0, 0], [True], [0.5], None, True, 1.5, {}],
}
OWN = {
    "own-models": "own-models", "planted": "planted", "conditions": "conditions", "pretrained": "smollm2-135m",
    "bench": "organism-bench", "time-course": "organism-bench", "released": "organism-released",
}  # fmt: skip
RIGHT = {"study": "organism", "seed": 0, "eta": 0.5, "objective": "useful", "seeds": ""}


def parameters_of(name: str) -> list[str]:
    return list(papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb")))


@pytest.mark.parametrize("name", sorted(name for name, stage in STAGES.items() if stage.only != "card"))
def test_every_bad_parameter_of_a_notebook_is_one_sentence_that_names_it(name):
    """Through the function that every notebook calls first."""
    known = parameters_of(name)
    own = OWN.get(STAGES[name].only, "organism")
    right = {key: RIGHT[key] for key in known} | {"study": own}
    assert begin(name, **right).study.name == own
    for key in known:
        for bad in WRONG[key]:
            sentence = sentence_of(_all_read, name, **(right | {key: bad}))
            assert key in sentence, (bad, sentence)


@pytest.mark.parametrize("bad", WRONG["study"])
def test_a_card_that_is_not_there_is_one_sentence(bad):
    assert parameters_of("31_card") == ["study"]
    assert sentence_of(open_card, bad).startswith("there is no card ")


def _all_read(name: str, **parameters) -> None:
    """What a notebook does with its parameters before it reads any result."""
    run = begin(name, **parameters)
    if "seeds" in parameters:
        assert run.seeds


def test_seeds_on_the_command_line_and_in_a_list_agree():
    study = read_study(STUDIES / "organism.yml")
    assert parse_seeds("0 1", study) == parse_seeds([0, 1], study)
    with pytest.raises(SettingsError):
        parse_seeds("1e3", study)


COMMANDS = [  # module, options, words of the answer
    ("build", ["nosuch"], "study 'nosuch' does not exist"),
    ("build", [""], "study '' does not exist"),
    ("build", ["../organism"], "study '../organism' does not exist"),
    ("build", ["x" * 5000], "does not exist"),
    ("build", [], "required: study"),
    ("build", ["smoke", "--seeds", "a"], "seeds 'a' must be distinct"),
    ("build", ["smoke", "--seeds", "0,0"], "seeds '0,0' must be distinct"),
    ("build", ["smoke", "--seeds", "9" * 5000], "must be distinct whole numbers"),
    ("build", ["smoke", "--cores", "many"], "--cores: 'many' must be a whole number"),
    ("build", ["smoke", "--cores", "0"], "--cores: '0' must be a whole number from 1"),
    ("build", ["smoke", "--cores", "-1"], "--cores"),
    ("build", ["smoke", "--cores", ""], "--cores: '' must be"),
    ("build", ["smoke", "--cores", "9" * 5000], "--cores"),
    ("build", ["smoke", "--core", "1"], "unrecognized arguments: --core 1"),
    ("build", ["smoke", "--profile", "../local"], "profile '../local' does not exist"),
    ("plan.plan", ["nosuch"], "study 'nosuch' does not exist"),
    ("plan.plan", ["smoke", "--seeds", "-1"], "seeds '-1' must be distinct"),
    ("plan.plan", ["smoke", "--cores", "2.5"], "--cores: '2.5' must be"),
    ("plan.plan", ["smoke", "--price", "a", "b"], "--price: 'a' must be a number"),
    ("plan.plan", ["smoke", "--price", "nan", "1"], "--price: 'nan' must be a number"),
    ("plan.plan", ["smoke", "--price", "1"], "--price: expected 2 arguments"),
    ("report.build", ["nosuch"], "study 'nosuch' does not exist"),
    ("publish", ["nosuch"], "study 'nosuch' does not exist"),
]


@pytest.mark.parametrize(("module", "options", "words"), COMMANDS, ids=lambda value: str(value)[:30])
def test_a_bad_option_is_one_sentence_and_a_status(capsys, module, options, words):
    try:
        status = importlib.import_module(f"pipeline.{module}").main(options)
    except SystemExit as ended:
        status = ended.code
    written = capsys.readouterr().err.strip()
    assert status and words in written and written.startswith("error: ") and "\n" not in written
    assert len(written) < 500


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (["STUDY=no such; touch canary"], "study 'no such; touch canary' does not exist"),
        (['STUDY="', "SEEDS='"], "does not exist"),
        (["STUDY=smoke", "SEEDS=0,a"], "seeds '0,a' must be distinct"),
        (["STUDY=smoke", "CORES=two"], "--cores: 'two' must be"),
        (["STUDY=smoke", "THREADS=all"], "THREADS 'all' must be"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_variable_of_make_is_one_sentence(tmp_path, variables, words):
    """With the real Makefile, in a folder whose environment counts as ready."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml", ".venv/.ready"):
        (tmp_path / name).touch()
    environment = os.environ | {"SUBSPACES_RESULTS": str(tmp_path / "results"), "PYTHONPATH": str(ROOT / "src")}
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "book", *variables]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode and len(said) == 1 and words in said[0] and said[0].startswith("error: "), done.stderr
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"seed": "zero"}, "seed is 'zero'; it must be a whole number"),
        ({"seed": "[1"}, "parameter seed cannot be read"),
        ({"sed": "0"}, "has no parameter 'sed'"),
        ({"study": "nosuch"}, "study 'nosuch' does not exist"),
    ],
    ids=str,
)
def test_a_bad_parameter_of_a_notebook_run_in_batch_is_one_sentence(tmp_path, capfd, parameters, words):
    """Through papermill and a real kernel, as the workflow runs notebooks."""
    output = tmp_path / "all" / "notebooks" / "out.ipynb"
    options = [word for name, text in parameters.items() for word in ("-p", name, text)]
    assert execute.main([str(NOTEBOOKS / "04_update_overlap.ipynb"), str(output), *options]) == 1
    written = capfd.readouterr().err.strip()
    assert words in written and "\n" not in written and not output.exists()
