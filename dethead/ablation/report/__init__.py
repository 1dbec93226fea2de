"""The report of an ablation: one page, and the same as Markdown, JSON and CSV."""

from dethead.ablation.report.build import ReportFiles, build_report, write_report

__all__ = ["ReportFiles", "build_report", "write_report"]
