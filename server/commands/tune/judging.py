"""The steps of `mynah tune judge`: pairs, the judging model, the result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.imitation.collecting.teacher import Teacher, endpoint_of
from models.imitation.errors import (
    RunDamaged,
    TeacherFailed,
    TermsNotAccepted,
)
from models.imitation.judging.answers import read_answers, to_question
from models.imitation.judging.judgements import JudgementLog
from models.imitation.judging.model_judge import ANSWER_TOKENS, JudgeSummary, ModelJudge
from models.imitation.judging.pairs import (
    HIDDEN,
    Comparison,
    Role,
    keep_comparison,
    make_comparison,
)
from models.imitation.judging.results import JudgingResult, RaterResult, summarise
from server.access import is_loopback
from server.commands.output import printable, write, write_error, write_json, write_table
from server.commands.progress import show_count
from server.commands.tune.collect import API_KEY_VARIABLE
from server.evaluation.verdict import CAVEAT, describe

RESULT_NAME = "result.json"
_STOPS = {
    "max_requests": "Stopped at --max-requests; raise it, and the same command goes on.",
    "max_tokens": "Stopped before --max-tokens would be passed; raise it, and the same command"
    " goes on.",
}


def make_pairs(
    folder: Path,
    files: Mapping[Role, Path],
    names: Mapping[Role, str | None],
    *,
    questions: Path | None,
    seed: int,
    limit: int | None,
    hidden: tuple[str, ...],
) -> Comparison:
    """The pairs of two files, kept in `folder`; the same call finds them there again."""
    comparison = make_comparison(
        {role: names[role] or files[role].stem for role in files},
        {role: read_answers(path, role) for role, path in files.items()},
        questions=_read_questions(questions),
        seed=seed,
        limit=limit,
        hidden=hidden,
    )
    keep_comparison(folder, comparison)
    return comparison


def describe_pairs(comparison: Comparison, folder: Path) -> None:
    """What was paired, what was not, and where names are hidden."""
    num = len(comparison.pairs)
    line = f"{num} pairs of {comparison.system} and {comparison.baseline} stand in {folder}"
    if comparison.num_unpaired:
        line += f"; {comparison.num_unpaired} answers have no counterpart"
    write(printable(f"{line}."))
    if comparison.num_hidden:
        words = ", ".join(comparison.hidden)
        write(
            printable(
                f"In {comparison.num_hidden} of them raters read {HIDDEN} in the place of a word"
                f" that tells who answers ({words}); --system-name, --baseline-name and --hide"
                " change these words."
            )
        )


def pairs_json(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "folder": str(folder),
        "system": comparison.system,
        "baseline": comparison.baseline,
        "seed": comparison.seed,
        "num_pairs": len(comparison.pairs),
        "num_unpaired": comparison.num_unpaired,
        "num_hidden": comparison.num_hidden,
    }


def run_judge(
    comparison: Comparison,
    folder: Path,
    url: str,
    model: str,
    *,
    accepts_terms: bool,
    max_requests: int | None,
    max_tokens: int | None,
    judge_tokens: int | None,
    concurrency: int,
    timeout_s: float,
) -> JudgeSummary:
    """Let a model judge what it has not judged yet.

    Raises `TermsNotAccepted` for an endpoint elsewhere whose terms were not accepted.
    """
    endpoint = endpoint_of(url)
    if not accepts_terms and not is_loopback(urlsplit(url).hostname or ""):
        raise TermsNotAccepted(
            "providers limit what their models' answers may be used for, and the compared answers"
            f" are sent to them; read the terms of {model} at {endpoint} and, if they allow it, add"
            " --accept-teacher-terms.",
            param="accept_teacher_terms",
        )
    with JudgementLog(folder) as log, show_count(sys.stderr, "verdicts") as display:
        judge = ModelJudge(
            comparison,
            Teacher(
                url,
                model,
                os.environ.get(API_KEY_VARIABLE),
                concurrency=concurrency,
                timeout_s=timeout_s,
            ),
            log,
            folder,
            max_requests=max_requests,
            max_tokens=max_tokens,
            answer_tokens=judge_tokens or ANSWER_TOKENS,
            progress=lambda done, wanted, retries: display(
                done, wanted, f"{retries} retries" if retries else ""
            ),
        )
        try:
            return judge.run()
        except TeacherFailed as error:
            raise TeacherFailed(
                f"The judge cannot go on: {error.message} What it said is kept in {folder}; the"
                " same command goes on."
            ) from error
        except KeyboardInterrupt:
            write_error(
                f"stopped; what the judge said is kept in {folder}, the same command goes on"
            )
            raise


def write_summary(summary: JudgeSummary) -> None:
    """How far the judge came and what it cost."""
    write(
        printable(
            f"{summary.rater} has judged {summary.num_judged} of {summary.num_pairs} pairs in both"
            f" orders: {summary.num_requests} requests ({summary.num_requests_now} of them now),"
            f" {summary.num_tokens} tokens, {summary.num_retries} retries."
        )
    )
    if summary.num_errors:
        write(f"Of {summary.num_errors} pairs no verdict could be read; they count for nothing.")
    if summary.stopped_by in _STOPS:
        write(_STOPS[summary.stopped_by])


def show_results(
    comparison: Comparison,
    folder: Path,
    raters: Sequence[str] | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print the result and write it as JSON for `mynah tune report --judged`."""
    with JudgementLog(folder) as log:
        standing = log.standing()
    result = summarise(comparison, standing, raters)
    path = out or folder / RESULT_NAME
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_text(
            json.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )
        aside.replace(path)
    except OSError as error:
        raise RunDamaged(f"cannot write {path}: {error.strerror}.", param="out") from None
    if as_json:
        write_json(result.to_json())
        return
    write_table(
        ("RATER", "WIN", "LOSS", "TIE", "BOTH BAD", "NO VERDICT", "FLIPPED"),
        [_to_row(rater) for rater in result.raters],
    )
    write()
    for line in _say(result):
        write(printable(line))
    left_out = sorted(set(standing) - {rater.name for rater in result.raters})
    if left_out:
        write(printable(f"Not counted: {', '.join(left_out)}; --rater NAME counts whom it names."))
    write(CAVEAT)
    write(printable(f"Wrote {path}."))


def _to_row(rater: RaterResult) -> tuple[object, ...]:
    counts = rater.counts
    flipped = str(rater.num_flipped) if rater.is_model else "-"
    return (
        rater.name,
        *(counts[name] for name in ("win", "loss", "tie", "both_bad")),
        rater.num_errors,
        flipped,
    )


def _say(result: JudgingResult) -> list[str]:
    num = sum(result.counts.values())
    lines = [
        f"{result.system} against {result.baseline}: win rate {describe(result.interval)}, a tie or"
        f" both bad counting half; {num} judgements of {result.num_judged_pairs} of"
        f" {result.num_pairs} pairs.",
        f"Its answers have {result.mean_length_difference:+.1f} words on average.",
    ]
    if result.flip_rate is not None:
        lines.append(f"The order of the answers changed {result.flip_rate:.1%} of the verdicts.")
    if result.agreement is not None:
        for pair in result.agreement.pairs:
            kappa = "not defined" if pair.kappa is None else f"{pair.kappa:.2f}"
            lines.append(
                f"{pair.raters[0]} and {pair.raters[1]} agree on {pair.raw:.1%} of"
                f" {pair.num_items} pairs, kappa {kappa}."
            )
        mean = result.agreement.kappa
        if len(result.agreement.pairs) > 1 and mean is not None:
            lines.append(f"Agreement on average: {result.agreement.raw:.1%}, kappa {mean:.2f}.")
    return lines


def _read_questions(path: Path | None) -> dict[str, str] | None:
    """Id to question, of a file of evaluation questions or of JSONL rows with `id`, `question`."""
    if path is None:
        return None
    from models.imitation.conversations import Turn
    from server.evaluation.questions import read_questions

    return {
        question.id: to_question(
            [Turn(message.role, message.content) for message in question.messages]
        )
        for question in read_questions(path)
    }
