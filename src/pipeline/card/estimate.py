"""What a card will take here, said before it starts: minutes, memory and disk."""

from collections import Counter
from math import ceil

from helpers.experiments.card import ANSWER, FIRST, VOCABULARIES, sources
from helpers.memory import free
from helpers.models.load import SHARE
from helpers.studies.settings import OwnModels
from pipeline.plan import work as counting
from pipeline.plan.sizes import NUMBERS, Size

BEGINNING = 0.75  # of what a style adds to a prompt: the part before it, which is computed once
START = 25.0  # seconds of imports, of the notebook and of the page
GEOMETRY = 0.6  # of the work that is counted for energies: no random bases are drawn
EDITING = 0.7  # of the same work for one update: the modes of alignment, and the products of the edits
DISK = 1e9  # bytes a second that a disk reads: assumed, since what was read last may still be in memory
WIDEST = 6  # matrices of the largest size that an edit holds in float64


def estimate(study: OwnModels, size: Size, variants: int, full: int) -> dict[str, float]:
    """Seconds, bytes of memory and bytes of scratch for a card with so many ``variants`` of each fine-tune.

    ``full``: how many fine-tunes are no adapters, whose updates are then decomposed whole.
    """
    from pipeline.plan.rates import measured  # here, because it imports what it times

    rates, s, tuned = measured(study, size), study.evaluation, len(study.tuned)
    look_alikes, harmless = sources(study)
    begun = 0.0 if study.embedded else BEGINNING * NUMBERS["style_tokens"][s.style.split()[0]]
    margins = counting.margins(s, s.style)
    margins["tokens"] -= begun * (2 * s.utility_prompts + s.harm_prompts)
    margins += counting.forward(s.utility_prompts, counting.prompt_tokens(harmless, s.style) + FIRST, s.batch_size)
    judged = Counter()
    for source in (s.harm, look_alikes):
        length = counting.prompt_tokens(source, s.style) - begun
        judged += counting.forward(s.harm_prompts, length, s.batch_size, ANSWER)
    models, made = 1 + 2 * tuned, tuned * (1 + variants)
    loads = counting.times(Counter(traffic=counting.FLOAT32 * size.parameters), 3 * (models + made))
    passes = counting.times(margins, models + tuned * variants) + counting.times(judged, models) + loads
    editing = counting.times(counting.geometry(size, 0), EDITING * tuned)
    algebra = counting.times(counting.geometry(size, 1 + full), GEOMETRY)
    second = counting.seconds(algebra, rates)  # beside the passes, on another core
    largest = max((m * n for m, n in size.matrices), default=0)
    logits = 2 * s.utility_prompts * FIRST * counting.FLOAT32 * size.vocabulary
    weights = counting.FLOAT32 * size.parameters
    modes = sum(count * min(shape) ** 2 for shape, count in size.matrices.items())  # of the alignment update
    beyond = max(0.0, weights - SHARE * free())  # is read again in every pass
    runs = models * passes_of(study, judged=True) + tuned * variants * passes_of(study, study.embedded)
    memory = max(weights - beyond + logits, WIDEST * counting.FLOAT64 * min(largest, 2**28))
    return {
        "seconds": START + runs * beyond / DISK + max(counting.seconds(passes + editing, rates), second),
        "memory": counting.PROCESS + memory,
        "disk": weights * (variants + 1) + counting.FLOAT64 * modes,
    }


def passes_of(study: OwnModels, judged: bool) -> int:
    """How often a model is run to measure it: margins, the divergence, and the tokens of judged answers."""
    s = study.evaluation
    batches, problems = ceil(s.harm_prompts / s.batch_size), ceil(s.utility_prompts / s.batch_size)
    return problems + batches + ceil(s.utility_prompts / VOCABULARIES) + (2 * batches * ANSWER if judged else 0)
