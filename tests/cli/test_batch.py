"""`modelhub batch`: every row of a file is asked once, whatever happens on the way."""

import asyncio
import csv
import json
import signal
import time
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from benchmarks.job_kills import CountingServer
from modelhub import Hub
from modelhub.cli.exit import Exit
from modelhub.jobs.batch_job import open_job
from modelhub.jobs.errors import JobError
from modelhub.jobs.journal import Journal, read_answers
from modelhub.jobs.plan import JobOptions
from modelhub.jobs.rows import Answer

JOB_FILE = """
version: 1
defaults:
  retry: {max_attempts: 2, initial_wait: 0, max_wait: 0}
models:
  gpt:
    provider: openai
    model_name: gpt-5-mini
    api: chat
    api_key: ${JOB_KEY:-k}
    generate_kwargs: {extra_headers: {X-Team-Token: "${JOB_KEY:-k}"}}
    base_url: "http://127.0.0.1:PORT/v1"
    pricing: {input: 1000, output: 1000}
  unpriced: {provider: openai, model_name: no-such-model, api_key: k, base_url: "http://127.0.0.1:1/v1"}
  broken: {provider: scripted, steps: [{fail: RequestRefused, message: no}]}
  mended: {provider: scripted, model_name: MENDED, steps: [{fail: RequestRefused, message: no}, {say: yes}]}
  invoices: {provider: scripted, steps: [{data: {total: 5}}, {data: {sum: 5}}]}
chains:
  primary: {models: [gpt]}
  dear: {models: [gpt], ask: {max_tokens: 10}}
"""


@pytest.fixture(scope="module", name="shared_server")
def _shared_server():
    server = CountingServer(0)
    yield server
    server.close()


@pytest.fixture
def server(shared_server):
    """The server, which has not been asked anything yet."""
    shared_server.counts.clear()
    return shared_server


@pytest.fixture(name="job")
def _job(run, config, server):
    """Run a job over `rows.jsonl`, or what else is named, into `out.jsonl`."""
    config.write_text(JOB_FILE.replace("PORT", str(server.port)), encoding="utf-8")

    def run_job(*arguments, name="primary", source="rows.jsonl", output="out.jsonl"):
        return run("batch", name, source, "-o", output, *arguments)

    return run_job


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(name="rows")
def _rows(tmp_path):
    """The file that most tests ask."""
    write_rows(tmp_path / "rows.jsonl", *({"id": number, "text": f"text {number}"} for number in range(10)))


def test_each_row_is_asked_and_written_with_its_answer(job, rows, tmp_path, server):
    """The output has the columns of the input, the answer, who gave it, and what it used."""
    result = job("--prompt", "Say {text}")
    assert result.exit_code == Exit.OK
    assert server.counts == {f"Say text {number}": 1 for number in range(10)}
    written = sorted(read_rows(tmp_path / "out.jsonl"), key=lambda row: row["id"])
    assert written[3] == {
        "id": 3,
        "text": "text 3",
        "row": 4,
        "answer": "answer to Say text 3",
        "error": None,
        "model": "gpt",
        "finish_reason": "stop",
        "input_tokens": 5,
        "output_tokens": 5,
        "cost": 0.01,
    }
    assert len(written) == 10
    assert "10 rows: 10 answered, 0 failed" in result.stderr
    assert "50 input and 50 output tokens, $0.10" in result.stderr


def test_a_job_that_is_run_again_asks_nothing(job, rows, tmp_path, server):
    """Its output is written again, from the journal."""
    job("--prompt", "Say {text}")
    (tmp_path / "out.jsonl").write_text("torn")
    result = job("--prompt", "Say {text}")
    assert result.exit_code == Exit.OK
    assert server.counts.total() == 10
    assert sorted(row["id"] for row in read_rows(tmp_path / "out.jsonl")) == list(range(10))
    assert "10 from the journal" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--prompt", "Say it: {text}"], ["--system", "Be brief."], ["--ask", "temperature=0"]],
)
def test_what_is_sent_decides_whether_a_row_is_asked_again(job, rows, server, arguments):
    """Another prompt, system message or parameter is another question."""
    job("--prompt", "Say {text}")
    job("--prompt", "Say {text}", *arguments)
    assert server.counts.total() == 20


def test_another_model_is_asked_again_and_another_key_is_not(job, rows, server, config, monkeypatch):
    """A key, a price or a time limit changes no answer; and no key is in the journal."""
    monkeypatch.setenv("JOB_KEY", "sk-first-secret")
    job("--prompt", "Say {text}")
    monkeypatch.setenv("JOB_KEY", "sk-second-secret")
    config.write_text(
        config.read_text().replace("input: 1000", "input: 1").replace("max_attempts: 2", "max_attempts: 3")
    )
    job("--prompt", "Say {text}")
    assert server.counts.total() == 10
    journal = config.with_name("out.jsonl.journal").read_bytes()
    assert b"secret" not in journal
    config.write_text(config.read_text().replace("gpt-5-mini", "gpt-5"))
    job("--prompt", "Say {text}")
    assert server.counts.total() == 20


def test_a_changed_file_asks_only_what_is_new(job, tmp_path, server):
    """Rows may be added, moved and removed, and columns that are not sent may change."""
    write_rows(tmp_path / "rows.jsonl", {"text": "a"}, {"text": "b"}, {"text": "c"})
    job("--prompt", "Say {text}")
    write_rows(tmp_path / "rows.jsonl", {"text": "new"}, {"text": "c", "id": 7}, {"text": "a"})
    job("--prompt", "Say {text}", "--ordered")
    assert server.counts == {"Say a": 1, "Say b": 1, "Say c": 1, "Say new": 1}
    assert [(row["row"], row["answer"]) for row in read_rows(tmp_path / "out.jsonl")] == [
        *((1, "answer to Say new"), (2, "answer to Say c"), (3, "answer to Say a"))
    ]


def test_rows_that_are_alike_are_asked_once_and_all_answered(job, tmp_path, server):
    """Side by side, while the first is under way, and far apart."""
    texts = ["a", "a", "b", *(str(number) for number in range(300)), "a", "b", "b"]
    write_rows(tmp_path / "rows.jsonl", *({"text": text} for text in texts))
    result = job("--prompt", "Say {text}")
    assert set(server.counts.values()) == {1}
    assert sorted(row["answer"] for row in read_rows(tmp_path / "out.jsonl")) == sorted(
        f"answer to Say {t}" for t in texts
    )
    assert "not asked: 4 like another row" in result.stderr


def test_a_row_like_one_that_was_just_answered_is_not_asked(job, tmp_path, server):
    """The rows after it were looked up in the journal before its answer was there."""
    write_rows(tmp_path / "rows.jsonl", *({"text": text} for text in "abca"))
    result = job("--prompt", "Say {text}", "--concurrency", "1")
    assert server.counts == {"Say a": 1, "Say b": 1, "Say c": 1}
    assert len(read_rows(tmp_path / "out.jsonl")) == 4
    assert "not asked: 1 like another row" in result.stderr


def test_rows_that_cannot_be_asked_fail_with_their_line(job, tmp_path):
    """They do not stop the job."""
    lines = [
        '{"text": "a"}',
        "",
        "{broken",
        '{"title": "b"}',
        '{"text": null}',
        "7",
        '{"text": "\\ud800"}',
        '{"text": "c"}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = job("--prompt", "Say {text}", "--ordered")
    assert result.exit_code == Exit.FAILED
    errors = [row["error"] for row in read_rows(tmp_path / "out.jsonl")]
    assert errors[0] is None
    assert errors[6] is None
    assert errors[1].startswith("InvalidRequest: line 3 is not JSON: expecting property name")
    assert errors[2] == "InvalidRequest: line 4: the row has no column `text` (it has: title)"
    assert errors[3] == "InvalidRequest: line 5: column `text` of the row is empty (null)"
    assert errors[4].startswith("InvalidRequest: line 6 is neither an object nor text nor a list of messages")
    assert "InvalidRequest: messages" in errors[5]
    assert "line 3 is not JSON" in result.stderr


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_text_and_numbers_that_a_format_cannot_hold_do_not_stop_the_job(job, tmp_path, ending):
    """A lone surrogate, and a whole number of more than 64 bits."""
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "a", "x": "\\ud800", "n": 1}\n{"text": "b", "n": 99999999999999999999}'
    )
    result = job("--prompt", "Say {text}", output=f"out.{ending}")
    assert result.exit_code == Exit.OK
    assert "2 answered, 0 failed" in result.stderr


def test_a_journal_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    """Whatever SQLite says of it."""
    journal = Journal(tmp_path / "out.jsonl.journal")
    journal.close()
    with pytest.raises(JobError, match=r"out\.jsonl\.journal: the journal cannot be written: "):
        journal.add([(b"key", Answer({}, has_failed=False, cost=None))])


def test_a_journal_has_the_latest_answer_for_each_key_also_of_a_killed_process(tmp_path, monkeypatch):
    """Whether or not the key was in the index when the process was killed."""
    monkeypatch.setattr("modelhub.jobs.journal.MAX_UNINDEXED", 4)
    keys = [bytes([number]) for number in range(9)]
    journal = Journal(tmp_path / "out.jsonl.journal")
    journal.add([(key, Answer({"error": "no"}, has_failed=True, cost=None)) for key in keys[:6]])
    assert len(journal.find(keys)) == 6
    journal.add([(key, Answer({"answer": "yes"}, has_failed=False, cost=None)) for key in keys[4:]], replace=True)
    killed = tmp_path / "killed"
    killed.mkdir()
    for path in tmp_path.glob("out.jsonl.journal*"):
        (killed / path.name).write_bytes(path.read_bytes())
    expected = {key: "no" if number < 4 else None for number, key in enumerate(keys)}
    for read in (journal.find, lambda keys: read_answers(killed / "out.jsonl.journal", keys)):
        assert {key: answer.columns.get("error") for key, answer in read(keys).items()} == expected
    reopened = Journal(killed / "out.jsonl.journal")
    assert {key: answer.columns.get("error") for key, answer in reopened.find(keys).items()} == expected
    totals = reopened.sum_totals()
    assert (totals.answered, totals.failed) == (5, 4)
    journal.close()
    reopened.close()


def test_the_average_length_is_of_rows_that_were_answered(tmp_path):
    """For the plan and for the budget alike: a failure says nothing of how long an answer is."""
    journal = Journal(tmp_path / "out.jsonl.journal")
    assert journal.sum_totals().average_output is None
    answered = Answer({}, has_failed=False, cost=None, output_tokens=100)
    journal.add([(b"a", answered), (b"b", Answer({}, has_failed=True, cost=None))])
    assert journal.sum_totals().average_output == 100
    journal.close()


def test_a_row_may_be_a_prompt_or_messages(job, tmp_path, server):
    """As `map` takes them; the output names the column that they stand for."""
    rows = ["a", [{"role": "user", "content": "b"}], {"prompt": "c"}, {"messages": [{"role": "user", "content": "d"}]}]
    write_rows(tmp_path / "rows.jsonl", *rows)
    assert job("--ordered").exit_code == Exit.OK
    assert set(server.counts) == {"a", "b", "c", "d"}
    first, second, *_ = read_rows(tmp_path / "out.jsonl")
    assert (first["prompt"], second["messages"]) == ("a", [{"role": "user", "content": "b"}])


def test_csv_goes_in_and_out(job, tmp_path, server):
    """With commas, quotes and line breaks in its fields; a row of another length fails alone, with its line."""
    source = 'id,text\n1,"a, ""b""\nc"\n2,x,y\n\n3,d\n'
    (tmp_path / "rows.csv").write_text(source, encoding="utf-8-sig")
    result = job("--prompt", "Say {text}", "--ordered", source="rows.csv", output="out.csv")
    assert result.exit_code == Exit.FAILED
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == ['answer to Say a, "b"\nc', "", "answer to Say d"]
    assert rows[1]["error"] == "InvalidRequest: line 4 has 3 fields, not 2 as the first line says"
    assert list(rows[0]) == [
        *("id", "text", "row", "answer", "error", "model", "finish_reason", "input_tokens", "output_tokens", "cost")
    ]


def test_each_character_that_csv_must_quote_comes_back_as_it_was(job, tmp_path):
    """A comma, a quote or a line break, with nothing else in its line to be quoted."""
    texts = ["a,b", '"a" b', "a\nb", "a\rb", "plain"]
    write_rows(tmp_path / "rows.jsonl", *({"text": text} for text in texts))
    assert job("--prompt", "Say {text}", "--ordered", output="out.csv").exit_code == Exit.OK
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == texts


def test_a_long_field_of_a_csv_file_is_read(job, tmp_path, server):
    """Longer than what Python's reader takes by default."""
    (tmp_path / "rows.csv").write_text(f"text\n{'x' * 200_000}\n")
    assert job("--prompt", "Say {text}", source="rows.csv").exit_code == Exit.OK
    assert [len(prompt) for prompt in server.counts] == [200_004]


def test_parquet_goes_in_and_out(job, tmp_path):
    """The columns of the input keep their types."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"text": ["a", "b", None], "day": [date(2026, 1, day) for day in (1, 2, 3)], "n": [1, None, 3]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    result = job("--prompt", "Say {text}", "--ordered", source="rows.parquet", output="out.parquet")
    assert result.exit_code == Exit.FAILED
    written = parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.field("day").type == arrow.date32()
    assert written.column("answer").to_pylist() == ["answer to Say a", "answer to Say b", None]
    assert written.column("n").to_pylist() == [1, None, 3]
    assert "row 3: column `text` of the row is empty" in written.column("error").to_pylist()[2]


def test_what_is_no_text_in_parquet_is_asked_as_json_has_it_or_refused(job, tmp_path):
    """Dates in ISO 8601, in objects too; bytes name their row and column; the journal knows such rows again."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = {"at": moment, "s": {"day": date(2026, 1, 2)}, "price": Decimal("1.50"), "raw": b"\xff"}
    parquet.write_table(arrow.Table.from_pylist([row, row]), tmp_path / "rows.parquet")
    job("--prompt", "{at} {s} {price}", "--ordered", source="rows.parquet", output="out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    asked = 'answer to 2026-01-02T03:04:05+00:00 {"day": "2026-01-02"} 1.50'
    assert (row["answer"], row["at"], row["price"], row["raw"]) == (asked, "2026-01-02T03:04:05Z", "1.50", "_w==")
    again = job("--prompt", "{at} {s} {price}", "--ordered", source="rows.parquet", output="out.csv")
    assert "2 from the journal" in again.stdout + again.stderr
    refused = job("--prompt", "{raw}", source="rows.parquet", output="raw.jsonl")
    assert "row 2: column `raw` of the row holds bytes" in refused.stdout + refused.stderr


def test_a_value_of_parquet_that_python_cannot_hold_costs_its_row_at_most(job, tmp_path):
    """Nanoseconds are cut off; an instant after the year 9999 is refused with its row and column."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "at": arrow.array([1_001, 1_001], arrow.timestamp("ns")),
        "took": arrow.array([1_001, 1_001], arrow.duration("ns")),
        "clock": arrow.array([1_001, 1_001], arrow.time64("ns")),
        "until": arrow.array([0, 2**61], arrow.timestamp("ms")),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    assert job("--prompt", "{at} {clock}", "--ordered", source="rows.parquet").exit_code == Exit.FAILED
    first, second = read_rows(tmp_path / "out.jsonl")
    assert first["answer"] == "answer to 1970-01-01T00:00:00.000001 00:00:00.000001"
    assert "row 2: column `until` holds <value out of range: 2305843009213693952>" in second["error"]


def test_a_number_that_json_cannot_write_is_null_in_the_output(job, tmp_path):
    """Else other readers of JSON would refuse the file."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "n": NaN}\n')
    assert job().exit_code == Exit.OK
    assert '"n":null' in (tmp_path / "out.jsonl").read_text()


def test_the_types_of_json_values_are_those_of_parquet_columns(job, tmp_path):
    """Values of several types, lists and objects are written as JSON."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": "a", "n": 1, "x": 1, "tags": ["p"], "on": True}, {"text": "b", "n": None, "x": 2.5, "tags": "q"}]
    write_rows(tmp_path / "rows.jsonl", *rows)
    assert job("--prompt", "Say {text}", "--ordered", output="out.parquet").exit_code == Exit.OK
    written = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["n"], row["x"], row["tags"], row["on"]) for row in written] == [
        *((1, 1.0, '["p"]', True), (None, 2.5, '"q"', None))
    ]


def test_a_column_of_the_input_that_has_one_of_our_names_is_kept(job, tmp_path):
    """Under another name."""
    write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "answer": 42, "cost": 7})
    assert job().exit_code == Exit.OK
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert (row["input_answer"], row["input_cost"], row["answer"]) == (42, 7, "answer to a")


SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}


def test_answers_may_have_a_structure(job, tmp_path):
    """It is in the column `output`; an answer that does not fit is a failed row."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    write_rows(tmp_path / "rows.jsonl", "a", "b")
    result = job("--schema", "schema.json", "--concurrency", "1", "--ordered", name="invoices")
    assert result.exit_code == Exit.FAILED
    first, second = read_rows(tmp_path / "out.jsonl")
    assert (first["output"], first["error"]) == ({"total": 5}, None)
    assert (second["output"], second["error"][:9]) == (None, "BadReply:")


def test_failed_rows_are_asked_again_only_if_asked_for(job, tmp_path):
    """They are part of the output until then."""
    write_rows(tmp_path / "rows.jsonl", "a", "b")
    assert job("--concurrency", "1", name="mended").exit_code == Exit.FAILED
    result = job(name="mended")
    assert result.exit_code == Exit.FAILED
    assert "--retry-failed" in result.stderr
    assert "no row was asked" in result.stderr
    result = job("--retry-failed", "--ask", "seed=1", name="mended")
    assert result.exit_code == Exit.FAILED
    mended = [row["error"] for row in read_rows(tmp_path / "out.jsonl")]
    assert mended.count(None) == 1


def test_failed_rows_are_counted_by_their_errors(job, tmp_path):
    """With the first of them, and the class of all."""
    write_rows(tmp_path / "rows.jsonl", *map(str, range(8)))
    result = job(name="broken")
    assert result.exit_code == Exit.FAILED
    assert result.stderr.count("RequestRefused: no") == 5
    assert "of all failed rows: 8 RequestRefused" in result.stderr


def test_a_budget_is_not_exceeded(job, rows, tmp_path, server):
    """Rows that could exceed it are not begun; the same command with more goes on."""
    result = job("--prompt", "Say {text}", "--budget", "0.055usd", "--concurrency", "4", name="dear")
    assert result.exit_code == Exit.FAILED
    assert 3 <= server.counts.total() <= 5
    assert "stopped: the budget of $0.055 is spent" in result.stderr
    assert "left" in result.stderr
    assert job("--prompt", "Say {text}", "--budget", "1", name="dear").exit_code == Exit.OK
    assert server.counts.total() == 10


def test_a_row_that_cannot_be_sent_does_not_stop_a_job_with_a_budget(job, tmp_path):
    """It fails alone, and costs nothing."""
    write_rows(tmp_path / "rows.jsonl", {"messages": [{"role": "nobody", "content": "a"}]}, "b")
    result = job("--budget", "5usd", "--ordered", name="dear")
    assert result.exit_code == Exit.FAILED
    assert [row["answer"] for row in read_rows(tmp_path / "out.jsonl")] == [None, "answer to b"]


def test_earlier_runs_count_for_the_budget(job, rows, server):
    """It is the job's, not the run's."""
    job("--prompt", "Say {text}", "--budget", "0.055", name="dear")
    asked = server.counts.total()
    job("--prompt", "Say {text}", "--budget", "0.055", name="dear")
    assert server.counts.total() == asked


def test_no_budget_is_kept_for_a_model_without_a_price(job, rows):
    """The job does not begin."""
    result = job("--prompt", "Say {text}", "--budget", "5usd", name="unpriced")
    assert result.exit_code == Exit.USAGE
    assert "the price of `unpriced` is not known" in result.stderr


def test_a_spent_budget_of_the_file_stops_the_job(job, rows, config, server):
    """Rows that were refused for it are not failed: they are asked when there is money again."""
    config.write_text(config.read_text() + "budgets: {day: {model: gpt, usd: 0.03, per: day}}\n")
    result = job("--prompt", "Say {text}", "--concurrency", "1")
    assert result.exit_code == Exit.FAILED
    assert "0 failed" in result.stderr
    assert "stopped: budget `day`" in result.stderr
    config.write_text(config.read_text().replace("usd: 0.03", "usd: 3"))
    assert job("--prompt", "Say {text}").exit_code == Exit.OK
    assert server.counts.total() == 10


def test_a_dry_run_asks_nobody_and_says_what_it_may_cost(job, rows, tmp_path, server):
    """Low, expected and worst, for the rows that are not in the journal; nothing is written."""
    result = job("--prompt", "Say {text}", "--dry-run", "--json", name="dear")
    found = json.loads(result.stdout)
    assert (found["total"], found["asked"], found["output_tokens"], found["is_measured"]) == (10, 10, 10, False)
    assert {name: float(cost) for name, cost in found["cost"].items()} == {"low": 0.11, "expected": 0.13, "worst": 0.26}
    assert server.counts.total() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.yaml", "rows.jsonl"]
    job("--prompt", "Say {text}", name="dear")
    found = json.loads(job("--prompt", "Say {text}", "--dry-run", "--json", name="dear").stdout)
    assert (found["asked"], found["reused"], found["output_tokens"], found["is_measured"]) == (0, 10, 5, True)


def test_a_dry_run_says_what_it_does_not_know(job, rows):
    """A price, or how long an answer may be."""
    assert "`unpriced` has no known price" in job("--prompt", "{text}", "--dry-run", name="unpriced").stdout
    assert "nothing limits the answers of `gpt`" in job("--prompt", "{text}", "--dry-run").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "none.jsonl"}, "there is no such file"),
        ({"source": "rows.txt"}, "the name of the file must end in .jsonl"),
        ({"output": "rows.jsonl"}, "the output would replace the input"),
        ({"output": "old.jsonl"}, "has no journal of an earlier run"),
        ({"source": "rows.csv"}, "has neither a column `messages` nor `prompt` (it has: a, b)"),
        ({"source": "empty.csv"}, "the first line must name the columns"),
        ({"source": "twice.csv"}, "two columns are called `a`"),
        ({"source": "no.parquet"}, "this is no Parquet file"),
        ({"output": "not-a-journal.jsonl"}, "file is not a database"),
    ],
)
def test_a_job_that_cannot_begin_says_why(job, rows, tmp_path, arguments, message):
    """Before anything is asked or written."""
    files = {"rows.txt": "a", "old.jsonl": "mine", "rows.csv": "a,b\n1,2\n", "empty.csv": "", "twice.csv": "a,a\n"}
    files |= {"no.parquet": "PAR", "not-a-journal.jsonl.journal": "x" * 200}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = job(**arguments)
    assert result.exit_code == Exit.USAGE
    assert message in result.stderr
    assert (tmp_path / "old.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "Say it"], "the template names no column"),
        (["--ask", "temprature=0"], "did you mean `temperature`?"),
        (["--deadline", "soon"], "deadline"),
        (["--budget", "much"], "expected US dollars"),
        (["--tag", "nightly"], "expected NAME=VALUE"),
        (["--schema", "no_such_module:Invoice"], "no_such_module"),
    ],
)
def test_wrong_options_are_refused_before_a_row_is_read(job, rows, server, arguments, message):
    """Not as a million failed rows."""
    result = job(*(["--prompt", "{text}"] if "--prompt" not in arguments else []), *arguments)
    assert result.exit_code in (Exit.FAILED, Exit.USAGE)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert server.counts.total() == 0


@pytest.mark.parametrize("most", [2, 1024])
def test_an_ordered_output_is_in_order_however_many_rows_come_early(job, tmp_path, monkeypatch, most):
    """What would take too much memory is written from the journal."""
    monkeypatch.setattr("modelhub.jobs.rows.MAX_EARLY_ROWS", most)
    (tmp_path / "rows.jsonl").write_text('"a"\n{broken\n"b"\n7\n8\n"c"\n', encoding="utf-8")
    assert job("--ordered").exit_code == Exit.FAILED
    written = [(row["row"], row["answer"]) for row in read_rows(tmp_path / "out.jsonl")]
    assert written == [(1, "answer to a"), (2, None), (3, "answer to b"), (4, None), (5, None), (6, "answer to c")]


def test_only_one_job_writes_an_output(job, rows, tmp_path):
    """A second one does not begin while the first runs, whether or not that is writing."""
    job("--prompt", "Say {text}")
    first = Journal(tmp_path / "out.jsonl.journal")
    result = job("--prompt", "Say {text}")
    first.close()
    assert result.exit_code == Exit.USAGE
    assert "another job is writing this output" in result.stderr
    assert job("--prompt", "Say {text}").exit_code == Exit.OK


def test_a_job_that_is_stopped_at_once_keeps_what_was_answered_before(job, rows, config, tmp_path):
    """Its output has every answer of the journal, though the run has not come to them."""
    job("--prompt", "Say {text}")
    options = JobOptions(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", "Say {text}")

    async def run_stopped():
        async with Hub.from_yaml(config) as hub:
            with open_job(hub, "primary", options) as opened:
                opened.stop()
                return await opened.run()

    progress = asyncio.run(run_stopped())
    assert (progress.answered, progress.left) == (10, 0)
    assert len(read_rows(tmp_path / "out.jsonl")) == 10


def test_the_summary_may_be_json(job, rows):
    """For scripts."""
    found = json.loads(job("--prompt", "Say {text}", "--json").stdout)
    assert (found["total"], found["answered"], found["failed"], found["asked"]) == (10, 10, 0, 10)
    assert (found["cost"], found["interrupted"]) == ("0.10", False)


@pytest.fixture(name="started")
def _started(spawn, config, tmp_path):
    """A job in a process of its own, of which six calls of a slow server are under way."""
    server = CountingServer(0.5)
    config.write_text(JOB_FILE.replace("PORT", str(server.port)), encoding="utf-8")
    write_rows(tmp_path / "rows.jsonl", *map(str, range(30)))
    process = spawn("batch", "primary", "rows.jsonl", "-o", "out.jsonl", "--concurrency", "6")
    while server.total() < 6:
        assert process.poll() is None
        time.sleep(0.01)
    yield process, server
    process.close()
    server.close()


def test_ctrl_c_finishes_what_is_under_way(started, tmp_path):
    """The output has what was answered, and the same command goes on."""
    process, server = started
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert server.counts.total() == len(read_rows(tmp_path / "out.jsonl")) == 6
    assert b"-- finishing 6 calls under way; Ctrl-C again cancels them --" in stderr
    assert b"6 answered, 0 failed, 24 left" in stderr


def test_a_second_ctrl_c_cancels_what_is_under_way(started, tmp_path):
    """Nothing is waited for any more."""
    process, _ = started
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if b"finishing" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert b"0 answered, 0 failed, 30 left" in stderr
    assert read_rows(tmp_path / "out.jsonl") == []
