/* Draws the heat maps of a sweep from the JSON in #data. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { colour } = charts;

  // Light enough at both ends for one dark colour of text, in the light and the dark page.
  const SCALE = [[0, "#f7f9fc"], [0.5, "#b9d7ed"], [1, "#56a8dc"]];
  const INK = "#16191d";

  const draw = (element, map) => {
    const side = (title, ticks) => ({
      title: { text: title, standoff: 8 }, tickvals: ticks.map((_, index) => index), ticktext: ticks,
      range: [-0.5, ticks.length - 0.5], fixedrange: true, showgrid: false, zeroline: false, ticks: "",
    });
    const outline = ({ x, y, best }) => ({
      type: "rect", x0: x - 0.46, x1: x + 0.46, y0: y - 0.44, y1: y + 0.44,
      line: { color: INK, width: best ? 3 : 1.5, dash: best ? "solid" : "dot" },
    });
    const narrow = element.clientWidth < 150 * map.centers.length + 130;
    return Plotly.react(element, [{
      type: "heatmap", z: map.mean, text: map.text, customdata: map.hover, xgap: 3, ygap: 3,
      texttemplate: narrow ? "<b>%{z:.3f}</b>" : "%{text}", hovertemplate: "%{customdata}<extra></extra>", hoverongaps: false,
      colorscale: SCALE, textfont: { color: INK, size: 13 }, zmin: data.range[0], zmax: data.range[1],
      colorbar: { thickness: 12, outlinewidth: 0, tickformat: ".3f", nticks: 5 },
    }], charts.layout({
      plot_bgcolor: colour("--panel"),
      margin: { l: 56, r: 8, t: 24, b: 48 },
      xaxis: side("outer centres", map.centers),
      yaxis: side("sigma", map.sigmas),
      shapes: map.marks.map(outline),
    }), charts.config([["toImage"]]));
  };

  charts.start((element) => draw(element, data.maps[Number(element.dataset.index)]), () => ({ width: 640 }));
})();
