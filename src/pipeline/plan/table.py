"""The plan of a study as text for the terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.plan.plan import Plan

GIB = 2**30


def table(plan: "Plan") -> str:
    """All parts of a plan, with a warning for whatever this machine has too little of."""
    machine, seeds = plan.machine, ", ".join(map(str, plan.seeds))
    device = f"{machine.name}" if machine.device == "cuda" else f"{machine.cores} cores, no GPU"
    parts = [
        f"study {plan.study}, seeds {seeds}, a model of {plan.parameters / 1e6:,.1f} million parameters, on {device}",
        _downloads(plan),
        _notebooks(plan),
        _resources(plan),
        _judge(plan),
    ]
    return "\n\n".join(part for part in parts if part)


def size(number: float) -> str:
    """Bytes in words."""
    if number < 0.1 * GIB:
        return f"{number / 2**20:,.1f} MiB"
    return f"{number / GIB:,.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"


def _columns(rows: list[list[str]], right: set[int]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _downloads(plan: "Plan") -> str:
    if not plan.downloads:
        return "fetched: nothing"
    rows = [["fetched", "from", "size", ""]]
    rows += [[one.what, one.where, size(one.size), "already here" if one.here else ""] for one in plan.downloads]
    left = sum(one.size for one in plan.downloads if not one.here)
    return _columns([*rows, ["still to fetch", "", size(left), ""]], {2})


def _notebooks(plan: "Plan") -> str:
    rows = [["notebook", "runs", "each", "in all", "judged answers"]]
    for row in plan.rows:
        judged = f"{row.judged * row.runs:,}" if row.judged else ""
        rows.append([row.stage, str(row.runs), duration(row.seconds), duration(row.seconds * row.runs), judged])
    for title, per_seed in (("one seed", True), ("over all seeds", False)):
        found = [row for row in plan.rows if row.per_seed is per_seed]
        if found:
            rows.append([title, "", duration(sum(row.seconds for row in found)), "", ""])
    whole = sum(row.seconds * row.runs for row in plan.rows)
    rows.append(["all, one after the other", "", "", duration(whole), f"{plan.judged:,}" if plan.judged else ""])
    at_once = f"{plan.processes} at a time" if plan.processes > 1 else "one at a time"
    time = plan.hours * 3600
    return (
        f"{_columns(rows, {1, 2, 3, 4})}\n\ntime: about {duration(time)} to the report with {at_once} "
        f"(from {duration(time / 2)} to {duration(2 * time)})"
    )


def _resources(plan: "Plan") -> str:
    machine, needs = plan.machine, plan.needs
    shared = f"{size(needs.disk_shared)} once and {size(needs.disk_seed)} a seed"
    rows = [["disk", size(plan.disk), f"{shared}; {size(machine.disk)} are free", _enough(plan.disk, machine.disk)]]
    several = f" in {plan.processes} processes" if plan.processes > 1 else ""
    of = f"training {size(needs.training)}, " if needs.training else ""
    of += f"evaluation {size(needs.evaluation)}, subspaces {size(needs.projection)}"
    rows.append(
        ["memory", size(plan.memory), f"{of}{several}; of {size(machine.memory)}", _enough(plan.memory, machine.memory)]
    )
    if machine.device == "cuda":
        enough = _enough(plan.gpu_memory, machine.gpu_memory)
        rows.append(["GPU memory", size(plan.gpu_memory), f"of {size(machine.gpu_memory)}, with CORES=1", enough])
    else:
        rows.append(["GPU memory", size(plan.gpu_memory), "if there were one", ""])
    remedy = ""
    if any(row[3] for row in rows):
        remedy = (
            "\nto need less memory: CORES=1, a smaller batch_size, gradient_checkpointing: true, or weights: bfloat16"
        )
    return _columns(rows, {1}).rstrip() + remedy


def _enough(needed: float, there: float) -> str:
    return "NOT ENOUGH" if needed > there else ""


def _judge(plan: "Plan") -> str:
    if plan.judge != "endpoint":
        return ""
    text = f"judge: {plan.judged:,} answers cost about {plan.tokens_in / 1e6:,.2f} million tokens read"
    text += f" and at most {plan.tokens_out / 1e6:,.2f} million written"
    if plan.price is None:
        return f"{text} (--price IN OUT, of a million tokens each, says what that costs)"
    return f"{text}: at most {plan.price:,.2f} at the prices given"
