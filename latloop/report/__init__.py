"""One self-contained HTML page that shows a customer what was measured, learned and chosen."""

from latloop.report.page import render_report, write_report
from latloop.report.plot import MissingPlotlyError

__all__ = ["MissingPlotlyError", "render_report", "write_report"]
