"""Checkpoints: their bytes changed, their archive rewritten under the right digest, their fields changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import traceback
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import changes
from torch import Tensor, nn

from densedet.core import sealed_file
from densedet.core.errors import CheckpointError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, session
from densedet.core.training.prediction import load as load_predictor
from densedet.core.training.run import Run

SMALL = """
model.backbone.widths=[4,4,4] model.backbone.stem=4
model.neck.stages=[] model.anchors.scales=[0.25,0.5,0.8,1.0]
data.train.count=4 data.val.count=2 data.workers=0 data.cache_gb=0 run.hooks=[checkpoint,metrics]
run.folder=runs train.batch_size=2 train.budget.steps=3 train.evaluations=1 train.device=cpu
""".split()
"""Changes to quickstart_ssd."""

RESUMED = 0.05
"""Share of the checkpoints that a run goes on from, of those that are taken."""


def small_run(folder: Path) -> None:
    """Train three steps of a very small detector into ``folder``, and leave the curves out of its files."""
    session.train(load_recipe("quickstart_ssd", SMALL), folder=folder)
    for name in ("last.pt", "best.pt"):
        state = checkpoint.load(folder / name)
        state["metrics"] = {key: value for key, value in state["metrics"].items() if type(value) is float}
        checkpoint.save(folder / name, state)


def forked(work: Callable[[], None]) -> None:
    """Do work in a process of its own: processes that are forked after a backward pass hang in theirs."""
    pid = os.fork()
    if pid == 0:
        try:
            with open(os.devnull, "w") as quiet, redirect_stdout(quiet), redirect_stderr(quiet):
                work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the work failed")


class CheckpointKind:
    """last.pt and best.pt of a small run. corpus: where it is trained."""

    def __init__(self, corpus: Path) -> None:
        if not (corpus / "run").exists():
            forked(lambda: small_run(corpus / "run"))
        self.contents = [(corpus / "run" / name).read_bytes() for name in ("last.pt", "best.pt")]
        self.states = [checkpoint.load(corpus / "run" / name) for name in ("last.pt", "best.pt")]
        self.recipe = load_recipe("quickstart_ssd", SMALL).values

    def make(self, draw: random.Random, folder: Path) -> None:
        """Write changed.pt, which has to be refused, or signed.pt with the right digest."""
        which = 0 if draw.random() < 0.8 else 1
        kind = draw.random()
        if kind < 0.35:
            content = changes.changed_bytes(self.contents[which], draw, self.contents)
            name = "signed.pt" if content == self.contents[which] else "changed.pt"
            (folder / name).write_bytes(content)
        elif kind < 0.55:
            (folder / "signed.pt").write_bytes(rewritten(self.contents[which], draw))
        else:
            state: Any = dict(self.states[which])
            if draw.random() < 0.2:
                values = changes.changed_tree(self.recipe, draw)
                if draw.random() < 0.3:
                    values = self._elsewhere(draw)
                state["recipe"] = json.dumps(values)
            else:
                for _ in range(draw.choice((1, 1, 2))):
                    state = changed_state(state, draw) if isinstance(state, dict) else state
            try:
                sealed_file.write(folder / "signed.pt", state)
            except (pickle.PicklingError, AttributeError, TypeError, RuntimeError, RecursionError):
                (folder / "changed.pt").write_bytes(b"")

    def _elsewhere(self, draw: random.Random) -> dict[str, Any]:
        """Return the recipe with folders that a stranger has no business with."""
        values = json.loads(json.dumps(self.recipe))
        place = draw.choice(("/tmp/densedet_stranger", "../../../stranger", "~/densedet_stranger"))
        values["data"] |= {"cache_gb": 1.0, "cache_folder": place}
        if draw.random() < 0.5:
            values["run"]["folder"] = place
        return dict(values)

    def use(self, draw: random.Random, folder: Path) -> None:
        """Load it, build its detector, and continue its run."""
        (path,) = folder.glob("*.pt")
        if path.name == "changed.pt":
            try:
                checkpoint.load(path)
            except CheckpointError:
                raise
            raise AssertionError("a changed checkpoint was taken")
        state = checkpoint.load(path)
        recipe = checkpoint.recipe_of(state)
        if draw.random() < 0.3:
            load_predictor(path, device="cpu")
        run = Run(recipe, resume=state, folder=folder / "run")
        assert run.step == state["step"]
        if draw.random() < RESUMED:
            (folder / "run").mkdir(exist_ok=True)
            shutil.copy(path, folder / "run" / "last.pt")
            session.resume(folder / "run", ["train.budget.steps=4", "data.train.count=4", "data.val.count=2"])


# -- archives --------------------


def sealed(content: bytes) -> bytes:
    """Put the digest behind a zip archive that ends with an empty comment."""
    comment = sealed_file.MARK + hashlib.sha256(content).hexdigest().encode()
    return content[:-2] + len(comment).to_bytes(2, "little") + comment


def rewritten(content: bytes, draw: random.Random) -> bytes:
    """Rewrite an archive with changed entries, under the right digest."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    names = list(entries)
    pickled = next(name for name in names if name.endswith("data.pkl"))
    folder = pickled.partition("/")[0]
    kind = draw.randrange(8)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        if kind == 0:
            entries[pickled] = changes.changed_bytes(entries[pickled], draw)
        elif kind == 1:
            entries[pickled] = hostile_pickle(draw)
        elif kind == 2:
            name = draw.choice(names)
            entries[name] = changes.changed_bytes(entries[name], draw)
        elif kind == 3:
            del entries[draw.choice(names)]
        elif kind == 4:
            name = draw.choice(
                (f"{folder}/../../../x", "/tmp/densedet_x", f"{folder}/data/0", f"{folder}/\udc80")
            )
            entries[name.encode("utf-8", "replace").decode()] = b"x" * 64
        for name, data in entries.items():
            archive.writestr(name, data)
        if kind == 5:
            bomb = f"{folder}/data/bomb" if draw.random() < 0.5 else pickled
            archive.writestr(bomb, bytes(30_000_000), zipfile.ZIP_DEFLATED, 1)
        elif kind == 6:
            archive.writestr(pickled, hostile_pickle(draw))
    out = stream.getvalue()
    if kind == 7:
        end = out.rfind(b"PK\5\6")
        at = draw.randrange(out.find(b"PK\1\2"), len(out) - 2)
        changed = changes.changed_bytes(out[at : at + 40], draw)
        out = out[:at] + changed + out[at + len(changed) : max(end + 20, at + len(changed))] + b"\0\0"
    return sealed(out)


class _Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile_pickle(draw: random.Random) -> bytes:
    """Return a pickle that would run code, or take memory or time."""
    return draw.choice(
        (
            pickle.dumps(_Calls(os.system, "touch /tmp/densedet_ran"), 2),
            pickle.dumps(_Calls(exec, "open('ran', 'w')"), 2),
            pickle.dumps(_Calls(bytearray, 1 << 40), 2),
            pickle.dumps(_Calls(torch.zeros, 1 << 40), 2),
            b"\x80\x02" + b"(" * 500_000 + b".",
            b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
            b"\x80\x02" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 40)) + b".",
            b"\x80\x02X\xff\xff\xff\xffx.",
            b"\x80\x02\x8b\xff\xff\xff\x7fx.",
            b"cos\nsystem\n(S'touch ran'\ntR.",
            b"\x80\x02cbuiltins\neval\n.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            b"\x80\x02}q\x00(X\x06\x00\x00\x00formatK\x02X\x08\x00\x00\x00detector}u.",
            b"",
            b".",
        )
    )


# -- fields --------------------


def changed_state(state: Any, draw: random.Random) -> Any:
    """Return a state in which one value, at any depth, is another."""
    if isinstance(state, dict) and state and draw.random() < 0.9:
        copy: Any = type(state)(state)
        key = draw.choice(list(copy))
        kind = draw.random()
        if kind < 0.1:
            del copy[key]
        elif kind < 0.15:
            copy[draw.choice((key + "x" if isinstance(key, str) else 7, 1, "", None, (1, 2), "x" * 300))] = (
                copy[key]
            )
        else:
            copy[key] = changed_state(copy[key], draw)
        return copy
    if isinstance(state, (list, tuple)) and state and draw.random() < 0.7:
        rows = list(state)
        at = draw.randrange(len(rows))
        rows[at : at + 1] = draw.choice(([changed_state(rows[at], draw)], [], [rows[at]] * 2))
        return type(state)(rows)
    if isinstance(state, Tensor) and draw.random() < 0.7:
        return changed_tensor(state, draw)
    if isinstance(state, str) and len(state) > 200 and draw.random() < 0.7:
        return changes.changed_bytes(state.encode(), draw).decode("utf-8", "replace")
    if draw.random() < 0.5:
        return changes.other_value(state, draw, ())
    return draw.choice(odd_values())


def changed_tensor(tensor: Tensor, draw: random.Random) -> Any:
    """Return a tensor of another shape, type, layout or content."""
    flat = tensor.flatten()
    odd: Sequence[Callable[[], Any]] = (
        lambda: tensor.reshape(-1)[:0],
        lambda: flat,
        lambda: tensor.unsqueeze(0),
        lambda: tensor.double(),
        lambda: tensor.half(),
        lambda: tensor.to(torch.int64),
        lambda: tensor.bool(),
        lambda: tensor.to(torch.complex64),
        lambda: tensor.float().fill_(float("nan")) if tensor.numel() else tensor,
        lambda: tensor.clone().fill_(1e30) if tensor.is_floating_point() else tensor + 1,
        lambda: torch.full_like(tensor, -1) if tensor.dtype != torch.uint8 else tensor.flip(0),
        lambda: tensor.float().to_sparse(),
        lambda: tensor.to("meta"),
        lambda: nn.Parameter(tensor.float()),
        lambda: torch.zeros(1).expand(1 << 20, 1 << 20),
        lambda: torch.zeros(()).expand(tensor.shape),
        lambda: torch.zeros(1, dtype=tensor.dtype).expand(1 << 15, 1 << 15),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: flat.tolist()[:50],
        lambda: tensor.float().numpy(),
        lambda: tensor.t() if tensor.dim() == 2 else tensor.flip(0) if tensor.dim() else tensor,
        lambda: torch.empty(0),
        lambda: torch.nested.nested_tensor([flat.float(), flat.float()[:1]]),
    )
    return draw.choice(odd)()


@cache
def odd_values() -> list[Any]:
    """Return values of types that a checkpoint may hold and of those that it may not."""
    shared: Any = []
    for _ in range(40):
        shared = [shared, shared]
    ring: Any = []
    ring.append(ring)
    return [
        *(None, True, -1, 1 << 62, 1 << 70, float("nan"), float("inf"), -1.0, 0.5, "", "x", "\ud800", "a\0b"),
        *(
            [],
            {},
            (),
            (1,),
            {1: 2},
            {"": None},
            {None: 1},
            {(1, 2): 3},
            b"x",
            bytearray(8),
            {1, 2},
            frozenset(),
        ),
        *(
            1j,
            torch.zeros(2),
            torch.tensor(1),
            torch.zeros(0),
            torch.float32,
            torch.device("cpu"),
            torch.Size([2]),
        ),
        *(OrderedDict(a=1), np.zeros(3), np.float64(1), nn.Linear(1, 1), os.system, slice(1), range(3), ...),
        *(
            shared,
            ring,
            "x" * 1_000_000,
            [0] * 50_000,
            {str(i): i for i in range(10_000)},
            "../../stranger",
        ),
    ]
