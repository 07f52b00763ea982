"""docs/add_a_search_strategy.md, followed: its file and its entry make a strategy that searches, resumes and votes."""

import re
import sys
from pathlib import Path
from types import ModuleType

import command_line as cli
import pytest
import tiny_engine as tiny

from atrc_exp.genotype import load, vote
from atrc_exp.models.search.strategies import build

PAGE = Path(__file__).parents[1] / "docs" / "add_a_search_strategy.md"


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the page's strategy, after its two code blocks were put where the page says."""
    file, entry = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    module = ModuleType("atrc_exp.models.search.strategies.annealed")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(file, str(PAGE), "exec"), module.__dict__)
    for name, strategy in eval(f"{{{entry}}}", module.__dict__).items():
        monkeypatch.setitem(build.STRATEGIES, name, strategy)
    return name


def test_the_strategy_of_the_page_searches_resumes_and_votes(tmp_path: Path, followed: str) -> None:
    whole, cut, other = (
        tiny.config(tmp_path / name, strategy=followed, seed_of_run=seed)
        for name, seed in (("whole", 0), ("cut", 0), ("whole", 1))
    )
    for config in (whole, other):
        tiny.run_training(config)
    with pytest.raises(tiny.Killed):
        tiny.run_training(cut, stop_at=7)
    tiny.run_training(cut)
    assert cli.records(tiny.folder(cut), "") == cli.records(tiny.folder(whole), "")
    temperatures = [record["temperature"] for record in cli.records(tiny.folder(whole), "search")]
    assert temperatures == sorted(temperatures, reverse=True) and len(temperatures) == 6
    assert vote([load(tiny.folder(whole)), load(tiny.folder(other))]).details["runs"] == 2
