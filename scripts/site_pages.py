"""A hook of mkdocs.yml: pages of the site that lie outside of docs/, and links that are right here and there."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {  # file in the repository → page of the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "results/README.md": "results.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files, config):
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links between documents become links between pages; those to code, which is no part of the site, become text."""
    source = {page: source for source, page in ELSEWHERE.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(match):
        image, text, target = match.groups()
        path, hash_mark, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = ELSEWHERE.get(file, file.removeprefix("docs/"))
        if file not in ELSEWHERE and not file.startswith("docs/"):
            if not (ROOT / file).exists():
                return match[0]  # a broken link stays one, for the strict build to name
            return text
        return f"{image}[{text}]({there}{hash_mark}{anchor})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)  # code stays as it is
    return "".join(part if at % 2 else LINK.sub(moved, part) for at, part in enumerate(parts))
