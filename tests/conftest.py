"""A browser for the pages that the product writes."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

# The networks under test are tiny, and test processes may share the machine.
torch.set_num_threads(1)

# The page lies in a frame as wide as asked: windows of a browser have a least width.
FRAME = """\
<!DOCTYPE html>
<iframe style="width: {width}px; height: 900px" src="{page}"></iframe>
<pre></pre>
<script>
const frame = document.querySelector("iframe");
frame.onload = async () => {{
  const look = async (window, document) => {{ {script} }};
  document.querySelector("pre").textContent = JSON.stringify(await look(frame.contentWindow, frame.contentDocument));
}};
</script>
"""


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Any]:
    """look(page, script, width=1200): what a script returns that runs beside a page in Chromium, with its `window` and
    `document`. Fails on anything that the browser writes to its console, such as an error or a file not found."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")

    def look(page: Path, script: str, width: int = 1200) -> Any:
        frame = tmp_path / "frame.html"
        frame.write_text(FRAME.format(width=width, page=page.absolute().as_uri(), script=script), encoding="utf-8")
        options = ("headless", "no-sandbox", "disable-gpu", "allow-file-access-from-files", "enable-logging=stderr")
        more = (f"user-data-dir={tmp_path / 'browser'}", "virtual-time-budget=5000", "dump-dom")
        command = (chromium, *(f"--{option}" for option in (*options, *more)), frame.as_uri())
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert [line for line in ended.stderr.splitlines() if "CONSOLE" in line] == []
        found = re.search("<pre>(.+)</pre>", ended.stdout)
        assert found is not None, f"{ended.stdout}\n{ended.stderr}"
        return json.loads(html.unescape(found[1]))

    return look
