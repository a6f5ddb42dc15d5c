"""`densedet show environment`."""

from __future__ import annotations

import json

import pytest
import torch

import densedet
from densedet.tools.main import main


def test_facts_of_a_bug_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEDET_CACHE", "/nowhere/at all")
    monkeypatch.setenv("DENSEDET_PLUGINS", "")
    assert main(["show", "environment", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["densedet"].startswith(densedet.__version__)
    assert torch.__version__.startswith(facts["packages"]["torch"].split("+")[0])
    assert facts["processor"]["torch threads"] == torch.get_num_threads()
    assert facts["processor"]["name"]
    assert 0 < facts["memory GB"]["available"] <= facts["memory GB"]["total"]
    assert facts["devices"][0] == "cpu"
    assert len(facts["devices"]) == 1 + torch.cuda.device_count() + torch.backends.mps.is_available()
    assert facts["plug-ins"] == [f"densedet {densedet.__version__} loaded"]
    assert facts["cache"].startswith("/nowhere/at all, ")
    assert {"DENSEDET_CACHE=/nowhere/at all", "DENSEDET_PLUGINS="} <= set(facts["variables"])
    assert main(["show", "environment"]) == 0
    text = capsys.readouterr().out
    assert f"torch {facts['packages']['torch']}" in text
    assert "\n  DENSEDET_PLUGINS=\n" in text
    assert "None" not in text
