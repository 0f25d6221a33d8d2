"use strict";
for (const source of document.querySelectorAll("script[data-figure]")) {
  const figure = JSON.parse(source.textContent);
  const place = document.getElementById(source.dataset.figure);
  const config = {
    responsive: true,
    displayModeBar: false,
    displaylogo: false,
    showSendToCloud: false,
    plotlyServerURL: "",
  };
  Plotly.newPlot(place, figure.data, figure.layout, config);
}
