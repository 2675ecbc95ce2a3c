/* Draws a corpus: the shares of its labels by region, and its clips by length. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { colour, literal } = charts;

  // Each far enough from its ink at both ends: one colour of text serves all cells.
  const LIGHT = { scale: [[0, "#f7f9fc"], [0.5, "#b9d7ed"], [1, "#56a8dc"]], ink: "#16191d" };
  const DARK = { scale: [[0, "#1a2028"], [0.5, "#1d4767"], [1, "#1f6fa8"]], ink: "#eef2f6" };
  const TONES = { train: "--accent", val: "--second", test: "--gone" };

  const drawMap = (element) => {
    const map = data.maps[Number(element.dataset.index)];
    const { scale, ink } = matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
    const side = (title) => ({
      title: { text: title, standoff: 6 }, tickvals: data.axis.map((_, index) => index), ticktext: data.axis,
      range: [-0.5, data.axis.length - 0.5], fixedrange: true, showgrid: false, zeroline: false, ticks: "",
    });
    const cells = map.text.map((row, y) => row.map((share, x) => `<b>${literal(share)}</b><br>${literal(data.labels[y][x])}`));
    return Plotly.react(element, [{
      type: "heatmap", z: map.share, text: cells, texttemplate: "%{text}", textfont: { color: ink, size: 12 }, customdata: map.count,
      hovertemplate: "%{text}<br>%{customdata} frames<extra></extra>", xgap: 3, ygap: 3, zmin: 0, zmax: data.top || 1,
      colorscale: scale, showscale: false,
    }], charts.layout({
      margin: { l: 58, r: 4, t: 24, b: 46 }, xaxis: side("valence"), yaxis: side("arousal"),
    }), charts.config([["toImage"]]));
  };

  const drawLengths = (element) => {
    const { edges_s: edges, clips } = data.lengths;
    const inMinutes = edges[edges.length - 1] > 180;
    const unit = inMinutes ? 60 : 1;
    const middle = edges.slice(1).map((edge, bar) => (edge + edges[bar]) / 2 / unit);
    return Plotly.react(element, Object.entries(clips).map(([split, counts]) => ({
      type: "bar", name: split, x: middle, y: counts, width: (edges[1] - edges[0]) / unit, marker: { color: colour(TONES[split]), line: { color: colour("--paper"), width: 1 } },
      customdata: counts.map((_, bar) => `${(edges[bar] / unit).toFixed(1)} to ${(edges[bar + 1] / unit).toFixed(1)}`),
      hovertemplate: `${split}, %{customdata} ${inMinutes ? "min" : "s"}: %{y:,} clips<extra></extra>`,
    })), charts.layout({
      barmode: "stack", margin: { l: 46, r: 8, t: 28, b: 42 }, showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal", itemclick: false, itemdoubleclick: false },
      xaxis: charts.axis({ title: { text: `length (${inMinutes ? "min" : "s"})`, standoff: 6 }, fixedrange: true, zeroline: false, rangemode: "tozero" }),
      yaxis: charts.axis({ title: { text: "clips", standoff: 6 }, fixedrange: true, rangemode: "tozero", tickformat: "," }),
    }), charts.config([["toImage"]]));
  };

  const isMap = (element) => element.classList.contains("grid");
  charts.start((element) => (isMap(element) ? drawMap : drawLengths)(element), (element) => ({ width: isMap(element) ? 330 : 690 }));
})();
