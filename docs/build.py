"""Draw what the pages about dense detectors show anew, and build the site of all pages.

python docs/build.py            # writes docs/pictures, the numbers in docs/how, and build/site/index.html
python docs/build.py --check    # changes no page: says which numbers are no longer true, exit code 1

Needs the extra ``docs`` (``pip install -e '.[docs]'``) and no network; a detector is trained for a minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

import draw_pictures  # noqa: E402 (files of this folder)
import learning  # noqa: E402
import reference  # noqa: E402


def main() -> int:
    """Draw, count, write the reference, and let Sphinx build the site; warnings are errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare the numbers and write no page")
    parser.add_argument(
        "--output", type=Path, default=DOCS.parent / "build" / "site", help="the site's folder"
    )
    arguments = parser.parse_args()
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        sys.exit("docs/build.py: Sphinx is missing: pip install -e '.[docs]'")
    with tempfile.TemporaryDirectory() as folder:
        wrong = draw(learning.train(Path(folder)), write=not arguments.check)
    if arguments.check and wrong:
        sys.exit(
            "docs/build.py: run it without --check, since the pages are out of date\n" + "\n".join(wrong)
        )
    (DOCS / "reference").mkdir(exist_ok=True)
    reference.write(DOCS / "reference")
    folders = [
        "-c",
        str(DOCS),
        "-d",
        str(arguments.output) + ".doctrees",
        str(DOCS.parent),
        str(arguments.output),
    ]
    code = build_main(["-q", "-W", "--keep-going", "-b", "html", *folders])
    if not code:
        print(arguments.output / "index.html")
    return code


def draw(run: Path, *, write: bool) -> list[str]:
    """Draw the pictures of docs/how and count its numbers.

    Args:
        run: a trained run of ``quickstart_retinanet``.
        write: whether pictures and pages are written.

    Returns:
        The numbers that were no longer true.
    """
    drawn = {**learning.pictures(run), **draw_pictures.untrained()}
    texts = learning.numbers(run)
    if write:
        draw_pictures.save(drawn)
    wrong = []
    for page in sorted((DOCS / "how").glob("*.md")):
        text, faults = learning.written(page.read_text(encoding="utf-8"), texts)
        wrong += [f"{page.name}: {fault}" for fault in faults]
        if write and faults:
            page.write_text(text, encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
