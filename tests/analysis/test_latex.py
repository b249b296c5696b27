"""The tables compile in a paper's class, if TeX is installed (Debian: texlive-latex-recommended)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from analysis import load
from analysis.report import tables_of
from tests.analysis.factory import record, write_failure, write_sweep
from tests.analysis.test_figures import judged_twice

PAPER = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_tables_compile_in_a_paper(tmp_path: Path) -> None:
    pairs = ("mini_a", "mini_b")
    runs = [record(pair, granularity=part, hybrid=0.8) for pair in pairs for part in ("gate_proj", "mlp", "layer")]
    runs += [record("mini_a", search="auto", sample_seed=seed, identity=str(seed) * 64) for seed in (1, 2)]
    runs += [record("naïve 模型 🙂 α"), record("a\nb$_{c}")]
    sweep = write_sweep(tmp_path / "sweep", [judged_twice(run, 0.9) for run in runs], [record("mini_c")])
    write_failure(sweep, record("mini_c"), "no [gpu] & 100 % of \\memory_full {x} #1 ~ ^")
    tables = tables_of(load(sweep))
    assert {"main", "ablation", "agreement", "search_cost", "stability"} <= {table.name for table in tables}
    (tmp_path / "paper.tex").write_text(PAPER % "\\clearpage\n".join(table.to_latex() for table in tables))
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").is_file()
