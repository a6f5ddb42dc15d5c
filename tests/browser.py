"""A page in headless Chromium: a script acts in it as a person does, and what it reads comes back."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"there is no {NAMES[0]} or {NAMES[2]} on the PATH"
)

READ = """
<script>
(async () => {
  while (!document.documentElement.dataset.ready) await new Promise((resolve) => setTimeout(resolve, 20));
  let read;
  try { read = await (async () => { %s })(); } catch (error) { read = { error: String(error.stack) }; }
  const place = document.createElement("pre");
  place.id = "read-back";
  place.textContent = JSON.stringify(read);
  document.body.append(place);
})();
</script>
"""


def read_back(page: Path, script: str, *, width: int = 1280) -> Any:
    """Open a copy of a page, run the body of an async function in it once it is ready, and return what that
    returns."""
    copy = page.with_name(f"{page.stem}_read.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", READ % script + "</body>"), encoding="utf-8")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000")
    command = [
        str(BROWSER),
        *options,
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},900",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=240, check=False
    )
    found = re.search(r'<pre id="read-back">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, f"the page did not come to an end: {done.stdout[-500:]} {done.stderr[-500:]}"
    read = json.loads(html.unescape(found[1]))
    assert not (isinstance(read, dict) and "error" in read), read["error"]
    return read
