"""The endpoint judge against transformers' own OpenAI-compatible server on loopback, with a proxy that fails."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import httpx2
import numpy as np
import pytest

from fault_proxy import FaultProxy
from fault_table import assert_promised
from helpers.errors import StudyError
from helpers.evaluation.behaviour import EvaluationSets, measure
from helpers.evaluation.judges import build_judge
from helpers.evaluation.judges.endpoint import EndpointJudge, address
from helpers.studies.measurements import Judge
from helpers.studies.settings import load_study
from judge_models import judged_by, one_reply_model
from stand_ins import make_models

KEY = "sk-canary-5f1e77c0ffee"
PATIENCE = 120  # seconds for the server to start


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """``transformers serve``, and the folders of a model that scores 4 and of one that says nothing readable."""
    folder = tmp_path_factory.mktemp("served")
    _, mumbling = make_models("qwen2.5-7b", folder)
    scoring = one_reply_model(mumbling, folder / "scoring", "score: 4")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*serve, "--device", "cpu"], env=environment, stdout=log, stderr=log)
    try:
        _wait(lambda: _healthy(port), process, folder / "log")
        yield f"http://127.0.0.1:{port}/v1", str(scoring), str(mumbling)
    finally:
        process.terminate()
        process.wait(30)


def _healthy(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def _wait(condition, process: subprocess.Popen, log: Path | None = None) -> None:
    """Until a condition holds, as long as the process lives."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text() if log else "gave up waiting"
        time.sleep(0.05)


@pytest.fixture
def proxy(server, tmp_path, monkeypatch):
    """A proxy in front of the server, where the environment points to; and a cache of the test's own."""
    proxy = FaultProxy(server[0])
    monkeypatch.setenv("OPENAI_BASE_URL", proxy.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("SUBSPACES_CACHE", str(tmp_path))
    yield proxy
    proxy.close()


def settings(model: str, **changes) -> Judge:
    """Settings of an endpoint judge."""
    return Judge(kind="endpoint", name=model, max_tokens=12, **{"concurrency": 2, "retries": 3, **changes})


def endpoint_judge(model: str, **changes) -> EndpointJudge:
    """The judge with such settings."""
    return EndpointJudge(judged_by(settings(model, **changes)))


def ask(judge, n: int) -> list:
    """Judge ``n`` answers, all different."""
    return judge.judge([f"prompt {i}" for i in range(n)], [f"secret text {i}" for i in range(n)], [""] * n)


def test_scores_come_in_order_with_the_key_and_only_once(server, proxy):
    judge = endpoint_judge(server[1])
    first = ask(judge, 5)
    assert [v.score for v in first] == [4] * 5 and not any(v.refused for v in first)
    assert proxy.keys == {f"Bearer {KEY}"} and proxy.passed_on == 5
    assert ask(judge, 5) == first and ask(endpoint_judge(server[1]), 5) == first
    assert proxy.passed_on == sum(proxy.asked.values()) == 5
    assert [v.score for v in ask(judge, 7)] == [4] * 7 and proxy.passed_on == 7


def test_another_model_is_another_judge_and_unreadable_replies_are_kept(server, proxy):
    ask(endpoint_judge(server[1]), 2)
    for _ in range(2):
        verdicts = ask(endpoint_judge(server[2]), 2)
        assert [v.score for v in verdicts] == [None, None]
    assert proxy.passed_on == 4


def test_an_evaluation_ends_right_although_a_third_of_requests_fail(server, proxy, study, tokenizer, model, capfd):
    judged = judged_by(settings(server[1], retries=8), study)
    sets = EvaluationSets.of(judged, 0)
    proxy.share = 0.3
    first = measure(model, tokenizer, sets, judged, whole=True)
    assert set(first["harm"]) == {4.0} and len(first["harm"]) == judged.evaluation.harm_prompts
    failed = sum(proxy.asked.values()) - proxy.passed_on
    assert failed >= 2 and proxy.passed_on == len(proxy.asked)  # each different answer is paid for once
    paid = proxy.passed_on
    again = measure(model, tokenizer, sets, judged, whole=True)
    assert proxy.passed_on == paid and np.array_equal(again["harm"], first["harm"])
    assert_promised("the judge fails now and then", capfd.readouterr().err)


def test_equal_answers_are_asked_once(server, proxy):
    verdicts = endpoint_judge(server[1]).judge(["p"] * 4, ["a"] * 4, [""] * 4)
    assert len(verdicts) == 4 and proxy.passed_on == 1


@pytest.mark.parametrize("fault", [(429, {}), (500, {}), (503, {}), "cut", "html"])
def test_what_passes_is_tried_again(server, proxy, fault):
    proxy.faults = [fault, fault]
    assert [v.score for v in ask(endpoint_judge(server[1]), 3)] == [4] * 3
    assert sum(proxy.asked.values()) == 5


@pytest.mark.parametrize("fault", ["hang", "drip", "large"])
def test_a_reply_that_does_not_come_is_asked_for_again(server, proxy, fault):
    proxy.faults = [fault]
    assert [v.score for v in ask(endpoint_judge(server[1], timeout=5.0), 1)] == [4]
    assert sum(proxy.asked.values()) >= 2


def test_retry_after_is_honoured(server, proxy):
    proxy.faults = [(429, {"Retry-After": "3"})]
    ask(endpoint_judge(server[1], concurrency=1), 1)
    assert proxy.times[1] - proxy.times[0] >= 3


def test_never_more_requests_at_once_than_allowed(server, proxy):
    proxy.delay = 0.3
    proxy.faults = [(500, {}), "cut"]
    ask(endpoint_judge(server[1], concurrency=3), 12)
    assert proxy.most_at_once == 3


def test_dead_endpoint_is_one_sentence_and_keeps_what_was_paid(server, proxy):
    ask(endpoint_judge(server[1]), 4)
    proxy.forever = (503, {})
    words = r"failed 2 times in a row \(HTTP 503\).*OPENAI_BASE_URL.*the 4 verdicts in"
    with pytest.raises(StudyError, match=words) as caught:
        ask(endpoint_judge(server[1], retries=1), 9)
    assert_promised("the judge does not answer any more", caught.value)
    asked = sum(proxy.asked.values())
    assert asked <= 4 + 2 * 2  # those under way, each tried twice, and no other
    proxy.forever = None
    assert [v.score for v in ask(endpoint_judge(server[1]), 9)] == [4] * 9
    assert proxy.passed_on == 9


def test_nobody_there_is_one_sentence(proxy):
    proxy.close()
    with pytest.raises(StudyError, match="the judge at 127.0.0.1 failed 1 times .*ConnectError.*check the server"):
        ask(endpoint_judge("m", retries=0), 3)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ((401, {}), "does not accept the key in OPENAI_API_KEY"),
        ((403, {}), "may not use it"),
        ((404, {}), "knows no such address or model: check OPENAI_BASE_URL"),
        ((302, {"Location": "http://127.0.0.1:9/"}), "HTTP 302: check OPENAI_BASE_URL"),
        ((422, {}), "HTTP 422: check"),
        ((429, {}, "insufficient_quota"), "HTTP 429 insufficient_quota: it asks for payment"),
        ((429, {"Retry-After": "86400"}), "left alone for 86400 seconds"),
    ],
)
def test_what_does_not_pass_is_asked_once(proxy, fault, sentence):
    proxy.forever = fault
    with pytest.raises(StudyError, match=sentence):
        ask(endpoint_judge("m", concurrency=1), 5)
    assert sum(proxy.asked.values()) == 1


def test_what_a_content_filter_holds_back_is_unparsable_and_asked_once(proxy):
    proxy.forever = (400, {}, "content_filter")
    for _ in range(2):
        assert [v.score for v in ask(endpoint_judge("m"), 2)] == [None, None]
    assert sum(proxy.asked.values()) == 2


def test_a_model_that_the_server_does_not_have_is_one_sentence(server, proxy):
    with pytest.raises(StudyError, match="the judge"):
        ask(endpoint_judge("/no/such/model", retries=0), 1)


KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
from helpers.evaluation.judges.endpoint import EndpointJudge
from helpers.studies.settings import load_study
study = load_study("smollm2-135m")
asked = {"kind": "endpoint", "name": sys.argv[1], "max_tokens": 12, "concurrency": 2}
evaluation = study.evaluation.model_copy(update={"judge": study.evaluation.judge.model_copy(update=asked)})
judge = EndpointJudge(study.model_copy(update={"evaluation": evaluation}))
judge.judge([f"prompt {i}" for i in range(16)], [f"secret text {i}" for i in range(16)], [""] * 16)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_pays_for_nothing_twice(server, proxy, how):
    judge = endpoint_judge(server[1])
    path, proxy.delay = judge.path, 0.3
    process = subprocess.Popen([sys.executable, "-c", KILLED, server[1]], stderr=subprocess.DEVNULL)
    _wait(lambda: path.exists() and path.read_text().count("\n") >= 5, process)
    process.send_signal(how)
    process.wait(60)
    time.sleep(1)  # for replies that nobody waits for any more
    kept, asked = path.read_text().count("\n"), sum(proxy.asked.values())
    assert 5 <= kept < 16 and asked <= kept + 2  # at most those under way are lost
    assert [v.score for v in ask(endpoint_judge(server[1]), 16)] == [4] * 16
    assert sum(proxy.asked.values()) == asked + 16 - kept


def test_the_key_is_nowhere(server, proxy, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    texts = []
    for fault in [(401, {}), (429, {}), (500, {}), "cut", "html", (302, {"Location": proxy.url})]:
        proxy.faults = [fault]
        judge = endpoint_judge(server[1], retries=0, concurrency=1)
        with pytest.raises(StudyError) as caught:
            ask(judge, 1)
        texts += [
            "".join(traceback.format_exception(caught.value)),
            repr(judge.describe()),
            repr(caught.value.__dict__),
        ]
        texts += [repr(vars(judge)), repr(judge._url)]
    ask(judge, 1)
    texts += [caplog.text, *capfd.readouterr()]
    texts += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in texts:
        assert KEY not in text and "secret text 0" not in text


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        ("", KEY, "OPENAI_BASE_URL is not set: export OPENAI_BASE_URL=https"),
        ("https://api.example.org/v1", "", "OPENAI_API_KEY is not set"),
        ("https://api.example.org/v1", "two\nlines", "holds a space or a character that no key has"),
        ("https://api.example.org/v1", "clé", "holds a space or a character that no key has"),
        ("api.example.org/v1", KEY, "must be an http or https URL with a host"),
        ("ftp://api.example.org/v1", KEY, "must be an http or https URL with a host"),
        ("https:///v1", KEY, "must be an http or https URL with a host"),
        ("https://api.example.org:99999/v1", KEY, "must be an http or https URL with a host"),
        ("https://api.example.org:port/v1", KEY, "must be an http or https URL with a host"),
        (f"https://me:{KEY}@api.example.org/v1", KEY, "no user, password, query or fragment"),
        (f"https://api.example.org/v1?key={KEY}", KEY, "no user, password, query or fragment"),
        ("http://api.example.org/v1", KEY, "plain http to another machine"),
    ],
)
def test_bad_environment_is_one_sentence_without_its_values(monkeypatch, url, key, sentence):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(StudyError, match=sentence) as caught:
        build_judge(load_study("qwen2.5-1.5b"))
    assert KEY not in str(caught.value)


def test_plain_http_elsewhere_can_be_allowed(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge.lan:8000/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("SUBSPACES_ALLOW_HTTP", "1")
    assert str(address()) == "http://judge.lan:8000/v1/"
