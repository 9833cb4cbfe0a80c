"""A judge behind an OpenAI-compatible endpoint: few requests at a time, patient with its failures, paid for once."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from helpers.errors import StudyError
from helpers.evaluation.judges import rubric
from helpers.evaluation.judges.base import Judgement
from helpers.evaluation.judges.cache import Keep, Pair, Verdicts
from helpers.evaluation.judges.chat import ChatClient, Passing
from helpers.evaluation.judges.endpoint import URL, Endpoint
from helpers.studies.sections import Judge

SEED = 0
LONGEST_PAUSE = 300.0  # seconds between two tries; an endpoint that asks for more is left alone
_BACK_OFF = wait_random_exponential(multiplier=0.5, max=60)


class EndpointJudge:
    """Asks a model at an endpoint to score answers by the rubric, at temperature 0."""

    def __init__(self, settings: Judge):
        self._settings = settings
        self._endpoint = Endpoint.from_environment()
        self._verdicts = Verdicts(self.describe())

    def judge(self, prompts: list[str], answers: list[str], references: list[str]) -> list[Judgement]:
        """Judge answers to prompts, in order, asking only what was never asked.

        Raises StudyError if the endpoint cannot be used; all verdicts obtained until then are kept.
        """
        return self._verdicts.judge(prompts, answers, self._ask)

    def describe(self) -> dict[str, Any]:
        """Model, host, rubric and how it is asked."""
        return {
            "judge": "endpoint",
            "model": self._settings.name,
            "endpoint": self._endpoint.host,
            "rubric": rubric.RUBRIC,
            "temperature": 0,
            "seed": SEED,
            "max_tokens": self._settings.max_tokens,
        }

    def _ask(self, pairs: list[Pair], keep: Keep) -> None:
        """Ask about all pairs; after a failure, or an interruption, only requests under way still end."""
        stop = threading.Event()
        with ChatClient(self._endpoint, self._settings) as client, ThreadPoolExecutor(client.concurrency) as pool:
            asked = [pool.submit(self._one, client, pair, keep, stop) for pair in pairs]
            try:
                for future in as_completed(asked):
                    future.result()
            except (Passing, StudyError) as error:
                raise self._explained(error) from None
            finally:
                stop.set()

    def _one(self, client: ChatClient, pair: Pair, keep: Keep, stop: threading.Event) -> None:
        """Ask about one pair until there is a reply; a failure that stays stops the others."""
        if stop.is_set():
            return
        tries = Retrying(
            retry=retry_if_exception_type(Passing),
            stop=stop_after_attempt(self._settings.retries + 1) | stop_when_event_set(stop),
            wait=_pause,
            sleep=sleep_using_event(stop),
            reraise=True,
        )
        try:
            reply = tries(client.reply, rubric.question(*pair), SEED)
            keep(pair, Judgement(None, False) if reply is None else rubric.parse(reply))
        except BaseException:
            stop.set()
            raise

    def _explained(self, failure: Passing | StudyError) -> StudyError:
        kept = f"the {len(self._verdicts)} verdicts in {self._verdicts.path} are kept and will not be asked again"
        if isinstance(failure, StudyError):
            return StudyError(f"{failure}; {kept}")
        return StudyError(
            f"the judge at {self._endpoint.host} failed {self._settings.retries + 1} times in a row ({failure}): "
            f"check the server, the network and {URL}, then run again; {kept}"
        )


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the endpoint asks for, or an exponential pause with jitter."""
    failure = state.outcome.exception()
    if failure.retry_after > LONGEST_PAUSE:
        raise StudyError(
            f"the judge's endpoint asks to be left alone for {failure.retry_after:.0f} seconds ({failure}): "
            "run again after that, or raise the limit of your account"
        )
    return max(failure.retry_after, _BACK_OFF(state))
