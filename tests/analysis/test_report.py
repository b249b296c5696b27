from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from analysis import load
from analysis.report import report, report_folder, tables_of
from analysis.tables.table import Table
from tests.analysis.factory import name_of, record, write_failure, write_run, write_sweep

FIGURES_OF_A_SWEEP = ["units_found", "trade_off", "cost", "search_traces"]
FIGURES_OF_A_RUN = ["units_found", "search_traces"]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_sweep_is_written_and_printed(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path / "miniature", [record("mini_a"), record("mini_b")], [record("mini_c")])
    write_failure(sweep, record("mini_c"), "no [gpu] & 100 % full")
    paths = report([sweep], console)
    names = [
        f"{name}.{suffix}"
        for name in ("main", "paper", "comparisons", "controls", "over_refusal", "utility", "search_cost")
        for suffix in ("md", "csv", "tex")
    ]
    names += [f"{name}.{suffix}" for name in FIGURES_OF_A_SWEEP for suffix in ("png", "svg")]
    names += ["report.html"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (sweep / "report").iterdir()) == sorted(names)
    text = printed(console)
    assert "95.0 [91, 99]" in text
    assert "[1] mini_c: search: no [gpu] & 100 % full" in text
    *shown, where, page = text.splitlines()
    assert max(map(len, shown)) <= 100
    tables = "main, paper, comparisons, controls, over_refusal, utility, search_cost"
    assert where == f"written to {sweep / 'report'}: {', '.join([tables, *FIGURES_OF_A_SWEEP])}"
    assert page == f"all in one page: {sweep / 'report' / 'report.html'}"

    latex = (sweep / "report" / "main.tex").read_text()
    assert r"mini\_a $\dagger$ &" in latex
    assert r"no [gpu] \& 100 \% full" in latex
    assert r"0.0 $\rightarrow$ 0.0" in latex
    assert r"\toprule" in latex

    markdown = (sweep / "report" / "main.md").read_text()
    assert "95.0 [91, 99] |" in markdown
    assert "- [1] mini_c" in markdown

    numbers = pd.read_csv(sweep / "report" / "main.csv")
    assert list(numbers["row"]) == ["run", "run", "run", "mean", "paper"]
    assert numbers["hybrid_dsr"][0] == 0.95
    assert numbers["p_value"][0] == 1e-9
    assert numbers["reason"][2] == "search: no [gpu] & 100 % full"


def test_reporting_again_replaces_the_files(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path, [record("a")], [record("b")])
    report([sweep], console)
    write_run(sweep, record("b", hybrid=0.4))
    paths = report([sweep], console)
    assert sorted(paths) == sorted((sweep / "report").iterdir())
    assert "40.0 [36, 44]" in paths[0].read_text()


def test_a_report_of_other_runs_leaves_none_of_the_earlier_tables(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("a", granularity="layer")])
    report([sweep], console)
    (sweep / "report" / "mine.md").write_text("notes")
    paths = report([sweep], console, only=[sweep / name_of(record("a"))])
    assert {path.stem for path in paths} == {
        "main",
        "comparisons",
        "controls",
        "over_refusal",
        "utility",
        *FIGURES_OF_A_RUN,
        "report",
    }
    assert set((sweep / "report").iterdir()) == {*paths, sweep / "report" / "mine.md"}


def test_an_ablation_is_made_where_granularities_vary(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("a", granularity="layer")])
    names = {path.stem for path in report([sweep], console)}
    tables = {"main", "paper", "comparisons", "controls", "over_refusal", "utility", "ablation_pairs", "search_cost"}
    assert names == {*tables, *FIGURES_OF_A_SWEEP, "report"}


def test_a_single_run_is_printed_upright(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("b")])
    paths = report([sweep / name_of(record("a"))], console)
    names = [
        f"{name}.{suffix}"
        for name in ("main", "comparisons", "controls", "over_refusal", "utility")
        for suffix in ("md", "csv", "tex")
    ]
    names += [f"{name}.{suffix}" for name in FIGURES_OF_A_RUN for suffix in ("png", "svg")]
    names.append("report.html")
    assert [path.name for path in paths] == names
    lines = {line.split("  ")[0]: line for line in printed(console).splitlines()}
    assert "95.0 [91, 99]" in lines["DSR hybrid (%)"]
    assert "+14.41" in lines["gain (points)"]
    assert "layers.0.mlp layers.1.mlp" in lines["units"]


def test_columns_that_do_not_fit_go_to_further_panels_with_the_labels() -> None:
    display = pd.DataFrame({"pair": ["a"], "first number": ["1" * 20], "second number": ["2" * 20]})
    console = Console(file=io.StringIO(), width=40)
    Table("t", "T", "", display, display).print(console)
    lines = [line.split() for line in printed(console).splitlines()]
    assert ["a", "1" * 20] in lines
    assert ["a", "2" * 20] in lines


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50 % of a_b & c", r"50 \% of a\_b \& c"),
        ("{x} ~ ^ # $", r"\{x\} \textasciitilde{} \textasciicircum{} \# \$"),
        ("a\\b", r"a\textbackslash{}b"),
        ("≈1.69 – ×2 <3|4", r"$\approx$1.69 -- $\times$2 \textless{}3\textbar{}4"),
    ],
)
def test_latex_is_escaped(text: str, latex: str) -> None:
    table = Table("t", "T", text, pd.DataFrame({"pair": [text]}), pd.DataFrame())
    assert f"{latex} \\\\" in table.to_latex()
    assert f"\\caption{{T. {latex}" in table.to_latex()


def test_a_wide_latex_heading_is_broken_between_words() -> None:
    display = pd.DataFrame({"pair": ["mini-a"], "parameters changed (%)": ["1.25"], "gain": ["-0.5"]})
    latex = Table("t", "T", "", display, display).to_latex()
    stacked = r"\begin{tabular}[b]{@{}r@{}}parameters \\ changed \\ (\%)\end{tabular}"
    assert f"\npair & {stacked} & gain \\\\\n" in latex
    assert "\nmini-a & 1.25 & $-$0.5 \\\\\n" in latex


def test_columns_that_no_page_holds_go_to_further_latex_floats_with_the_labels() -> None:
    display = pd.DataFrame({"pair": ["a"]} | {f"n{i}": [str(i) * 30] for i in range(6)})
    latex = Table("t", "T", "Caption.", display, display, notes=["the note"]).to_latex()
    first, second = latex.split(r"\end{table*}")[:2]
    assert "n2 &" not in second
    assert "n3 &" not in first
    assert f"a & {'3' * 30} & {'4' * 30} & {'5' * 30} " in second
    assert latex.count(r"\caption") == latex.count(r"\label") == latex.count("the note") == 1
    assert "T. Continued." in second


def test_a_title_that_asks_ends_with_its_question_mark() -> None:
    display = pd.DataFrame({"pair": ["a"]})
    assert r"\caption{The same set? 2 draws.}" in Table("t", "The same set?", "2 draws.", display, display).to_latex()


def test_no_table_has_a_character_that_latex_lacks(tmp_path: Path) -> None:
    draws = [record("a", identity=str(seed) * 64, sample_seed=seed) for seed in (1, 2)]
    several = write_sweep(tmp_path / "several", [*draws, record("a", granularity="layer", search="auto")])
    tables = [*tables_of(load([write_sweep(tmp_path / "single", [record("a")])])), *tables_of(load([several]))]
    assert {"main", "utility", "ablation_pairs", "search_cost", "stability"} <= {table.name for table in tables}
    assert all(table.to_latex().isascii() for table in tables)


def test_latex_rules_stand_on_their_own_lines() -> None:
    display = pd.DataFrame({"pair": ["a", "mean"]})
    latex = Table("t", "T", "", display, display, rules=[1]).to_latex()
    assert "a \\\\\n\\midrule\nmean \\\\" in latex


def test_markdown_keeps_marks_literal() -> None:
    display = pd.DataFrame({"pair": ["a|b"], "gain": ["+1.0*"]})
    markdown = Table("t", "T", "", display, display).to_markdown()
    assert r"a\|b" in markdown
    assert r"+1.0\*" in markdown


TOY = """
import pandas as pd
from analysis.measures import runs_of
from analysis.registry import TABLES, TableMaker, always
from analysis.tables.table import Table

def toy(frame):
    display = runs_of(frame)[["pair"]]
    return Table("toy", "A toy table", "Only pairs.", display, display)

TABLES.register("toy", TableMaker(1, always, toy))
"""


def dapa_report(*folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "dapa_exp", "report", *map(str, folders)]
    return subprocess.run(
        words, capture_output=True, env={**os.environ, **environment}, check=False, encoding="latin-1"
    )


def test_a_table_is_one_file(tmp_path: Path) -> None:
    plugins = tmp_path / "mine"
    plugins.mkdir()
    (plugins / "toy.py").write_text(TOY)
    sweep = write_sweep(tmp_path / "sweep", [record("a")])
    answer = dapa_report(sweep, DAPA_PLUGINS=str(plugins))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("A toy table")
    assert (sweep / "report" / "toy.csv").read_text() == "pair\na\n"


def test_a_latin_1_terminal_gets_look_alikes(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("b", granularity="layer")])
    answer = dapa_report(sweep, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert answer.returncode == 0, answer.stderr
    assert "P(DSR>=bar)" in answer.stdout
    assert "0.0 -> 0.0" in answer.stdout
    assert "P(DSR≥bar)" in (sweep / "report" / "main.md").read_text(encoding="utf-8")


def test_a_report_of_two_sweeps_leaves_that_of_the_first_alone(tmp_path: Path, console: Console) -> None:
    first, second = (write_sweep(tmp_path / name, [record(pair)]) for name, pair in (("first", "a"), ("second", "b")))
    report([first], console)
    alone = (first / "report" / "main.csv").read_text()
    paths = report([first, second], console)
    assert {path.parent for path in paths} == {first / "report-with-second"}
    assert f"written to {first / 'report-with-second'}" in printed(console)
    assert (first / "report" / "main.csv").read_text() == alone
    report([first], console)
    assert (first / "report-with-second" / "main.csv").is_file()


def test_a_report_of_very_many_folders_has_a_name_that_a_disk_takes(tmp_path: Path) -> None:
    folders = [tmp_path / f"{'long' * 10}-{i}" for i in range(20)]
    assert len(report_folder(folders).name) < 60
    assert report_folder(folders) != report_folder(folders[:-1])


def test_a_folder_given_twice_is_reported_once(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path / "sweep", [record("a")])
    assert {path.parent for path in report([sweep, sweep], console)} == {sweep / "report"}


def test_two_processes_that_write_the_same_figure_do_not_collide(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from matplotlib.figure import Figure; from analysis.drawing import save\n"
        f"for _ in range(5): save(Figure(figsize=(2, 2)), Path({str(tmp_path)!r}), 'figure')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in both] == [("", 0), ("", 0)]
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "figure.svg"}


def test_the_same_records_give_the_same_bytes(tmp_path: Path, console: Console) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("b")])
    first = {path: path.read_bytes() for path in report([sweep], console, parquet=True)}
    assert {path.suffix for path in first} == {".md", ".csv", ".tex", ".png", ".svg", ".parquet", ".html"}
    shutil.rmtree(sweep / "report")
    assert {path: path.read_bytes() for path in report([sweep], console, parquet=True)} == first
