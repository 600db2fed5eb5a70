"""What `mkdocs build` needs beside its plugins: pages of the root, formulas without scripts, docstrings as Markdown."""

from __future__ import annotations

import re
import textwrap
from html import unescape
from pathlib import Path
from typing import Any

from griffe import Class, Extension, Object
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie at the root of the repository, with their links as seen from docs/."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, target in PAGES.items():
            text = text.replace(f"]({other}", f"]({target}")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Turn LaTeX into MathML, which browsers draw without a script."""
    for tag, pattern, display in (("span", r"\\\((.*?)\\\)", "inline"), ("div", r"\\\[(.*?)\\\]", "block")):
        formula = re.compile(rf'<{tag} class="arithmatex">{pattern}</{tag}>', re.DOTALL)
        html = formula.sub(lambda match, display=display: convert(unescape(match[1]), display=display), html)
    return html


def on_post_page(output: str, *, page: Page, **_: Any) -> None:
    """Refuse a page that loads something from elsewhere, and an API page without names."""
    foreign = re.search(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*', output)
    if foreign:
        raise PluginError(f"{page.file.src_uri} loads {foreign[0]}: pages must work without a network")
    if re.match("::: ", page.markdown or "") and output.count("doc-symbol-heading") < 2:
        raise PluginError(f"{page.file.src_uri} shows no name of its module")


class Docstrings(Extension):
    """Read docstrings, whose roles, links, formulas and tables are reStructuredText, as Markdown."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is None:
            return
        text = obj.docstring.value + "\n"
        text = re.sub(r":(?:func|class|meth|attr|data|mod):`~?([^`]+)`", lambda match: _reference(obj, match[1]), text)
        text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
        text = re.sub(
            r"^( *)\.\. math::((?: .*)?\n(?:\n|\1 +.*\n)*)",
            lambda match: textwrap.indent(f"\n$$\n{textwrap.dedent(match[2]).strip()}\n$$\n\n", match[1]),
            text,
            flags=re.MULTILINE,
        )
        text = re.sub(r"`([^`<]+?)\s*<(https?://[^>]+)>`_", r"[\1](\2)", text)
        text = re.sub(r"^( *)=+(?: +=+)+\n(?:.*\n)*?\1=+(?: +=+)+ *\n(?!\1\S)", _table, text, flags=re.MULTILINE)
        text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
        # The type is in the signature: what stands before a first colon here is prose.
        text = re.sub(r"^(Returns:\n +)", r"\1: ", text, flags=re.MULTILINE)
        if isinstance(obj, Class) and any("NamedTuple" in str(base) for base in obj.bases):
            text = re.sub(r"^Args:$", "Attributes:", text, flags=re.MULTILINE)
        obj.docstring.value = text.strip()


def _reference(obj: Object, name: str) -> str:
    """A name in code, linked to its place in the API pages where it has one."""
    try:
        identifier = obj.resolve(name)
    except Exception:  # names of other packages, and of what Griffe cannot resolve
        identifier = name
    return f'<autoref optional identifier="{identifier}"><code>{name}</code></autoref>'


def _table(match: re.Match[str]) -> str:
    """A table between rules of equal signs, whose rows may go on in lines without a first cell."""
    lines = [line[len(match[1]) :] for line in match[0].splitlines()]
    starts = [column.start() for column in re.finditer("=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[a:b].strip().replace("|", r"\|") for a, b in spans]
        if set(line) <= {"=", " "}:
            continue
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    rows.insert(1, ["---"] * len(spans))
    return "\n" + "".join(f"{match[1]}| {' | '.join(row)} |\n" for row in rows) + "\n"
