"""One self-contained HTML page that shows a customer what was measured, learned and chosen."""

from latloop.report.page import write_report

__all__ = ["write_report"]
