"""What a card will take here, said before it starts: minutes, memory and disk."""

from collections import Counter
from math import ceil

from helpers.experiments.card import ANSWER, FIRST, sources
from helpers.experiments.card_variants import LARGEST
from helpers.memory import free
from helpers.models.beginnings import ROWS
from helpers.models.load import SHARE
from helpers.models.precision import resolved
from helpers.studies.settings import OwnModels
from pipeline.plan import work as counting
from pipeline.plan.sizes import Size

TRIED = 4  # passes to compute a beginning and to see whether it can be shared
START = 25.0  # seconds of imports, of the notebook and of the page
EIGH = (6.0, 12000.0)  # FLOP of an eigendecomposition of s rows in s³ and in s²: small ones are slower for their size
DISK = 1e9  # bytes a second that a disk reads: assumed, since what was read last may still be in memory
ROOM = 0.8  # of free memory, which may be planned with
SPEAKER = {"float32": 1.0, "bfloat16": 1.5}  # times its weights that a model takes, with the copy that generates
WIDEST = 6  # matrices of the largest size that an edit holds in float64


def estimate(study: OwnModels, size: Size, variants: int, full: int) -> dict[str, float]:
    """Seconds, bytes of memory and bytes of scratch for a card with so many ``variants`` of each fine-tune.

    ``full``: how many fine-tunes are no adapters, whose updates are then decomposed whole.
    """
    from pipeline.plan.rates import measured  # here, because it imports what it times

    rates, s, tuned = measured(study, size), study.evaluation, len(study.tuned)
    look_alikes, harmless = sources(study)
    begun = counting.begun(study, s.style)
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
    largest = max((m * n for m, n in size.matrices), default=0)
    logits = 2 * s.utility_prompts * FIRST * counting.FLOAT32 * size.vocabulary
    weights = counting.FLOAT32 * size.parameters
    spoken = weights * SPEAKER[resolved(s.autocast)]
    modes = sum(count * min(shape) ** 2 for shape, count in size.matrices.items())  # of the alignment update
    beyond = max(0.0, weights - SHARE * free())  # is read again in every pass
    runs = models * passes_of(study, judged=True) + tuned * variants * passes_of(study, study.embedded)
    parts = ((weights - beyond if beyond else spoken) + logits, decomposing(largest))
    memory = sum(parts) if room_for_both(study, size.parameters, largest) else max(parts)
    return {
        "seconds": START + runs * beyond / DISK + counting.seconds(passes + algebra(size, tuned, full), rates),
        "memory": counting.PROCESS + memory,
        "disk": weights * (variants + 1) + counting.FLOAT64 * modes,
    }


def decomposing(largest: int) -> float:
    """Bytes that the geometry, and then the edits, of the largest matrix take, of so many numbers."""
    return WIDEST * counting.FLOAT64 * min(largest, LARGEST)


def room_for_both(study: OwnModels, parameters: int, largest: int) -> bool:
    """Whether memory has room for a model that speaks and, beside it, for the geometry of its largest matrix."""
    weights = counting.FLOAT32 * parameters * SPEAKER[resolved(study.evaluation.autocast)]
    return weights + decomposing(largest) < ROOM * free()


def algebra(size: Size, tuned: int, full: int) -> Counter:
    """Of all matrices the geometry of the updates, ``full`` of them given as whole matrices, and the edits of each."""
    work = 0.0
    for (m, n), count in size.matrices.items():
        s, long, tall = min(m, n), max(m, n), m > n
        product, eigh = s * s * long, EIGH[0] * s**3 + EIGH[1] * s**2
        decomposed = (1 + full) * (product + eigh) + full * (2 * product * tall + 4 * s**3)
        edited = 4 * product * (tuned * tall + full)  # singular vectors of the long side, and two projections
        work += count * (decomposed + edited)
    return Counter(float64=work)


def passes_of(study: OwnModels, judged: bool) -> int:
    """How often a model is run to measure it: margins, the divergence, and the tokens of judged answers."""
    s, tried = study.evaluation, 0 if study.embedded else TRIED
    most = s.batch_size if study.embedded else ROWS
    margins = ceil(s.harm_prompts / most) + 2 * ceil(s.utility_prompts / most) + tried
    return margins + (2 * ceil(s.harm_prompts / s.batch_size) * ANSWER + tried if judged else 0)
