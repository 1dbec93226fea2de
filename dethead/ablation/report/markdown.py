"""The report as GitHub Markdown: the same answer and tables, without the pictures."""

from collections.abc import Sequence

from dethead.ablation.report.content import Content
from dethead.ablation.report.tables import Table, markdown_text


def as_markdown(content: Content) -> str:
    """Write the page."""
    plan = content.results.plan
    parts = [f"# {markdown_text(plan.name)}", *_notices(content), *_answer(content)]
    parts += [_section(table) for table in (*content.number_tables, *_costs(content), content.changes)]
    parts += ["## Protocol", _pairs(content.protocol)]
    if content.versions:
        parts += ["## Versions", _pairs(content.versions)]
    return "\n\n".join([*parts, _section(content.runs)]) + "\n"


def _notices(content: Content) -> list[str]:
    lines = [f"**{progress.heading}** {progress.text}"] if (progress := content.progress) else []
    lines += map(markdown_text, content.warnings)
    return [f"> {line}" for line in lines]


def _answer(content: Content) -> list[str]:
    parts = [f"**{markdown_text(content.summary)}**"] if content.summary else []
    lines = [
        f"- **{one.verdict}**: {markdown_text(one.words)}{f' {one.expected}' if one.expected else ''}"
        for one in content.verdicts
    ]
    lines += [f"- failed: {markdown_text(name)}: {markdown_text(why)}" for name, why in content.broken]
    if content.left_out:
        names = markdown_text(", ".join(content.left_out))
        lines.append(f"- Nothing can be said{' yet' if content.results.interim else ''} of {names}.")
    return [*parts, "\n".join(lines)] if lines else parts


def _costs(content: Content) -> list[Table]:
    tables = (content.errors, content.oracles, content.calibration)
    return [table for table in tables if table is not None]


def _section(table: Table) -> str:
    note = f"\n\n{markdown_text(table.note)}" if table.note else ""
    return f"## {table.title}\n\n{table.as_markdown()}{note}"


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {markdown_text(name)}: {markdown_text(text)}" for name, text in rows)
