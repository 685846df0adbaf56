"""A job that is killed goes on where it stopped; `python -m benchmarks.job_kills` does it twenty times."""

import os

from benchmarks.job_kills import kill_job

LONG = bool(os.environ.get("MODELHUB_LONG"))


def test_a_killed_job_asks_nothing_again_that_was_answered_and_misses_no_row(tmp_path):
    """Whenever it is killed: at most the calls that were under way are made again."""
    kills, rows, concurrency = (20, 1000, 8) if LONG else (1, 60, 4)
    outcome = kill_job(tmp_path, rows=rows, kills=kills, concurrency=concurrency, seed=3)
    assert outcome.kills == kills
    assert outcome.exit_status == 0
    assert outcome.asked_again == []
    assert outcome.wrong_rows == {}
    assert 0 < outcome.journalled_at_kill[-1] < rows
    assert rows <= outcome.asked <= rows + kills * concurrency
