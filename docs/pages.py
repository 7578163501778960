"""Hooks of mkdocs.yml: files outside docs/ that pages link to, a notebook among them, become pages of the site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()[^)#:\s]+")
LANGUAGES = {".py": "python", ".yaml": "yaml"}

sources: dict[str, str] = {}  # page of a file outside docs/ -> the file, below the repository's folder


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ that a page links to."""
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    while waiting:
        for target in links(*waiting.pop()).values():
            uri = uri_of(target)
            if not target.startswith("docs/") and uri not in sources:
                sources[uri] = target
                text = as_page(REPOSITORY / target)
                files.append(File.generated(config, uri, content=text))
                waiting.append((target, text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    for link, target in links(sources.get(here, f"docs/{here}"), markdown).items():
        markdown = markdown.replace(f"]({link}", f"]({relpath(uri_of(target), dirname(here) or '.')}")
    return markdown


def links(source: str, markdown: str) -> dict[str, str]:
    """Return the links to files of the repository that a page has, and the files.

    Args:
        source: file of the page, below the repository's folder.
        markdown: its text.
    """
    found = {link: normpath(f"{dirname(source) or '.'}/{link}") for link in LINK.findall(markdown)}
    return {link: target for link, target in found.items() if (REPOSITORY / target).is_file()}


def uri_of(target: str) -> str:
    """Return where a file of the repository lies on the site."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"repository/{target}" if target.endswith(".md") else f"repository/{target}.md"


def as_page(path: Path) -> str:
    """Return a file as Markdown."""
    text = path.read_text()
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return "\n\n".join(as_block(cell) for cell in json.loads(text)["cells"])
    return f"# {path.relative_to(REPOSITORY).as_posix()}\n\n{fenced(text, LANGUAGES.get(path.suffix, 'text'))}"


def as_block(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook as Markdown."""
    text = "".join(cell["source"])
    return fenced(text, "python") if cell["cell_type"] == "code" else text


def fenced(text: str, language: str) -> str:
    """Return code as a block."""
    return f"````{language}\n{text.rstrip()}\n````\n"
